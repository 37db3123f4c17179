"""A container made of namespaces alone, for a machine without an engine: ``python container.py SPEC`` becomes its process.

What an engine would give it, as far as a process can notice: a root of its own that is read-only, with the host's
programs and libraries in it; tmpfs and volumes where the compose file has them, secrets and configs read-only; the
user id of the file, no capabilities, no new privileges; the host names of the others. The caller enters the network
first. ``python container.py network`` is that network: it lasts until its standard input ends.

Standard library only, and no import of ours: it runs as root before it gives that up.
"""

import array
import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import sys
from pathlib import Path

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
FLAGS = {"rw": 0, "ro": MS_RDONLY, "nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def main():
    if sys.argv[1] == "network":
        network()
    else:
        become(json.loads(Path(sys.argv[1]).read_text()))


def network():
    with socket.socket() as sock:
        request = array.array("b", struct.pack("16sh", b"lo", 0) + bytes(14))
        fcntl.ioctl(sock, SIOCGIFFLAGS, request)
        flags = struct.unpack_from("h", request, 16)[0]
        struct.pack_into("h", request, 16, flags | IFF_UP)
        fcntl.ioctl(sock, SIOCSIFFLAGS, request)
    print("up", flush=True)
    sys.stdin.read()


def become(spec):
    root = Path(spec["root"])
    tmpfs(root, "mode=755")
    for name in ("bin", "sbin", "lib", "lib64"):
        host = Path("/", name)
        if host.is_symlink():
            (root / name).symlink_to(host.readlink())
        elif host.is_dir():
            bind(str(host), root / name, read_only=True)
    for target, options in spec["tmpfs"]:
        tmpfs(root / target.lstrip("/"), options)
    for path in spec["programs"]:  # after the tmpfs: the interpreter of the tests may lie in /tmp
        bind(path, root / path.lstrip("/"), read_only=True)
    devices(root)
    etc(root, spec)
    for source, target, read_only in spec["binds"]:
        bind(source, root / target.lstrip("/"), read_only=read_only)
    (root / spec["cwd"].lstrip("/")).mkdir(parents=True, exist_ok=True)
    if spec["read_only"]:
        mount("", root, "", MS_REMOUNT | MS_RDONLY)
    socket.sethostname(spec["hostname"])
    os.chroot(root)
    os.chdir(spec["cwd"])
    drop = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--pdeathsig", "KILL"]
    who = ["--reuid", str(spec["uid"]), "--regid", str(spec["gid"]), "--clear-groups"]
    os.execve("/usr/bin/setpriv", ["setpriv", *who, *drop, "--", *spec["command"]], spec["environment"])


def mount(source, target, kind, flags, options=""):
    result = LIBC.mount(*(str(one).encode() for one in (source, target, kind)), flags, options.encode())
    if result:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def tmpfs(target, words):
    """With the options of a compose file, of which the kernel takes some as flags."""
    flags, options = 0, []
    for word in words.split(","):
        flags |= FLAGS.get(word, 0)
        options += [] if word in FLAGS else [word]
    target.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", target, "tmpfs", flags, ",".join(options))


def bind(source, target, *, read_only):
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def devices(root):
    for name in ("null", "zero", "full", "random", "urandom"):
        bind(f"/dev/{name}", root / "dev" / name, read_only=False)
    (root / "dev" / "fd").symlink_to("/proc/self/fd")
    tmpfs(root / "dev" / "shm", "mode=1777")
    bind("/proc", root / "proc", read_only=False)


def etc(root, spec):
    folder = root / "etc"
    folder.mkdir()
    for name in ("ld.so.cache", "nsswitch.conf"):
        if Path("/etc", name).is_file():
            shutil.copy(f"/etc/{name}", folder / name)
    users = {"root": 0, "postgres": 999, "seaweed": 1000, "dossier": 10001}
    (folder / "passwd").write_text("".join(f"{n}:x:{i}:{i}::/nonexistent:/bin/sh\n" for n, i in users.items()))
    (folder / "group").write_text("".join(f"{n}:x:{i}:\n" for n, i in users.items()))
    (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(spec['hosts'])}\n")


if __name__ == "__main__":
    main()
