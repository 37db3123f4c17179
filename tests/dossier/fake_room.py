"""A room of the smallest kind, to try the supervisor with: it says who it is on its socket and does what it is told."""

import gc
import os
import signal
import socket
import sys
import threading
import time


def _serve(sock, name, started, stop):
    sock.setblocking(True)
    sock.settimeout(0.1)
    started()
    while not stop.is_set():
        try:
            connection, _ = sock.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(2)
            order = connection.recv(100).strip()
            if order == b"crash":
                os._exit(3)
            if order == b"frozen":
                name = str(gc.get_freeze_count())
            connection.sendall(f"{name} {os.getpid()}\n".encode())


def worker(sockets, started, stop):
    _serve(sockets["soap"], "worker", started, stop)


def stubborn(sockets, started, stop):
    """Never ends by itself."""
    started()
    while True:
        time.sleep(1)


def lingering(sockets, started, stop):
    """Takes nothing more once it is told to stop, and does not come to an end."""
    started()
    stop.wait()
    for one in sockets.values():
        one.close()
    time.sleep(60)


def broken(sockets, started, stop):
    raise RuntimeError("the database of P1^^^&1.2.3&ISO is gone")


def unfit(sockets, started, stop):
    from dossier.settings import SettingsError

    raise SettingsError(["registry.database_url: no such database"])


def silent(sockets, started, stop):
    """Runs but is never ready."""
    stop.wait()


def main():
    """A supervisor of its own in a process of its own: argument 1 the target, 2 the file descriptor of a socket.

    3 is how long it drains, 4 the file descriptor of a socket for a worker that ends after the target.
    """
    from dossier.supervisor import ChildPlan, Supervisor

    sock = socket.socket(fileno=int(sys.argv[2]))
    plan = ChildPlan("fake-1", "fake", f"tests.dossier.fake_room:{sys.argv[1]}", {"soap": sock})
    drain_s = float(sys.argv[3]) if len(sys.argv) > 3 else 10
    plans = [plan]
    if len(sys.argv) > 4:
        behind = socket.socket(fileno=int(sys.argv[4]))
        plans.append(ChildPlan("fake-2", "fake", "tests.dossier.fake_room:worker", {"soap": behind}, stop_order=1))
    supervisor = Supervisor(plans, on_ready=lambda: print("ready", flush=True), drain_s=drain_s, start_s=2)
    threading.excepthook = sys.excepthook
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
