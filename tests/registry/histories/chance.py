"""Draws the next request of a history: mostly one that may be granted, often one that nearly may.

All choices come from one ``rng`` (as ``random.Random``), so that a failing history can be made small.
"""

from ihe import vocabulary as v
from ihe.registry_objects import Kind
from tests.registry.histories.asking import (
    CONTENTS,
    Link,
    Merge,
    Move,
    New,
    Register,
    Remove,
    Status,
    Unmerge,
    Update,
    Version,
)
from tests.registry.histories.model import RELATIONSHIPS

__all__ = ["Chance"]

ENTRY, FOLDER, SET, ASSOCIATION = Kind.DOCUMENT_ENTRY, Kind.FOLDER, Kind.SUBMISSION_SET, Kind.ASSOCIATION


class Chance:
    """``new_uuid`` and ``new_oid`` give ids; the last of ``patients`` was never announced."""

    def __init__(self, rng, model, patients, new_uuid, new_oid):
        self.rng, self.model, self.patients = rng, model, patients
        self.new_uuid, self.new_oid = new_uuid, new_oid

    def request(self):
        if not self.model.of(ENTRY):
            return self.register()
        if self._one_in(10):
            return self.moving() if self._one_in(4) else self.merging()
        draw = self.rng.randrange(20)
        if draw < 9:
            return self.register()
        if draw < 15:
            return self.update()
        return self.restricted() if draw < 17 else self.remove()

    # ------------------------------------------------------------------------------------------------- choices

    def _one_in(self, number):
        return self.rng.randrange(number) == number - 1

    def _patient(self):
        draw = self.rng.randrange(30)
        one = self.patients[-1] if draw == 29 else self.patients[0 if draw < 22 else 1 if draw < 26 else 2]
        return one if self._one_in(15) else self.model.who(one)

    def _known(self, *kinds, patient=None):
        """The id of an object, mostly one that will do: Approved, of the patient; often one with a past."""
        found = self.model.of(*kinds)
        fitting = [one for one in found if one.approved and patient in (None, self.model.owner(one))]
        if fitting and not self._one_in(10):
            found = fitting
        known = self._with_past(found) if self._one_in(2) else []
        return self.rng.choice(known or found).id if found else None

    def _with_past(self, found):
        """Those that something is related to or that are in a folder."""
        ends = {
            end
            for link in self.model.of(ASSOCIATION)
            if not self.model.is_of_set(link)
            for end in (link.source, link.target)
        }
        return [one for one in found if one.id in ends]

    def _any(self):
        """The id of anything, or of nothing."""
        if self._one_in(4) or not self.model.things:
            return self.new_uuid()
        return self.rng.choice(list(self.model.things))

    # ---------------------------------------------------------------------------------------------- submission

    def register(self):
        on_demand = self._one_in(6)
        patient = self._patient()
        set_id = self.new_uuid()
        kinds = [ENTRY] * self.rng.choice([1, 1, 2, 3, 0]) + [FOLDER] * self.rng.choice([0, 0, 1])
        things = [self._new(kind, patient, on_demand) for kind in kinds]
        links = [
            Link(self.new_uuid(), v.HAS_MEMBER, set_id, one.id, "Original" if one.kind is ENTRY else None)
            for one in things
        ]
        entries = [one.id for one in things if one.kind is ENTRY]
        for one in things:
            if one.kind is FOLDER:
                links += self._filed(set_id, one.id, entries, patient)
        if self.model.of(FOLDER) and self._one_in(3):
            links += self._filed(set_id, self._known(FOLDER, patient=patient) or self._any(), entries, patient)
        links += self._relations(entries, patient)
        if self.model.of(ENTRY) and self._one_in(5):
            referred = self._known(ENTRY) or self._any()
            links.append(Link(self.new_uuid(), v.HAS_MEMBER, set_id, referred, "Reference"))
        if self._one_in(25) and links:
            links.pop(self.rng.randrange(len(links)))
        if self._one_in(40):
            links.append(Link(self.new_uuid(), v.HAS_MEMBER, self._any(), self._any()))
        unique_id = self._unique_id(SET, FOLDER, ENTRY)
        return Register(set_id, unique_id, patient, tuple(things), tuple(links), on_demand)

    def _unique_id(self, *kinds):
        used = self.model.of(*kinds)
        return self.rng.choice(used).unique_id if used and self._one_in(30) else self.new_oid()

    def _new(self, kind, patient, on_demand):
        own = self.new_uuid()
        if self._one_in(40) and self.model.things:
            own = self.rng.choice(list(self.model.things))
        if self._one_in(40):
            patient = self._patient()
        if kind is FOLDER:
            return New(kind, own, patient, self._unique_id(SET, FOLDER, ENTRY))
        again = self.model.of(ENTRY)
        if again and self._one_in(6):
            old = self.rng.choice(again)
            content = self.rng.randrange(len(CONTENTS)) if self._one_in(2) else old.content
            return New(kind, own, patient, old.unique_id, on_demand, 0 if on_demand else content)
        content = 0 if on_demand else self.rng.randrange(len(CONTENTS))
        return New(kind, own, patient, self._unique_id(SET, FOLDER), on_demand, content)

    def _filed(self, set_id, folder, entries, patient):
        members = [one for one in entries if self._one_in(2)]
        if self._one_in(4) or not members:
            members += filter(None, [self._known(ENTRY, patient=patient)])
        found = []
        for one in members:
            link = Link(self.new_uuid(), v.HAS_MEMBER, folder, one)
            found += [link, Link(self.new_uuid(), v.HAS_MEMBER, set_id, link.id)]
        return found

    def _relations(self, entries, patient):
        found = []
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            strange = self._one_in(25)
            source = self._known(ENTRY) if strange else self.rng.choice(entries) if entries else None
            target = self._related(entries, patient)
            if source and target:
                found.append(Link(self.new_uuid(), self._relationship(target), source, target))
        return found

    def _relationship(self, target):
        on_demand = target in self.model.things and self.model.things[target].on_demand
        if on_demand and self._one_in(2):
            return v.IS_SNAPSHOT_OF
        kinds = RELATIONSHIPS if self._one_in(5) else (v.APND, v.XFRM, v.RPLC, v.RPLC, v.XFRM_RPLC, v.SIGNS)
        return self.rng.choice(kinds)

    def _related(self, entries, patient):
        if entries and self._one_in(10):
            return self.rng.choice(entries)
        return self._any() if self._one_in(25) else self._known(ENTRY, patient=patient)

    # ------------------------------------------------------------------------------------------------- updates

    def update(self):
        draw = self.rng.randrange(8)
        versions = statuses = links = ()
        if draw < 4:
            versions = self._versions(ENTRY, FOLDER)
        elif draw < 6:
            statuses = tuple(self._status() for _ in range(self.rng.choice([1, 1, 2])))
        else:
            links = (self._submitted(),)
        return self._updating(versions, statuses, links)

    def restricted(self):
        return self._updating(self._versions(ENTRY, *([FOLDER] if self._one_in(10) else [])), restricted=True)

    def _updating(self, versions, statuses=(), links=(), *, restricted=False):
        ends = [one.patient for one in versions]
        ends += [self.model.owner(self.model.things[o.target]) for o in statuses if o.target in self.model.things]
        ends += [self.model.owner(self.model.things[o.source]) for o in links if o.source in self.model.things]
        patient = ends[0] if ends and not self._one_in(20) else self._patient()
        unique_id = self._unique_id(SET, FOLDER, ENTRY)
        return Update(self.new_uuid(), unique_id, patient, tuple(versions), tuple(statuses), tuple(links), restricted)

    def _versions(self, *kinds):
        olds = self.model.of(*kinds)
        if not olds:
            return ()
        known = self._with_past(olds) if self._one_in(2) else []
        chosen = [self.rng.choice(known or olds) for _ in range(self.rng.choice([1, 1, 1, 2]))]
        propagates = not self._one_in(4)
        moves = self._patient() if self._one_in(8) else None
        return tuple(self._version(one, propagates, moves) for one in chosen)

    def _version(self, old, propagates, moves):
        latest = self.model.latest(old.lid)
        number = latest.version if not self._one_in(10) else self.rng.randrange(1, latest.version + 2)
        own, lid = self.new_uuid(), old.lid
        if self._one_in(30):
            own, lid = self.rng.choice([(lid, lid), (own, self.new_uuid()), (self._any(), lid)])
        return Version(
            old.kind,
            own,
            lid,
            moves or self.model.owner(latest),
            latest.unique_id if not self._one_in(25) else self._unique_id(ENTRY, FOLDER),
            number,
            latest.on_demand,
            latest.content if latest.on_demand or not self._one_in(25) else self.rng.randrange(len(CONTENTS)),
            propagates,
        )

    def _status(self):
        kinds = self.rng.choice([(ENTRY,), (ENTRY,), (FOLDER,), (FOLDER,), (ASSOCIATION,), (ASSOCIATION,), (SET,)])
        fitting = [o for o in self.model.of(*kinds) if self.model.is_latest(o) and not self.model.is_of_set(o)]
        if not fitting or self._one_in(8):
            fitting = self.model.of(*kinds)
        if not fitting or self._one_in(30):
            return Status(self.new_uuid(), was_approved=True, approved=False)
        one = self.rng.choice(fitting)
        was = one.approved != self._one_in(10)
        return Status(one.id, was, was if self._one_in(20) else not was)

    def _submitted(self):
        kind = self.rng.choice([v.HAS_MEMBER, v.HAS_MEMBER, *RELATIONSHIPS])
        source = self._known(FOLDER if kind == v.HAS_MEMBER else ENTRY) or self._any()
        patient = self.model.owner(self.model.things[source]) if source in self.model.things else None
        target = self._known(ENTRY, patient=patient) or self._any()
        if self._one_in(15):
            source = self._any()
        return Link(self.new_uuid(), kind, source, target)

    # ------------------------------------------------------------------------------------------------- removal

    def remove(self):
        """A whole submission, an object with all that hangs on it, or a few ids at random; with one more or less."""
        things = list(self.model.things.values())
        first = self.rng.choice(self.model.of(SET) * self.rng.randrange(2) or things)
        draw = self.rng.randrange(4)
        if draw == 0:
            ids = {one.id for one in self.rng.sample(things, min(len(things), self.rng.randrange(1, 4)))}
        else:
            ids = self._with_links({first.id} if draw == 1 else self._brought_by(first))
        if self._one_in(6):
            ids |= {self._any()}
        if self._one_in(6) and len(ids) > 1:
            ids.discard(self.rng.choice(self._in_order(ids)))
        return Remove(tuple(self._in_order(ids)))

    def _in_order(self, ids):
        """As they were registered: entryUUIDs the registry gave are others each time."""
        known = [one for one in self.model.things if one in ids]
        return known + sorted(ids - set(known))

    def _brought_by(self, one):
        """A SubmissionSet with its members, or whatever it is by itself."""
        return {one.id} | {link.target for link in self.model.links(source=one.id) if one.kind is SET}

    def _with_links(self, ids):
        while True:
            more = {o.id for o in self.model.of(ASSOCIATION) if {o.source, o.target} & ids} | ids
            if more == ids:
                return ids
            ids = more

    # -------------------------------------------------------------------------------------------------- patients

    def moving(self):
        """The documents of one patient turn out to be another's."""
        return Move(*self.rng.sample(self.patients, 2))

    def merging(self):
        """Ids become one, or what was merged becomes two again; some that are nobody's, or were merged before."""
        merged = list(self.model.merged.items())
        if merged and not self._one_in(3):
            pair = self.rng.choice(merged)
            return Unmerge(*(pair if self._one_in(2) else reversed(pair)))
        pair = self.rng.sample(self.patients, 2)
        return Unmerge(*pair) if self._one_in(8) else Merge(*pair)
