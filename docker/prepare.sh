#!/bin/sh
# Makes what compose.yaml mounts and is not there yet: certificates (certs/) and secrets (secrets/), beside this file.
#
#   ./prepare.sh [HOST...]     more names or addresses under which others reach this machine
#
# What is there is never written over: run it again after you removed a file to have that one made anew. The folders are
# closed to other users of this machine; the files themselves are readable, since the containers run under other ids.
# DOSSIER is the command that makes certificates and keys; default: the image, without a network.
set -eu
cd "$(dirname "$0")"
umask 077

dossier() {
    if [ -n "${DOSSIER:-}" ]; then
        $DOSSIER "$@"
    else
        docker run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
            --user "$(id -u):$(id -g)" --volume "$PWD:/here" --workdir /here dossier-xds:0.1.0 "$@"
    fi
}

mkdir -p certs secrets
chmod 700 certs secrets

if [ ! -e certs/ca.pem ]; then
    for host; do
        shift
        set -- "$@" --host "$host"
    done
    dossier certs --out certs --days 825 --server registry --server repository --server gateway --server audit \
        --server s3 --client operator "$@" >/dev/null
    chmod 444 certs/*.pem certs/*.key certs/ca.crl
    chmod 400 certs/ca.key
fi

if [ ! -e certs/partners.pem ]; then
    cp certs/ca.pem certs/partners.pem    # whom the gateway trusts; the authorities of other communities go behind it
    chmod 644 certs/partners.pem
fi

secret() { # NAME: a file with 256 random bits as text
    if [ ! -e "secrets/$1" ]; then
        od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"secrets/$1"
        chmod 444 "secrets/$1"
    fi
}

derived() { # NAME TEXT: a file that holds a secret in another form
    rm -f "secrets/$1"
    printf '%s\n' "$2" >"secrets/$1"
    chmod 444 "secrets/$1"
}

secret postgres_password
for room in registry repository gateway audit; do
    secret "${room}_password"
    derived "${room}_database_url" "postgresql+psycopg://$room:$(cat "secrets/${room}_password")@db:5432/$room"
done
secret s3_secret_key
derived s3.json "{\"identities\": [{\"name\": \"dossier\", \"credentials\": [{\"accessKey\": \"dossier\", \
\"secretKey\": \"$(cat secrets/s3_secret_key)\"}], \"actions\": [\"Read\", \"Write\", \"List\", \"Tagging\"]}]}"
if [ ! -e secrets/store_keys ]; then
    dossier store keys new secrets/store_keys
    chmod 644 secrets/store_keys    # a new key is a line at its end
    echo "secrets/store_keys opens every document: keep a copy of it apart from every backup of the data"
fi
if [ ! -e secrets/audit_checkpoint_key ]; then
    dossier audit key --new secrets/audit_checkpoint_key >certs/audit_public_key.pem
    chmod 444 secrets/audit_checkpoint_key certs/audit_public_key.pem
    echo "certs/audit_public_key.pem shows that the audit log is whole: keep it where the masters of this machine cannot change it"
fi
echo "certs/ and secrets/ are complete"
