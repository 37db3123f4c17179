"""The crash protocol: answers lost, registries away, disks full, sources that send again, deaths at every step."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from repository import registration, sweep
from repository.store.protocol import StoreUnavailable
from tests.builders import CONTENT, submission, with_identifier, with_slot
from tests.repository.doomed import STEPS, doomed
from tests.repository.stand import (
    Act,
    ScriptedRegistry,
    joined,
    provide,
    served,
    stand,
    unique_ids,
    unknown_patient,
)

ROOT = Path(__file__).parents[2]
LARGE = os.urandom(2_500_000)
IN_PARTS = os.urandom(6_000_000)
SHA1 = hashlib.sha1(CONTENT + b"0").hexdigest()
SEND_AGAIN = ("XDSRegistryNotAvailable", "outcome unknown, send the same submission again")
WINDOW_S = 30


def documents(objects, data=None):
    return {o.id: CONTENT + b"%d" % n if data is None else data for n, o in enumerate(objects.objects[1::2])}


@pytest.fixture
def house(tmp_path):
    with stand(tmp_path) as running:
        yield running


# ---------------------------------------------------------------------------------------------- retries


def test_an_identical_retry_is_answered_as_the_first_was(house):
    objects = submission(entries=2)
    assert [house.provide(objects).status for _ in range(3)] == ["Success"] * 3
    assert len(house.registry.received) == 1
    house.assert_whole()
    assert house.records() == [("ITI-41", 0), ("ITI-42", 0), ("ITI-41", 0), ("ITI-41", 0)]


def test_a_retry_with_other_symbolic_ids_is_identical_too(house):
    first = submission(unique_id="1.2.3")
    renamed = {"Document01": "D", "SubmissionSet01": "S"}
    second = replace(
        first,
        objects=tuple(
            replace(o, id=renamed.get(o.id, o.id), source=renamed.get(o.source), target=renamed.get(o.target))
            for o in first.objects
        ),
    )
    assert house.provide(first).status == "Success"
    assert house.provide(second, {"D": CONTENT + b"0"}).status == "Success"
    assert len(house.registry.received) == 1


@pytest.mark.parametrize("change", ["bytes", "metadata", "fewer"])
def test_anything_else_under_a_used_set_id_is_a_duplicate(house, change):
    first = submission(entries=2, unique_id="1.2.3")
    assert house.provide(first).status == "Success"
    other, data = first, {"Document01": CONTENT + b"0", "Document02": CONTENT + b"1"}
    if change == "bytes":
        strip = tuple(with_slot(name) for name in ("hash", "size"))
        other = replace(first, objects=tuple(_changed(o, strip) for o in first.objects))
        data["Document02"] = b"other"
    elif change == "metadata":
        other = replace(first, objects=tuple(_changed(o, (with_slot("languageCode", "de"),)) for o in first.objects))
    else:
        other = replace(first, objects=first.objects[:3])
        del data["Document02"]
    before = house.objects()
    answer = house.provide(other, data)
    assert answer.codes == ["XDSDuplicateUniqueIdInRegistry"]
    assert "1.2.3" in answer.errors[0][1]
    assert house.objects() == before
    house.assert_whole()


def _changed(obj, changes):
    if obj.kind.value != "DocumentEntry":
        return obj
    for change in changes:
        obj = change(obj)
    return obj


def test_the_plain_rule_refuses_the_identical_retry(tmp_path):
    with stand(tmp_path, identical_retry="reject") as house:
        objects = submission()
        assert house.provide(objects).status == "Success"
        assert house.provide(objects).codes == ["XDSDuplicateUniqueIdInRegistry"]
        house.assert_whole()


def test_a_large_retry_leaves_no_second_copy(house):
    objects = submission(entry=(with_slot("hash"), with_slot("size")))
    for _ in range(2):
        assert house.provide(objects, {"Document01": LARGE}).status == "Success"
    house.assert_whole()
    assert len(house.objects()) == 1


# ------------------------------------------------------------------------------------- the registry's answer


def test_an_answer_that_is_lost_though_registered_is_asked_for_at_once(house):
    house.registry.script.append(Act(answer=None))
    assert house.provide(submission(entries=2)).status == "Success"
    house.assert_whole()
    assert house.records() == [("ITI-18", 0), ("ITI-41", 0), ("ITI-42", 0)]


@pytest.mark.parametrize(
    "written",
    [
        with_identifier(v.ENTRY_UNIQUE_ID, " 1.2.3\n"),
        with_slot("hash", f" {SHA1} "),
        with_slot("hash", SHA1, f"{SHA1}\n"),
        with_slot("hash", SHA1.upper(), SHA1.upper()),
    ],
    ids=["blanks around an id", "around a hash", "a hash twice", "in capitals"],
)
def test_what_a_registry_keeps_as_it_was_written_is_found_again(house, written):
    """Other registries keep blanks and repeats; what is not found is taken for refused and removed."""
    house.registry.script.append(Act(answer=None))
    objects = submission(entry=written)
    assert house.provide(objects).status == "Success"
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room).quiet
    assert len(house.retrieve(*(one.strip() for one in unique_ids(objects))).documents()) == 1


def test_a_receiver_fault_though_registered_is_no_refusal(house):
    house.registry.script.append(Act(answer=SoapFault(FaultCode.RECEIVER, "out of luck")))
    assert house.provide(submission()).status == "Success"
    house.assert_whole()


def test_a_sender_fault_is_a_refusal(house):
    house.registry.script.append(Act(takes=False, answer=SoapFault(FaultCode.SENDER, "unreadable")))
    answer = house.provide(submission())
    assert answer.codes == ["XDSRepositoryError"]
    house.assert_nothing_kept()


@pytest.mark.parametrize("data", [b"small", LARGE], ids=len)
def test_without_an_outcome_everything_is_kept_and_the_retry_finishes_it(house, data):
    objects = submission(entry=(with_slot("hash"), with_slot("size")))
    house.registry.script.append(Act(answer=None))
    house.registry.silent = True
    assert house.provide(objects, {"Document01": data}).errors == [SEND_AGAIN]
    assert [row.state for row in house.rows().values()] == ["pending"]
    assert len(house.objects()) == 1
    assert house.retrieve(*unique_ids(objects)).codes == ["XDSDocumentUniqueIdError"]
    assert house.provide(objects, {"Document01": data}).errors == [SEND_AGAIN]
    house.registry.silent = False
    assert house.provide(objects, {"Document01": data}).status == "Success"
    assert len(house.registry.received) == 1
    house.assert_whole()
    assert house.retrieve(*unique_ids(objects)).documents() == [(unique_ids(objects)[0], data)]


@pytest.mark.parametrize("data", [b"small", LARGE], ids=len)
def test_the_retry_of_what_the_registry_never_got_is_done_again(house, data):
    objects = submission(entry=(with_slot("hash"), with_slot("size")))
    house.registry.script.append(Act(takes=False, answer=None))
    assert house.provide(objects, {"Document01": data}).errors == [SEND_AGAIN]
    assert house.provide(objects, {"Document01": data}).status == "Success"
    assert len(house.registry.received) == 2
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room).discarded == 1
    house.assert_whole()


def test_a_retry_that_is_refused_lets_the_first_stand_until_it_is_known(house):
    objects = submission()
    house.registry.script += [Act(takes=False, answer=None), unknown_patient()]
    assert house.provide(objects).errors == [SEND_AGAIN]
    assert house.provide(objects).codes == ["XDSUnknownPatientId"]
    assert [row.state for row in house.rows().values()] == ["pending"]
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room).removed == 1
    house.assert_nothing_kept()


def test_a_first_attempt_that_arrives_during_its_retry_is_the_success_of_both(house):
    def arrives():
        house.registry.held["1.2.3"] = house.registry.received[0]

    house.registry.script += [Act(takes=False, answer=None), Act(before=arrives)]
    objects = submission(unique_id="1.2.3")
    assert house.provide(objects).errors == [SEND_AGAIN]
    assert house.provide(objects).status == "Success"
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 1


def test_other_content_waits_until_the_first_is_known_and_then_goes_through(house):
    house.registry.script.append(Act(takes=False, answer=None))
    assert house.provide(submission(unique_id="1.2.3")).errors == [SEND_AGAIN]
    other = submission(unique_id="1.2.3")
    answer = house.provide(other)
    assert answer.codes == ["XDSRegistryNotAvailable"]
    assert "1.2.3" in answer.errors[0][1]
    house.room.clock.forward(WINDOW_S)
    assert house.provide(other).status == "Success"
    house.assert_whole()


def test_other_content_completes_what_turns_out_registered(house):
    house.registry.script.append(Act(answer=None))
    house.registry.silent = True
    first = submission(unique_id="1.2.3")
    assert house.provide(first).errors == [SEND_AGAIN]
    house.registry.silent = False
    assert house.provide(submission(unique_id="1.2.3")).codes == ["XDSDuplicateUniqueIdInRegistry"]
    house.assert_whole()
    assert len(house.retrieve(*unique_ids(first)).documents()) == 1


def test_a_registry_that_is_not_there_means_nothing_was_kept(tmp_path):
    import socket

    from repository.actor import RepositoryActor

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with joined(tmp_path, f"http://127.0.0.1:{port}/registry") as room:
        with served(RepositoryActor(room), "/repository", name="repository") as address:
            for data in (b"small", LARGE):
                objects = submission(entry=(with_slot("hash"), with_slot("size")))
                assert provide(address, objects, {"Document01": data}).codes == ["XDSRegistryNotAvailable"]
        assert list(room.store.objects()) == []
        assert room.index.discard(2**62, 2**62) == ()


def test_two_identical_submissions_at_once_are_one(house):
    objects = submission(entries=2)
    together = threading.Barrier(2)
    house.registry.script += [Act(before=lambda: together.wait(60)), Act(before=lambda: together.wait(60))]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(house.provide(objects).status)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["Success", "Success"]
    assert len(house.registry.received) == 2
    house.room.clock.forward(WINDOW_S)
    sweep.run_once(house.room)
    house.assert_whole()


def test_the_first_is_no_duplicate_of_its_own_repetition(tmp_path):
    """The registry took the repetition, which is not through yet, and refuses the first as a duplicate."""
    taken, answered = threading.Event(), threading.Event()

    class Waiting:
        def __init__(self, registry):
            self.registry, self.calls = registry, 0

        def register(self, *arguments):
            self.calls += 1
            repeats = self.calls == 2
            response = self.registry.register(*arguments)
            if repeats:
                taken.set()
                assert answered.wait(60)
            return response

        def __getattr__(self, name):
            return getattr(self.registry, name)

    with stand(tmp_path, wrap=lambda room: replace(room, registry=Waiting(room.registry))) as house:
        objects, answers, arrived = submission(entries=2), {}, threading.Event()
        house.registry.script.append(Act(before=lambda: arrived.set() or taken.wait(60)))

        def provide(name):
            answers[name] = house.provide(objects).status

        first, second = (threading.Thread(target=provide, args=(name,)) for name in ("first", "second"))
        first.start()
        assert arrived.wait(60)
        second.start()
        first.join()
        answered.set()
        second.join()
        assert answers == {"first": "Success", "second": "Success"}
        assert len(house.registry.received) == 2
        house.room.clock.forward(WINDOW_S)
        sweep.run_once(house.room)
        house.assert_whole()


def test_since_is_moved_before_a_late_registration_is_sent(tmp_path):
    class Slow:
        def __init__(self, room):
            self.room = room

        def begin(self, key):
            self.room.clock.forward(20)
            return self.room.store.begin(key)

        def __getattr__(self, name):
            return getattr(self.room.store, name)

    seen = []
    with stand(tmp_path, wrap=lambda room: replace(room, store=Slow(room))) as house:
        house.registry.script.append(
            Act(before=lambda: seen.append(house.room.clock() - house.index.submission("1.2.3").since))
        )
        assert house.provide(submission(unique_id="1.2.3")).status == "Success"
    assert seen[0] < 5_000_000


# ----------------------------------------------------------------------------------------------- full disks


class Full:
    """Raises as a full disk does, at one method, while ``on``."""

    def __init__(self, target, method):
        self.target, self.method, self.on = target, method, True

    def __getattr__(self, name):
        real = getattr(self.target, name)
        if name != self.method or not self.on:
            return real

        def refuse(*_arguments, **_named):
            raise StoreUnavailable("no room left", full=True)

        return refuse


@pytest.mark.parametrize("data", [b"small", LARGE], ids=len)
@pytest.mark.parametrize("method", ["begin", "stage", "claim"])
def test_no_room_is_told_with_the_right_code_and_leaves_nothing(tmp_path, method, data):
    part = "store" if method == "begin" else "index"
    made = []

    def wrap(room):
        made.append(Full(getattr(room, part), method))
        return replace(room, **{part: made[0]})

    with stand(tmp_path, wrap=wrap) as house:
        objects = submission(entry=(with_slot("hash"), with_slot("size")))
        answer = house.provide(objects, {"Document01": data})
        if method == "stage" and data == b"small":
            assert answer.status == "Success"
            return
        assert (answer.http_status, answer.codes) == (200, ["XDSRepositoryOutOfResources"])
        house.assert_nothing_kept()
        made[0].on = False
        assert house.provide(objects, {"Document01": data}).status == "Success"
        house.assert_whole()


def test_a_database_that_is_full_after_registration_asks_for_the_same_again(tmp_path):
    made = []

    def wrap(room):
        made.append(Full(room.index, "complete"))
        return replace(room, index=made[0])

    with stand(tmp_path, wrap=wrap) as house:
        objects = submission()
        answer = house.provide(objects)
        assert answer.codes == ["XDSRepositoryOutOfResources"]
        assert "send the same submission again" in answer.errors[0][1]
        made[0].on = False
        assert house.provide(objects).status == "Success"
        assert len(house.registry.received) == 1
        house.assert_whole()


def test_an_index_that_is_away_after_registration_asks_for_the_same_again(house, monkeypatch):
    def away(*_, **_named):
        raise StoreUnavailable("the index does not answer")

    objects = submission()
    with monkeypatch.context() as patch:
        patch.setattr(type(house.index), "complete", away)
        ((code, context),) = house.provide(objects).errors
    assert code == "XDSRepositoryError"
    assert "registered, but not yet available here" in context
    assert house.provide(objects).status == "Success"
    assert len(house.registry.received) == 1
    house.assert_whole()


@pytest.mark.parametrize(("full", "code"), [(True, "XDSRepositoryOutOfResources"), (False, "XDSRepositoryError")])
def test_a_full_store_and_one_that_is_away_have_codes_of_their_own(full, code):
    error = registration.out_of_room(StoreUnavailable("the disk", full=full))
    assert (str(error.code), error.context) == (code, "the disk; nothing was kept")


def test_a_full_outbox_refuses_as_busy(tmp_path):
    with stand(tmp_path, wrap=lambda room: replace(room, index=Busy(room.index))) as house:
        assert house.provide(submission()).codes == ["XDSRepositoryBusy"]
        assert house.retrieve("1.2.3").codes == ["XDSRepositoryBusy"]
        assert house.registry.received == []


class Busy(Full):
    def __init__(self, target):
        super().__init__(target, "busy")

    def __getattr__(self, name):
        return (lambda: True) if name == "busy" else getattr(self.target, name)


# --------------------------------------------------------------------------------------------------- deaths


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("step", STEPS)
def test_a_defect_at_any_step_is_told_and_leaves_a_question_the_sweep_settles(tmp_path, step, size):
    if size == "small" and step == "staged":
        pytest.skip("small documents are not staged")
    data = b"small" if size == "small" else LARGE
    died = []

    def die():
        if not died:
            died.append(step)
            raise RuntimeError("P^secret^patient")

    with stand(tmp_path, wrap=lambda room: doomed(room, step, die)) as house:
        objects = submission(entry=(with_slot("hash"), with_slot("size")))
        answer = house.provide(objects, {"Document01": data})
        assert died == [step]
        if not answer.body.tag.endswith("Fault"):
            assert answer.codes == ["XDSRepositoryError"]
            assert "request" in answer.errors[0][1]
            assert "secret" not in answer.errors[0][1]
        house.room.clock.forward(WINDOW_S)
        sweep.run_once(house.room, staging_age_s=0)
        house.assert_whole()
        assert house.provide(objects, {"Document01": data}).status == "Success"
        house.assert_whole()
        assert len(house.objects()) == 1


DEATHS = [
    *[(step, "large", "sweep first") for step in STEPS],
    *[(step, "large", "retry first") for step in ("claimed", "sending", "registered", "completed")],
    *[(step, "small", "sweep first") for step in ("claimed", "uploading", "written", "uploaded", "registered")],
]


@pytest.fixture(params=["directory", "s3"])
def place(request):
    """Settings of where documents lie; with S3 a large document is more than one part."""
    return request.getfixturevalue("object_store").values() if request.param == "s3" else {}


@pytest.mark.parametrize(("step", "size", "order"), DEATHS)
def test_a_death_at_any_step_loses_nothing_and_leaves_nothing(tmp_path, place, step, size, order):
    large = IN_PARTS if place else LARGE
    data = b"small" if size == "small" else large
    objects = submission(entry=(with_slot("hash"), with_slot("size")))
    registry = ScriptedRegistry()
    with served(registry, "/registry", name="registry") as registry_url:
        command = [sys.executable, "-m", "tests.repository.doomed", str(tmp_path), registry_url, step]
        command.append(json.dumps(place))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        address = process.stdout.readline().strip()
        with pytest.raises((ConnectionError, OSError)):
            provide(address, objects, {"Document01": data})
        assert process.wait(10) == 9
        process.stdout.close()
    with stand(tmp_path, registry=registry, **place) as house:
        if order == "sweep first":
            house.room.clock.forward(WINDOW_S)
            sweep.run_once(house.room, staging_age_s=0)
            house.assert_whole()
            held = len(registry.held)
            assert held == (step in {"registered", "completed"})
            before = {"staged", "claiming"} | ({"uploading", "written", "uploaded"} if size == "large" else set())
            known = set(STEPS) - before
            audited = [("ITI-41", 0 if held else 8)] if step in known else []
            assert [row for row in house.records() if row[0] == "ITI-41"] == audited
        assert house.provide(objects, {"Document01": data}).status == "Success"
        house.room.clock.forward(WINDOW_S)
        sweep.run_once(house.room, staging_age_s=0)
        house.assert_whole()
        assert house.retrieve(*unique_ids(objects)).documents() == [(unique_ids(objects)[0], data)]
        assert registry.faults == []
