"""One history: requests drawn one after the other, given to a registry and to the model, and both looked at.

Histories share a database and never meet: each has patients, entryUUIDs and uniqueIds of its own.
"""

import itertools
import re
from dataclasses import replace
from typing import NamedTuple

from ihe import ebrs
from ihe import vocabulary as v
from ihe.registry_objects import Kind
from ihe.transactions import ITI_42, ITI_57, ITI_61, ITI_62, ITI_92
from ihe.xua import Caller
from tests.builders import AUTHORITY
from tests.feed_server import link_change, merge, msa, unlink
from tests.registry.histories.answers import Answers, questions
from tests.registry.histories.asking import Merge, Move, Register, Remove, Unmerge, objects_of
from tests.registry.histories.chance import Chance
from tests.registry.histories.judging import judge
from tests.registry.histories.model import Model
from tests.registry.rooms import codes_of, feed_of

__all__ = ["History"]

_numbers = itertools.count(1)
_PATIENT = {Kind.DOCUMENT_ENTRY: v.ENTRY_PATIENT_ID, Kind.FOLDER: v.FOLDER_PATIENT_ID}
_PATIENT[Kind.SUBMISSION_SET] = v.SUBMISSION_SET_PATIENT_ID
_UNIQUE = {Kind.DOCUMENT_ENTRY: v.ENTRY_UNIQUE_ID, Kind.FOLDER: v.FOLDER_UNIQUE_ID}
_UNIQUE[Kind.SUBMISSION_SET] = v.SUBMISSION_SET_UNIQUE_ID
_NAMES = re.compile(r"urn:ihe:iti:\d+:AssociationType:(\w+)|<Kind\.(\w+): '\w+'>")
ASKED = 5
"""Questions after each request, of all that could be asked."""
LOCAL = "89765a87b^^^&1.3.4.5&ISO"
"""sourcePatientId of every entry made here."""
LEVELS = ((2, (True, False)), (2, (True,)), (1, (True,)))


class History:
    """``room`` is a RegistryRoom; ``told`` is what was done, for people."""

    def __init__(self, room, rng):
        self.number = next(_numbers)
        self.patients = tuple(f"H{self.number}-{one}^^^&{AUTHORITY}&ISO" for one in "ABCX")
        self.room, self.rng = room, rng
        room.know(*self.patients[:-1])
        self.model = Model(self.patients[:-1])
        self._counter = itertools.count(1)
        self.chance = Chance(rng, self.model, self.patients, self._new_uuid, self._new_oid)
        self._seconds = 1_800_000_000 + self.number
        room.actor = replace(room.actor, now=lambda: self._seconds)
        self.feed = feed_of(room, now=lambda: self._seconds)
        self.told = []

    def _new_uuid(self):
        return f"urn:uuid:{self.number:08x}-0000-4000-8000-{next(self._counter):012x}"

    def _new_oid(self):
        return f"1.2.40.{self.number}.{next(self._counter)}"

    def step(self):
        """One request, and a look at everything."""
        self._seconds += 60
        request = self.chance.request()
        verdict = self.model.take(request, self.room.actor.today(), judge)
        got = self._send(request)
        self.told.append(f"{request}\n    -> {sorted(got) or 'Success'}")
        assert verdict.required <= got <= verdict.required | verdict.optional, self._story(
            f"codes {sorted(got)}, by the model {sorted(verdict.required)} (and {sorted(verdict.optional)})"
        )
        self._look(request, refused=bool(got))

    def _send(self, request):
        """The codes of the answer, none where it is a success."""
        if isinstance(request, (Merge, Move, Unmerge)):
            return self._fed(request)
        response = self._submitted(request)
        got = codes_of(response)
        assert response.status.endswith("Failure" if got else "Success"), self._story(response.status)
        return got

    def _fed(self, request):
        control = f"H{self.number}-{next(self._counter)}"
        if isinstance(request, Merge):
            message = merge(request.surviving, request.subsumed, control=control)
        elif isinstance(request, Move):
            message = link_change(request.new, LOCAL, request.previous, control=control)
        else:
            message = unlink(request.one, request.other, control=control)
        said = msa(self.feed.handle(message, Caller("127.0.0.1")))[0]
        return set() if said == "AA" else {said}

    def _submitted(self, request):
        if isinstance(request, Remove):
            return self.room.send(ebrs.remove_objects_request(request.ids), transaction=ITI_62)
        if isinstance(request, Register):
            transaction = ITI_61 if request.on_demand else ITI_42
        else:
            transaction = ITI_92 if request.restricted else ITI_57
        return self.room.submit(objects_of(request), transaction=transaction)

    def _story(self, wrong):
        text = "\n".join((wrong, *self.told))
        for long, short in (
            (f"urn:uuid:{self.number:08x}-0000-4000-8000-00000000", "#"),
            (f"^^^&{AUTHORITY}&ISO", ""),
            (f"1.2.40.{self.number}.", "."),
            ("urn:oasis:names:tc:ebxml-regrep:", ""),
        ):
            text = text.replace(long, short)
        return _NAMES.sub(lambda match: match.group(1) or match.group(2), text)

    # ------------------------------------------------------------------------------------------------- looking

    def _moved(self, request, shown):
        """Each Approved entry has one more version, of the other patient; whatever else is there is taken as it is."""
        olds = self.model.to_move(request)
        for old in olds:
            (new,) = (o for o in shown.values() if (o.lid, o.version) == (old.lid, old.version + 1))
            assert (new.patient, new.approved, new.unique_id) == (request.new, True, old.unique_id), self._story(
                "moved"
            )
            assert not shown[old.id].approved, self._story("what moved is Approved twice")
        gone = self.model.things.keys() - shown.keys()
        assert not gone, self._story(f"a link change took away {gone}")
        for one in self.model.of(Kind.DOCUMENT_ENTRY, Kind.SUBMISSION_SET):
            assert one in olds or shown[one.id].approved == one.approved, self._story(f"{one.id} was not to change")
        assert olds or self.model.things.keys() == shown.keys(), self._story("nothing was to move")
        self.model.reread(shown, request.new)

    def _look(self, request, *, refused):
        stored = self._stored()
        self._bind(stored)
        shown = {uuid: _seen(one) for uuid, one in stored.items()}
        if isinstance(request, Move) and not refused:
            self._moved(request, shown)
        self._same(shown, self._modelled(), "what is stored")
        chosen = self._chosen(request)
        asked = [
            question
            for level, links in LEVELS
            for question in questions(Answers(self.model, level, links), self.patients[:-1], chosen)
        ]
        for question in self.rng.sample(asked, min(ASKED, len(asked))):
            self._ask(question)

    def _stored(self):
        """Every object of both patients by its entryUUID, whole."""
        answers = Answers(self.model, 2, (True, False))
        found = {}
        for patient in self.patients[:-1]:
            question = answers.get_all(patient)
            response = self.room.query(f"urn:uuid:{question.query}", **question.parameters)
            assert response.status == v.SUCCESS, self._story(f"GetAll: {response.errors}")
            assert len({one.id for one in response.objects}) == len(response.objects), self._story("GetAll: one twice")
            found |= {one.id: one for one in response.objects}
        return found

    def _bind(self, stored):
        """Tell the model the entryUUIDs the registry gave; memberships before what points to them."""
        made = self.model.made()
        for one in (*(o for o in made if not o.target.startswith("made:")), *made):
            if one.id not in self.model.things:
                continue
            wanted = (one.type, one.source, one.target)
            for uuid, link in stored.items():
                if uuid not in self.model.things and (link.type, link.source, link.target) == wanted:
                    self.model.rename(one.id, uuid)
                    break

    def _modelled(self):
        return {
            one.id: Seen(
                one.kind,
                self.model.owner(one) if one.kind is not Kind.ASSOCIATION else None,
                one.approved,
                one.lid,
                one.version,
                one.unique_id,
                one.updated,
                (one.type, one.source, one.target),
            )
            for one in self.model.things.values()
        }

    def _same(self, got, expected, what):
        if got != expected:
            lines = [f"{what}:"]
            lines += [f"  registry {uuid}: {got.get(uuid)}" for uuid in got if got[uuid] != expected.get(uuid)]
            lines += [
                f"  model    {uuid}: {expected.get(uuid)}" for uuid in expected if expected[uuid] != got.get(uuid)
            ]
            raise AssertionError(self._story("\n".join(lines)))

    def _chosen(self, request):
        """Objects of the request that are there, and one of each kind at random."""
        found = []
        for kind in (Kind.DOCUMENT_ENTRY, Kind.FOLDER, Kind.SUBMISSION_SET, Kind.ASSOCIATION):
            there = self.model.of(kind)
            if there:
                found.append(self.rng.choice(there))
        new = getattr(request, "set_id", None)
        return found + ([self.model.things[new]] if new in self.model.things else [])

    def _ask(self, question):
        """By ids; and whole, where that is refused for objects of several patients."""
        named = f"urn:uuid:{question.query}"
        response = self.room.query(named, "ObjectRef", **question.parameters)
        assert response.status == v.SUCCESS, self._story(f"{question}: {response.errors}")
        assert len(set(response.object_refs)) == len(response.object_refs), self._story(f"{question}: one twice")
        self._same(
            dict.fromkeys(response.object_refs, "shown"), dict.fromkeys(question.ids, "shown"), f"answer to {question}"
        )
        if len(question.patients) > 1:
            whole = self.room.query(named, **question.parameters)
            assert codes_of(whole) == {"XDSResultNotSinglePatient"}, self._story(f"{question} shows several patients")


class Seen(NamedTuple):
    """What is compared of an object."""

    kind: Kind
    patient: str | None
    approved: bool
    lid: str
    version: int
    unique_id: str | None
    updated: str | None
    link: tuple


def _seen(one):
    updated = one.slot("lastUpdateTime")
    return Seen(
        one.kind,
        one.identifier(_PATIENT[one.kind]) if one.kind in _PATIENT else None,
        one.status == v.APPROVED,
        one.lid,
        int(one.version_name),
        one.identifier(_UNIQUE[one.kind]) if one.kind in _UNIQUE else None,
        updated[0] if updated else None,
        (one.type, one.source, one.target),
    )
