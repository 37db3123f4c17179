#!/bin/sh
# Run once by the entry point of the PostgreSQL image, on an empty volume: for each service a role and a database of its
# own, which no other role may enter. psql reads the passwords itself, so that they stand on no command line.
for room in registry repository gateway audit; do
    ROOM="$room" psql --no-psqlrc --set ON_ERROR_STOP=1 --set room="$room" --username "$POSTGRES_USER" --dbname postgres <<'SQL' || exit 1
\set password `cat "/run/secrets/${ROOM}_password"`
CREATE ROLE :"room" LOGIN PASSWORD :'password';
CREATE DATABASE :"room" OWNER :"room" TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE :"room" FROM PUBLIC;
SQL
done
