"""``dossier feed`` against a scripted peer: what is sent, what an answer means, a file that goes on where it stopped."""

import socket
import threading

import pytest

from ihe.hl7v2 import parse_feed

HEADING = "patient,family,given,birth,sex\n"


class Peer:
    """Answers each message with the next code of ``answers`` (the last for ever); ``None`` closes the connection."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.got = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"mllp://127.0.0.1:{self._sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self):
        self._sock.close()
        self._thread.join(5)

    def _run(self):
        self._sock.settimeout(0.2)
        while self._sock.fileno() >= 0:
            try:
                connection, _ = self._sock.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with connection:
                self._talk(connection)

    def _talk(self, connection):
        data = b""
        while block := connection.recv(4096):
            data += block
            while b"\x1c\r" in data:
                message, _, data = data.partition(b"\x1c\r")
                message = message.removeprefix(b"\x0b")
                code = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if code is None:
                    return
                self.got.append(message)
                control_id = message.split(b"|")[9].decode()
                answer = f"MSH|^~\\&|R|D|DOSSIER|COMMANDLINE|20260101||ACK^A04|1|P|2.3.1\rMSA|{code}|{control_id}|why\r"
                connection.sendall(b"\x0b" + answer.encode() + b"\x1c\r")


@pytest.fixture
def peer():
    peers = []

    def make(*answers):
        peers.append(Peer(*answers))
        return peers[-1]

    yield make
    for one in peers:
        one.close()


def test_one_patient(run_command, peer):
    registry = peer("AA")
    status, out, _err = run_command(
        "feed", "--patient", "P|1^^^&1.2.3&ISO".replace("|", "\\F\\"), "--family", "O^Hara", "--birth", "1958-07-04",
        "--sex", "f", "--feed-url", registry.url,
    )  # fmt: skip
    assert (status, out) == (0, "1 fed\n")
    message = parse_feed(registry.got[0])
    assert message.header.event == "A04"
    assert (message.identifiers[0].id, message.identifiers[0].universal_id) == ("P|1", "1.2.3")
    assert (message.demographics.family, message.demographics.birth, message.demographics.sex) == (
        "O^Hara",
        "19580704",
        "F",
    )


@pytest.mark.parametrize("code", ["AE", "AR"])
def test_a_refusal_is_one_line_and_1(run_command, peer, code):
    status, out, err = run_command("feed", "--patient", "P1^^^&1.2.3&ISO", "--feed-url", peer(code).url)
    assert (status, out) == (1, "")
    assert err == f"dossier: the patient was refused by the registry: {code} (why)\n"


def test_a_file_goes_on_where_it_stopped(run_command, peer, tmp_path):
    path = tmp_path / "patients.csv"
    rows = [f"P{n}^^^&1.2.3&ISO,Family{n},Given,1990-01-0{n},F\n" for n in range(1, 6)]
    path.write_text(HEADING + "".join(rows), encoding="utf-8")
    broken = peer("AA", "AA", None)
    status, _out, err = run_command("feed", "--file", str(path), "--feed-url", broken.url)
    assert status == 1
    assert "Traceback" not in err
    assert len(broken.got) == 2
    whole = peer("AA")
    status, out, _err = run_command("feed", "--file", str(path), "--feed-url", whole.url)
    assert (status, out) == (0, "3 fed, 2 already done\n")
    assert [parse_feed(m).identifiers[0].id for m in whole.got] == ["P3", "P4", "P5"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_changed_where_it_was_fed_is_not_gone_on_with(run_command, peer, tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text(HEADING + "P1^^^&1.2.3&ISO,,,,\nP2^^^&1.2.3&ISO,,,,\n")
    run_command("feed", "--file", str(path), "--feed-url", peer("AA", None).url)
    path.write_text(HEADING + "P3^^^&1.2.3&ISO,,,,\n")
    other = peer("AA")
    status, _out, err = run_command("feed", "--file", str(path), "--feed-url", other.url)
    assert status == 2
    assert "remove patients.csv.progress to begin anew" in err
    assert other.got == []


def test_every_fault_of_a_file_is_told_before_anything_is_sent(run_command, peer, tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("\ufeff" + HEADING + "P1^^^&1.2.3&ISO,,,,\nwrong,,,,\nP2^^^&1.2.3&ISO,,,,X\n", encoding="utf-8")
    registry = peer("AA")
    status, _out, err = run_command("feed", "--file", str(path), "--feed-url", registry.url)
    assert status == 2
    assert [line.partition(": line ")[2][:1] for line in err.splitlines()] == ["3", "4"]
    assert registry.got == []


def test_a_file_without_heading_or_in_another_encoding_is_refused(run_command, peer, tmp_path):
    path = tmp_path / "patients.csv"
    for content, reason in ((b"P1^^^&1.2.3&ISO\n", "line 1 should name the columns"), (b"patient\nP\xe91", "UTF-8")):
        path.write_bytes(content)
        status, _out, err = run_command("feed", "--file", str(path), "--feed-url", peer("AA").url)
        assert status == 2
        assert reason in err


def test_nothing_is_sent_where_the_progress_cannot_be_kept(run_command, peer, tmp_path):
    """As in a folder without room or right: the feed could not go on after a break."""
    one = peer("AA")
    file = tmp_path / "patients.csv"
    file.write_text(HEADING + "P1^^^&1.2.3&ISO,Muster,Anna,1970-01-31,F\n")
    (tmp_path / "patients.csv.progress.new").mkdir()
    status, out, err = run_command("feed", "--file", str(file), "--feed-url", one.url)
    assert (status, out, one.got) == (2, "", [])
    assert err.startswith(f"dossier: patients.csv: {file}.progress: cannot be written: ")
    (tmp_path / "patients.csv.progress.new").rmdir()
    assert run_command("feed", "--file", str(file), "--feed-url", one.url)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]
