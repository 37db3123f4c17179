"""What a registry holds, in memory, and how each transaction changes it: written from the framework, not from ours.

``Model.take(request, now)`` answers with a ``Verdict`` and, when nothing is required against the request, changes.
Where the framework leaves a choice the registry's is taken over, and the line says so.
"""

from dataclasses import dataclass, field, replace

from ihe import vocabulary as v
from ihe.registry_objects import Kind
from tests.registry.histories.asking import Merge, Move, Register, Remove, Unmerge, Update

__all__ = ["RELATIONSHIPS", "REPLACEMENTS", "Model", "Thing", "Verdict"]

RELATIONSHIPS = (v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS, v.IS_SNAPSHOT_OF)
REPLACEMENTS = (v.RPLC, v.XFRM_RPLC)
_VERSIONED = (Kind.DOCUMENT_ENTRY, Kind.FOLDER)


@dataclass
class Thing:
    """An object; an association has the patient of the submission that brought it. ``updated``: lastUpdateTime."""

    id: str
    kind: Kind
    patient: str
    approved: bool = True
    lid: str = ""
    version: int = 1
    unique_id: str | None = None
    on_demand: bool = False
    content: int = 0
    updated: str | None = None
    type: str | None = None
    source: str | None = None
    target: str | None = None


@dataclass
class Verdict:
    """Error codes that must be in the answer, and more that may be there beside them."""

    required: set = field(default_factory=set)
    optional: set = field(default_factory=set)


class Model:
    """``announced``: patients a feed has told of; ``merged``: whose id was merged into whose, while that holds."""

    def __init__(self, announced):
        self.announced = set(announced)
        self.merged = {}
        self.things = {}
        self._made = 0

    # ------------------------------------------------------------------------------------------------- looking

    @property
    def known(self):
        """Who may be named: nobody whose id was merged into another."""
        return self.announced - self.merged.keys()

    def who(self, patient):
        """The id that survives of one."""
        while patient in self.merged:
            patient = self.merged[patient]
        return patient

    def owner(self, one):
        """Whose an object is shown as."""
        return self.who(one.patient)

    def of_patient(self, patient, *kinds):
        return [one for one in self.of(*kinds) if self.owner(one) == patient]

    def below(self, patient):
        """An id and all that were merged into it."""
        chain = {patient}
        while more := {one for one, into in self.merged.items() if into in chain} - chain:
            chain |= more
        return chain

    def of(self, *kinds):
        return [one for one in self.things.values() if one.kind in kinds]

    def links(self, *, source=None, target=None, types=None, approved=True):
        """Associations, by default those in force."""
        return [
            one
            for one in self.of(Kind.ASSOCIATION)
            if (source is None or one.source == source)
            and (target is None or one.target == target)
            and (types is None or one.type in types)
            and (not approved or one.approved)
        ]

    def latest(self, lid):
        """The highest version that is left of a logical object."""
        return max((o for o in self.of(*_VERSIONED) if o.lid == lid), key=lambda o: o.version, default=None)

    def is_latest(self, one):
        return one.kind not in _VERSIONED or self.latest(one.lid) is one

    def users(self, unique_id):
        return [one for one in self.things.values() if one.unique_id == unique_id]

    def kind_of(self, uuid):
        return self.things[uuid].kind if uuid in self.things else None

    def is_folder_membership(self, one):
        return one.type == v.HAS_MEMBER and self.kind_of(one.source) is Kind.FOLDER

    def is_of_set(self, one):
        return one.kind is Kind.ASSOCIATION and self.kind_of(one.source) is Kind.SUBMISSION_SET

    def made(self):
        """Associations whose entryUUID only the registry knows."""
        return [one for one in self.things.values() if one.id.startswith("made:")]

    def rename(self, old, new):
        one = self.things.pop(old)
        self.things[new] = one
        one.id = one.lid = new
        for link in self.of(Kind.ASSOCIATION):
            if link.target == old:
                link.target = new

    # ------------------------------------------------------------------------------------------------ changing

    def take(self, request, now, judge):
        verdict = judge(self, request)
        if not verdict.required:
            changes = {
                Register: self._register,
                Update: self._update,
                Remove: self._remove,
                Merge: self._merge,
                Unmerge: self._unmerge,
                Move: self._move,
            }
            changes[type(request)](request, now)
        return verdict

    def _add(self, one):
        one.lid = one.lid or one.id
        self.things[one.id] = one

    def _make(self, patient, kind, source, target):
        self._made += 1
        self._link(f"made:{self._made}", patient, kind, source, target)
        return f"made:{self._made}"

    def _link(self, uuid, patient, kind, source, target):
        self._add(Thing(uuid, Kind.ASSOCIATION, patient, type=kind, source=source, target=target))

    def _register(self, request, now):
        """TF-2: 3.42.4.1.3.3; TF-3: 4.2.2.2."""
        before = dict(self.things)
        self._add(Thing(request.set_id, Kind.SUBMISSION_SET, request.patient, unique_id=request.unique_id))
        for one in request.things:
            updated = now if one.kind is Kind.FOLDER else None
            self._add(
                Thing(
                    one.id,
                    one.kind,
                    one.patient,
                    unique_id=one.unique_id,
                    on_demand=one.on_demand,
                    content=one.content,
                    updated=updated,
                )
            )
        for one in request.links:
            self._link(one.id, request.patient, one.type, one.source, one.target)
        self._touch(request.links, now)
        self._replace(request, before, now)

    def _touch(self, links, now):
        for one in links:
            if self.is_folder_membership(one):
                self.things[one.source].updated = now

    def _replace(self, request, before, now):
        """The target and what was appended to or transformed from it go; the new entry joins the target's folders."""
        replacing = [one for one in request.links if one.type in REPLACEMENTS]
        for one in replacing:
            for member in self.links(target=one.target, types=(v.HAS_MEMBER,)):
                folder = self.things[member.source]
                if folder.kind is not Kind.FOLDER or not folder.approved or member.id not in before:
                    continue
                # Not twice, where the submission or another replacement has put it there.
                if any(self.links(source=folder.id, target=one.source, types=(v.HAS_MEMBER,))):
                    continue
                made = self._make(request.patient, v.HAS_MEMBER, folder.id, one.source)
                self._make(request.patient, v.HAS_MEMBER, request.set_id, made)
                folder.updated = now
        pairs = {(one.source, one.target) for one in replacing}
        for one in replacing:
            # One level (4.2.2.2); what comes with this very submission is new and Approved, and what was appended to a
            # document may be what replaces it (ITI-57).
            for child in self.links(target=one.target, types=(v.APND, v.XFRM)):
                if child.id in before and (child.source, one.target) not in pairs:
                    self.things[child.source].approved = False
            self.things[one.target].approved = False

    def _update(self, request, now):
        """Metadata Update: 3.57.4.1.3.3; Restricted Metadata Update: 3.92.4.1.3."""
        before = dict(self.things)
        pairs = [(self.latest(one.lid), one) for one in request.versions]
        copied = self._propagated(pairs)
        self._add(Thing(request.set_id, Kind.SUBMISSION_SET, request.patient, unique_id=request.unique_id))
        for old, one in pairs:
            updated = now if one.kind is Kind.FOLDER else None
            self._add(replace(old, id=one.id, version=old.version + 1, patient=one.patient, updated=updated))
            old.approved = False
            self._make(request.patient, v.HAS_MEMBER, request.set_id, one.id)
        renamed = {old.id: one.id for old, one in pairs}
        for link in copied:
            # Copies are not members of the SubmissionSet: the registry's choice, that of the NIST testkit.
            ends = renamed.get(link.source, link.source), renamed.get(link.target, link.target)
            self._touch([self.things[self._make(request.patient, link.type, *ends)]], now)
        for one in request.statuses:
            self.things[one.target].approved = one.approved
            if self.kind_of(one.target) is Kind.FOLDER:
                self.things[one.target].updated = now
            if self.kind_of(one.target) is Kind.ASSOCIATION:
                self._touch([self.things[one.target]], now)
            self._operation(request, v.UPDATE_AVAILABILITY_STATUS, one.target)
        for one in request.links:
            self._link(one.id, request.patient, one.type, one.source, one.target)
            self._operation(request, v.SUBMIT_ASSOCIATION, one.id)
        self._touch(request.links, now)
        self._replace(request, before, now)

    def _operation(self, request, kind, target):
        """The association that asks for an operation is registered as well: the registry's choice."""
        self._make(request.patient, kind, request.set_id, target)

    def propagable(self, old):
        """What a new version takes over: links in force whose other end is the latest version, a folder Approved."""
        found = []
        for one in (*self.links(source=old.id), *self.links(target=old.id)):
            other = self.things[one.target if one.source == old.id else one.source]
            if one.type not in RELATIONSHIPS and not self.is_folder_membership(one):
                continue
            if self.is_latest(other) and (other.kind is not Kind.FOLDER or other.approved):
                found.append(one)
        return found

    def _propagated(self, pairs):
        found = {link.id: link for old, one in pairs if one.propagates for link in self.propagable(old)}
        return list(found.values())

    def _remove(self, request, now):
        for one in request.ids:
            del self.things[one]

    def _merge(self, request, now):
        """TF-2: 3.8.4.2.3: nothing changes but who is meant by the id."""
        self.merged[request.subsumed] = request.surviving

    def _unmerge(self, request, now):
        """The framework has no way back: what leads from one patient to the other ends, the registry's choice."""
        subsumed = self.subsumed_of(request)
        parted = self.below(subsumed)
        del self.merged[subsumed]
        for link in self.links(types=(v.HAS_MEMBER, v.APND, v.XFRM, v.SIGNS, v.IS_SNAPSHOT_OF)):
            source, target = self.things[link.source], self.things[link.target]
            if source.kind in _VERSIONED and (source.patient in parted) != (target.patient in parted):
                link.approved = False
                self._touch([link], now)

    def _move(self, request, now):
        """What comes of it is read from the registry (``reread``); ``to_move`` says what has to move."""

    def to_move(self, request):
        """Entries of the patient that are Approved (TF-2: 3.64.4.1.3.1)."""
        return [one for one in self.of_patient(request.previous, Kind.DOCUMENT_ENTRY) if one.approved]

    def reread(self, shown, patient):
        """Take over statuses and what is new, which is of ``patient``; ``shown``: what is seen of each object."""
        for uuid, seen in shown.items():
            known = self.things.get(uuid)
            if known is None:
                before = self.latest(seen.lid) or Thing(uuid, seen.kind, patient, unique_id=seen.unique_id)
                known = replace(before, id=uuid, patient=patient, lid=seen.lid, version=seen.version)
                known.type, known.source, known.target = seen.link
                self._add(known)
            known.approved, known.updated = seen.approved, seen.updated

    def subsumed_of(self, request):
        """Which of two ids is merged into the other, None: neither."""
        pairs = ((request.one, request.other), (request.other, request.one))
        return next((one for one, other in pairs if self.merged.get(one) == other), None)
