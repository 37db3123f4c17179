"""Which error codes a request must be answered with, by the framework's text and not by the registry's code.

Required codes are those the framework names; optional ones may stand beside them, because a fault already named makes
the rest a matter of taste (an unknown patient is of nobody, so what is of another patient cannot be told).
"""

from ihe import vocabulary as v
from ihe.registry_objects import Kind
from tests.registry.histories.asking import CONTENTS, Merge, Move, Register, Remove, Unmerge
from tests.registry.histories.model import RELATIONSHIPS, REPLACEMENTS, Verdict

__all__ = ["judge"]

ENTRY, FOLDER, SET, ASSOCIATION = Kind.DOCUMENT_ENTRY, Kind.FOLDER, Kind.SUBMISSION_SET, Kind.ASSOCIATION
METADATA, UNRESOLVED = "XDSRegistryMetadataError", "UnresolvedReferenceException"
DUPLICATE, DEPRECATED = "XDSDuplicateUniqueIdInRegistry", "XDSRegistryDeprecatedDocumentError"
DUPLICATE_IN_MESSAGE = "XDSRegistryDuplicateUniqueIdInMessage"
MISMATCH, UNKNOWN_PATIENT = "XDSPatientIdDoesNotMatch", "XDSUnknownPatientId"
HASH, SIZE = "XDSNonIdenticalHash", "XDSNonIdenticalSize"
UPDATE, OPERATION, VERSION = "XDSMetadataUpdateError", "XDSMetadataUpdateOperationError", "XDSMetadataVersionError"
RECONCILIATION = "XDSPatientIDReconciliationError"
IDENTIFIER, INVALID, UNMODIFIABLE = (
    "XDSMetadataIdentifierError",
    "XDSInvalidRequestException",
    "UnmodifiableMetadataError",
)
REFERENCED, UNREFERENCED = "ReferencesExistException", "XDSUnreferencedObjectException"
NOT_TAKEN = "AE"


def judge(model, request):
    if isinstance(request, Remove):
        return _removal(model, request)
    if isinstance(request, Merge):
        return _merge(model, request)
    if isinstance(request, Move):
        return Verdict(set() if {request.previous, request.new} <= model.known else {NOT_TAKEN})
    if isinstance(request, Unmerge):
        return _unmerge(model, request)
    verdict = _Registration(model, request) if isinstance(request, Register) else _Updating(model, request)
    return verdict.spoken()


class _Judge:
    """What holds for any submission (TF-2: 3.42.4.1.3; TF-3: 4.2.3.1)."""

    mismatch = MISMATCH

    def __init__(self, model, request, things):
        self.model, self.request, self.things = model, request, things
        self.required, self.optional = set(), set()
        self.patients = {request.patient, *(one.patient for one in things)}
        # Whose submission it is cannot be told when it names two, or one nobody knows.
        self.patient = request.patient if self.patients <= model.known and len(self.patients) == 1 else None

    def spoken(self):
        self.common()
        self.judged()
        return Verdict(self.required, self.optional - self.required)

    def common(self):
        ids = [self.request.set_id, *(one.id for one in (*self.things, *self.request.links))]
        # The logical id of what has later versions is taken although the first one may have been removed.
        taken = self.model.things.keys() | {one.lid for one in self.model.things.values()}
        if any(one in taken for one in ids):
            self.required.add(METADATA)
        unique_ids = [self.request.unique_id, *(one.unique_id for one in self.things)]
        if len(set(unique_ids)) < len(unique_ids):
            self.required.add(DUPLICATE_IN_MESSAGE)
        if self.model.users(self.request.unique_id):
            self.required.add(DUPLICATE)
        if not self.patients <= self.model.known:
            self.required.add(UNKNOWN_PATIENT)
        if len(self.patients) > 1:
            self.required.add(self.mismatch)

    def appended(self, one):
        """Nothing is appended to what was made from another document (TF-3: 4.2.2.2)."""
        made = any(other.type == v.XFRM and other.source == one.target for other in self.request.links)
        if one.type == v.APND and (made or self.model.links(source=one.target, types=(v.XFRM,))):
            self.required.add(METADATA)

    def of_another(self, one, code):
        """An object that is not of the patient of the submission."""
        if self.patient is None:
            self.optional.add(code)
        elif self.model.owner(one) != self.patient:
            self.required.add(code)


class _Registration(_Judge):
    """ITI-42 and ITI-61."""

    def __init__(self, model, request):
        super().__init__(model, request, request.things)
        self.own = {request.set_id: SET} | {o.id: o.kind for o in request.things}
        self.own |= {o.id: ASSOCIATION for o in request.links}

    def judged(self):
        for one in self.request.things:
            self._unique_id(one)
        for one in self.request.links:
            (self._relationship if one.type in RELATIONSHIPS else self._membership)(one)
        members = [o.target for o in self.request.links if o.source == self.request.set_id]
        to_be_members = [one.id for one in self.request.things]
        to_be_members += [o.id for o in self.request.links if self._kind(o.source) is FOLDER and o.type == v.HAS_MEMBER]
        if any(members.count(one) != 1 for one in to_be_members):
            self.required.add(METADATA)

    def _kind(self, uuid):
        return self.own.get(uuid) or self.model.kind_of(uuid)

    def _unique_id(self, one):
        users = self.model.users(one.unique_id)
        if one.kind is ENTRY and one.on_demand != self.request.on_demand:
            self.required.add(METADATA)
        if not users:
            return
        if one.kind is FOLDER:
            self.required.add(DUPLICATE)
        elif users[0].kind is not ENTRY or users[0].on_demand != one.on_demand:
            self.required.add(METADATA)
            self.optional |= {HASH, SIZE}
        elif not one.on_demand and users[0].content != one.content:
            self.required.add(HASH)
            if len(CONTENTS[users[0].content]) != len(CONTENTS[one.content]):
                self.required.add(SIZE)

    def _relationship(self, one):
        before = set(self.required)
        if one.source not in self.own:
            self._target(one)
            # Nothing is known of a source that ought to be here: what is wrong with the target may be told or not.
            self.optional |= self.required - before | {METADATA}
            self.required = before | {UNRESOLVED}
            return
        if self.own[one.source] is not ENTRY:
            self.required.add(METADATA)
        self._target(one)

    def _target(self, one):
        self.appended(one)
        source = next((o for o in self.request.things if o.id == one.source), None)
        if one.type == v.IS_SNAPSHOT_OF and source is not None and source.on_demand:
            self.required.add(METADATA)
        if one.target in self.own:
            if self.own[one.target] is not ENTRY or one.target == one.source:
                self.required.add(METADATA)
                self.optional.add(UNRESOLVED)
            elif one.type in (*REPLACEMENTS, v.IS_SNAPSHOT_OF):
                self.required.add(UNRESOLVED)
            return
        target = self.model.things.get(one.target)
        if target is None:
            self.required.add(UNRESOLVED)
        elif target.kind is not ENTRY:
            self.required.add(METADATA)
        else:
            if not target.approved:
                self.required.add(DEPRECATED)
            self.of_another(target, MISMATCH)
            if one.type == v.IS_SNAPSHOT_OF and not target.on_demand:
                self.required.add(METADATA)

    def _membership(self, one):
        source, target = self._kind(one.source), self._kind(one.target)
        if source is None or target is None:
            self.required.add(UNRESOLVED)
            self.optional.add(METADATA)
        elif one.source == self.request.set_id:
            self._member_of_set(one, target)
        elif source is FOLDER and target is ENTRY:
            for end, code in ((one.source, METADATA), (one.target, DEPRECATED)):
                if end in self.own:
                    continue
                known = self.model.things[end]
                self.of_another(known, MISMATCH)
                if not known.approved:
                    self.required.add(code)
        else:
            self.required.add(METADATA)

    def _member_of_set(self, one, target):
        is_new = one.target in self.own
        if target is SET or (target in (FOLDER, ASSOCIATION) and not is_new):
            self.required.add(METADATA)
        if target is ENTRY and one.membership != ("Original" if is_new else "Reference"):
            self.required.add(METADATA)


class _Updating(_Judge):
    """ITI-57 and ITI-92."""

    mismatch = RECONCILIATION

    def __init__(self, model, request):
        super().__init__(model, request, request.versions)

    def judged(self):
        request = self.request
        if not (request.versions or request.statuses or request.links):
            self.required.add(INVALID if request.restricted else OPERATION)
        lids = [one.lid for one in request.versions]
        targets = [one.target for one in request.statuses]
        if len(set(lids)) < len(lids) or len(set(targets)) < len(targets):
            self.required.add(OPERATION)
        for one in request.versions:
            self._version(one)
        for one in request.statuses:
            self._status(one)
        for one in request.links:
            self._link(one)

    def _version(self, one):
        restricted = self.request.restricted
        if restricted and one.kind is FOLDER:
            self.required.add(INVALID)
            self.optional |= {VERSION, UPDATE, IDENTIFIER, RECONCILIATION, "XDSMetadataAnnotationError"}
            return
        if restricted and not one.propagates:
            self.required.add("XDSMetadataAnnotationError")
        if one.lid == one.id:
            self.required.add(INVALID if restricted else OPERATION)
            self.optional |= {VERSION, UPDATE, RECONCILIATION}
            return
        latest = self.model.latest(one.lid)
        if latest is None or latest.kind is not one.kind:
            self.required.add(VERSION)
            return
        if one.previous != latest.version:
            self.required.add(VERSION)
        if not latest.approved and not restricted:
            self.required.add(UPDATE)
        self._kept(one, latest, restricted)
        leaves_behind = one.propagates and self.model.propagable(latest)
        if self._changes_patient(latest) and (restricted or leaves_behind):
            self.required.add(RECONCILIATION)
        if self.patient is None:
            self.optional.add(RECONCILIATION)

    def _changes_patient(self, latest):
        return self.patient is not None and self.model.owner(latest) != self.patient

    def _kept(self, one, latest, restricted):
        """UniqueId, objectType and bytes are those of the version before."""
        if one.unique_id != latest.unique_id:
            self.required.add(IDENTIFIER if restricted else UPDATE)
            self.optional |= {HASH, UNMODIFIABLE, UPDATE}
            return
        if one.kind is FOLDER:
            return
        if one.on_demand != latest.on_demand:
            self.required.add(UNMODIFIABLE if restricted else UPDATE)
            self.optional |= {HASH, METADATA}
        elif not one.on_demand and one.content != latest.content:
            self.required.add(UNMODIFIABLE if restricted else HASH)
            self.optional |= {HASH, SIZE}

    def _status(self, one):
        if one.was_approved == one.approved:
            self.required.add(OPERATION)
        target = self.model.things.get(one.target)
        if target is None:
            self.required.add(UNRESOLVED)
            return
        if target.kind is SET or self.model.is_of_set(target):
            self.required.add(OPERATION)
        if not self.model.is_latest(target) or target.approved != one.was_approved:
            self.required.add(UPDATE)
        self.of_another(target, RECONCILIATION)
        if one.approved and self._is_said_already(target):
            self.required.add(UPDATE)
        if self.request.restricted:
            self.required.add(INVALID)

    def _is_said_already(self, one):
        """Another association in force that joins the same ends: the registry's choice, as with a new one."""
        same = self.model.links(source=one.source, target=one.target, types=(one.type,)) if one.type else []
        return any(other is not one for other in same)

    def _link(self, one):
        self.appended(one)
        source, target = self.model.things.get(one.source), self.model.things.get(one.target)
        if source is None or target is None:
            self.required.add(UNRESOLVED)
        if one.source == one.target:
            self.required.add(METADATA)
        for end in filter(None, (source, target)):
            if not end.approved:
                self.required.add(DEPRECATED if end.kind is ENTRY else UPDATE)
            self.of_another(end, RECONCILIATION)
        if source is None or target is None:
            return
        wanted = (FOLDER if one.type == v.HAS_MEMBER else ENTRY, ENTRY)
        no_snapshot = one.type == v.IS_SNAPSHOT_OF and (source.on_demand or not target.on_demand)
        if (source.kind, target.kind) != wanted or no_snapshot:
            self.required.add(METADATA)
        if self.model.links(source=one.source, target=one.target, types=(one.type,)):
            self.required.add(UPDATE)


def _removal(model, request):
    """Remove Metadata: 3.62.4.1.3."""
    verdict, named = Verdict(), set(request.ids)
    links = model.of(ASSOCIATION)
    if not named <= model.things.keys():
        verdict.required.add(UNRESOLVED)
        verdict.optional |= {REFERENCED, UNREFERENCED}
        return verdict
    kept = [one for one in links if one.id not in named]
    if any({one.source, one.target} & named for one in kept):
        verdict.required.add(REFERENCED)
    touched = {end for one in links if one.id in named for end in (one.source, one.target)} - named
    if touched - {end for one in kept for end in (one.source, one.target)}:
        verdict.required.add(UNREFERENCED)
    return verdict


def _merge(model, request):
    """Both ids stand, and are two."""
    wrong = request.subsumed == request.surviving or not {request.subsumed, request.surviving} <= model.known
    return Verdict({NOT_TAKEN} if wrong else set())


def _unmerge(model, request):
    """The two are merged, and no object has versions of both: each patient would keep a part of it."""
    subsumed = model.subsumed_of(request)
    if subsumed is None:
        return Verdict({NOT_TAKEN})
    parted = model.below(subsumed)
    sides = {}
    for one in model.of(ENTRY, FOLDER):
        sides.setdefault(one.lid, set()).add(one.patient in parted)
    return Verdict({NOT_TAKEN} if any(len(both) > 1 for both in sides.values()) else set())
