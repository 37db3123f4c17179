"""Valid submissions, and any change to them, shared by all tests.

``submission()`` is one laboratory report of one patient. Ids inside are symbolic, unique ids are new on every call.
Changes are functions from object to object, e.g. ``submission(entry=without_slot("size"))``; several go in a tuple.
"""

import hashlib
import uuid
from base64 import b64encode
from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from ihe import vocabulary as v
from ihe.affinity_domain import affinity_domain, read_codes
from ihe.ebrim import write_object
from ihe.ebrs import submit_objects_request
from ihe.matricule import MatriculePolicy
from ihe.registry_objects import (
    Classification,
    ExternalIdentifier,
    Kind,
    LocalizedString,
    RegistryObject,
    Slot,
    SubmittedObjects,
)

HOME = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.9999"
REPOSITORY = "1.3.6.1.4.1.21367.2011.2.3.9999"
AUTHORITY = "1.3.6.1.4.1.21367.13.20.1000"
SOURCE = "1.3.6.1.4.1.21367.2008.1.2.178"
PATIENT = f"P-4711^^^&{AUTHORITY}&ISO"
LOINC, SNOMED = "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96"
FORMATS, CONFIDENTIALITY = "1.3.6.1.4.1.19376.1.2.3", "2.16.840.1.113883.5.25"
LOCAL = "1.3.6.1.4.1.21367.2017.3"
MATRICULES = "1.3.182.4.4"
CONTENT = b"Haemoglobin 14.1 g/dl\n"
CODE_FILE = Path(__file__).parent.parent / "ihe" / "codes.csv"


@cache
def domain():
    """The affinity domain of the shipped code file, any assigning authority; ids of ``MATRICULES`` are checked."""
    codes = read_codes(CODE_FILE.read_text(encoding="utf-8"))
    return affinity_domain(HOME, (), codes, MatriculePolicy(frozenset({MATRICULES})))


def new_oid():
    """A new OID below 2.25, derived from a UUID."""
    return f"2.25.{uuid.uuid4().int}"


def new_uuid():
    """A new ``urn:uuid:`` id."""
    return f"urn:uuid:{uuid.uuid4()}"


# ------------------------------------------------------------------------------------------ parts


def text(value):
    """Name or Description with one LocalizedString."""
    return (LocalizedString(value, "en-us", "UTF-8"),)


def code(scheme, value, coding_scheme, display="a name"):
    """A coded attribute; ``display=None`` leaves the Name out."""
    name = () if display is None else text(display)
    return Classification(None, scheme, None, None, value, name, (), (Slot("codingScheme", (coding_scheme,)),))


def author(scheme, **slots):
    """An author; slots as ``authorPerson=("^Welby^Marcus",)``."""
    return Classification(
        None, scheme, None, None, "", (), (), tuple(Slot(name, tuple(values)) for name, values in slots.items())
    )


def marker(node):
    """A classification node."""
    return Classification(None, None, node, None, None)


def identifier(scheme, value, name):
    """An ExternalIdentifier."""
    return ExternalIdentifier(None, scheme, None, value, text(name))


# ------------------------------------------------------------------------------------------ objects


def document_entry(symbol="Document01", patient=PATIENT, content=CONTENT, unique_id=None):
    """A stable DocumentEntry complete for ITI-42, hash and size those of ``content``."""
    return RegistryObject(
        Kind.DOCUMENT_ENTRY,
        symbol,
        object_type=v.STABLE,
        mime_type="text/plain",
        name=text("Laboratory report"),
        slots=(
            Slot("creationTime", ("20240229120000",)),
            Slot("hash", (hashlib.sha1(content, usedforsecurity=False).hexdigest(),)),
            Slot("languageCode", ("fr-LU",)),
            Slot("repositoryUniqueId", (REPOSITORY,)),
            Slot("serviceStartTime", ("202402290800",)),
            Slot("serviceStopTime", ("202402290815",)),
            Slot("size", (str(len(content)),)),
            Slot("sourcePatientId", ("89765a87b^^^&1.3.4.5&ISO",)),
            Slot("sourcePatientInfo", ("PID-5|Doe^Jane^^^", "PID-7|19560527", "PID-8|F")),
        ),
        classifications=(
            author(
                v.ENTRY_AUTHOR,
                authorPerson=("11375^Welby^Marcus^J^Jr MD^Dr^^^&1.2.3.4&ISO",),
                authorInstitution=("Cleveland Clinic^^^^^^^^^1.2.3.9", "Parma Community"),
                authorRole=("Attending",),
                authorSpecialty=("Orthopedic",),
                authorTelecommunication=("^^Internet^lab@example.org",),
            ),
            code(v.ENTRY_CLASS, "11502-2", LOINC, "Laboratory report"),
            code(v.ENTRY_CONFIDENTIALITY, "N", CONFIDENTIALITY, "normal"),
            code(v.ENTRY_EVENT, "MPQ-eventcode-1", LOCAL, "an event"),
            code(v.ENTRY_FORMAT, "urn:ihe:iti:xds:2017:mimeTypeSufficient", FORMATS, "mimeType sufficient"),
            code(v.ENTRY_FACILITY_TYPE, "22232009", SNOMED, "Hospital"),
            code(v.ENTRY_PRACTICE_SETTING, "708184003", SNOMED, "Laboratory medicine"),
            code(v.ENTRY_TYPE, "11502-2", LOINC, "Laboratory report"),
        ),
        external_identifiers=(
            identifier(v.ENTRY_PATIENT_ID, patient, "XDSDocumentEntry.patientId"),
            identifier(v.ENTRY_UNIQUE_ID, unique_id or new_oid(), "XDSDocumentEntry.uniqueId"),
        ),
    )


def submission_set(symbol="SubmissionSet01", patient=PATIENT, unique_id=None):
    """A SubmissionSet complete for ITI-42."""
    return RegistryObject(
        Kind.SUBMISSION_SET,
        symbol,
        name=text("Annual physical"),
        slots=(Slot("submissionTime", ("20240229130000",)),),
        classifications=(
            marker(v.NODE_SUBMISSION_SET),
            author(v.SUBMISSION_SET_AUTHOR, authorPerson=("^Dopplemeyer^Sherry",)),
            code(v.SUBMISSION_SET_CONTENT_TYPE, "22232009", SNOMED, "Hospital"),
        ),
        external_identifiers=(
            identifier(v.SUBMISSION_SET_UNIQUE_ID, unique_id or new_oid(), "XDSSubmissionSet.uniqueId"),
            identifier(v.SUBMISSION_SET_SOURCE_ID, SOURCE, "XDSSubmissionSet.sourceId"),
            identifier(v.SUBMISSION_SET_PATIENT_ID, patient, "XDSSubmissionSet.patientId"),
        ),
    )


def folder(symbol="Folder01", patient=PATIENT, unique_id=None):
    """A Folder complete for ITI-42."""
    return RegistryObject(
        Kind.FOLDER,
        symbol,
        name=text("Referrals"),
        classifications=(marker(v.NODE_FOLDER), code(v.FOLDER_CODE, "Referrals", LOCAL, "Referrals")),
        external_identifiers=(
            identifier(v.FOLDER_UNIQUE_ID, unique_id or new_oid(), "XDSFolder.uniqueId"),
            identifier(v.FOLDER_PATIENT_ID, patient, "XDSFolder.patientId"),
        ),
    )


def association(association_type, source, target, symbol=None, status=None):
    """An Association; ``status`` is SubmissionSetStatus."""
    slots = () if status is None else (Slot("SubmissionSetStatus", (status,)),)
    return RegistryObject(Kind.ASSOCIATION, symbol, type=association_type, source=source, target=target, slots=slots)


def has_member(source, target, symbol=None, status=None):
    """A HasMember association."""
    return association(v.HAS_MEMBER, source, target, symbol, status)


# ------------------------------------------------------------------------------------------ submissions


def submission(
    entries=1,
    folders=0,
    patient=PATIENT,
    *,
    contents=(),
    members=True,
    relations=(),
    extra=(),
    entry=(),
    submission_set=(),
    folder=(),
    association=(),
    unique_id=None,
):
    """A valid submission: a SubmissionSet, ``entries`` entries, ``folders`` folders, all linked.

    ``contents``    bytes of the documents, in order (default ``CONTENT`` and a number)
    ``members``     put every entry into every folder of the submission
    ``relations``   (association type, target) pairs, each from the first entry
    ``entry``, ``submission_set``, ``folder``, ``association``   changes to every object of that kind
    ``extra``       more objects, unchanged, e.g. ``has_member(...)``
    ``unique_id``   of the SubmissionSet
    """
    documents = [f"Document{number:02}" for number in range(1, entries + 1)]
    binders = [f"Folder{number:02}" for number in range(1, folders + 1)]
    objects = [_submission_set("SubmissionSet01", patient, unique_id)]
    for number, symbol in enumerate(documents):
        content = contents[number] if number < len(contents) else CONTENT + b"%d" % number
        objects += [document_entry(symbol, patient, content), has_member("SubmissionSet01", symbol, status="Original")]
    for symbol in binders:
        objects += [_folder(symbol, patient), has_member("SubmissionSet01", symbol)]
        for document in documents if members else ():
            link = f"{symbol}-{document}"
            objects += [has_member(symbol, document, link), has_member("SubmissionSet01", link)]
    objects += [_association(kind, documents[0], target) for kind, target in relations]
    changes = {
        Kind.DOCUMENT_ENTRY: entry,
        Kind.SUBMISSION_SET: submission_set,
        Kind.FOLDER: folder,
        Kind.ASSOCIATION: association,
    }
    return SubmittedObjects((*(changed(one, changes[one.kind]) for one in objects), *extra))


_submission_set, _folder, _association = submission_set, folder, association


# ------------------------------------------------------------------------------------------ changes


def changed(obj, changes):
    """Apply one change, or several in order."""
    for change in changes if isinstance(changes, tuple | list) else (changes,):
        obj = change(obj)
    return obj


def having(**fields):
    """Other values of RegistryObject's own fields: ``having(mime_type="text/xml")``."""
    return lambda obj: replace(obj, **fields)


def with_slot(name, *values):
    """One slot of this name with these values, in place of any."""
    return lambda obj: replace(
        obj, slots=(*(slot for slot in obj.slots if slot.name != name), Slot(name, tuple(values)))
    )


def without_slot(name):
    """No slot of this name."""
    return lambda obj: replace(obj, slots=tuple(slot for slot in obj.slots if slot.name != name))


def more_slots(*slots):
    """More slots behind the others."""
    return lambda obj: replace(obj, slots=(*obj.slots, *slots))


def with_classification(*classifications):
    """More classifications behind the others."""
    return lambda obj: replace(obj, classifications=(*obj.classifications, *classifications))


def without_code(scheme):
    """No classification of this scheme (or node)."""
    return lambda obj: replace(
        obj, classifications=tuple(one for one in obj.classifications if scheme not in (one.scheme, one.node))
    )


def with_code(scheme, value, coding_scheme, display="a name"):
    """One code of this scheme, in place of any."""
    one = code(scheme, value, coding_scheme, display)
    return lambda obj: with_classification(one)(without_code(scheme)(obj))


def with_author(scheme, **slots):
    """One author with these slots, in place of any."""
    one = author(scheme, **slots)
    return lambda obj: with_classification(one)(without_code(scheme)(obj))


def each_classification(scheme, **fields):
    """Other values of the fields of every classification of this scheme."""
    return lambda obj: replace(
        obj,
        classifications=tuple(replace(one, **fields) if one.scheme == scheme else one for one in obj.classifications),
    )


def without_identifier(scheme):
    """No ExternalIdentifier of this scheme."""
    return lambda obj: replace(
        obj, external_identifiers=tuple(one for one in obj.external_identifiers if one.scheme != scheme)
    )


def with_identifier(scheme, value):
    """Another value of the ExternalIdentifier of this scheme."""
    return each_identifier(scheme, value=value)


def each_identifier(scheme, **fields):
    """Other values of the fields of the ExternalIdentifiers of this scheme."""
    return lambda obj: replace(
        obj,
        external_identifiers=tuple(
            replace(one, **fields) if one.scheme == scheme else one for one in obj.external_identifiers
        ),
    )


def only(symbol, *changes):
    """Changes to the object of this id alone."""
    return lambda obj: changed(obj, changes) if obj.id == symbol else obj


# ------------------------------------------------------------------------------------------ messages


def submit_objects_request_xml(objects):
    """lcm:SubmitObjectsRequest, the body of ITI-42."""
    return submit_objects_request([write_object(one) for one in objects.objects])


def provide_and_register_xml(objects, documents=None, *, content_ids=None):
    """xdsb:ProvideAndRegisterDocumentSetRequest, the body of ITI-41.

    ``documents`` maps the id of an entry to its bytes; by default every entry has ``CONTENT`` and its number, as
    ``submission`` makes them. A document named in ``content_ids`` (id to Content-ID without brackets) is an
    xop:Include, the others are inline base64.
    """
    if documents is None:
        entries = objects.of(Kind.DOCUMENT_ENTRY)
        documents = {one.id: CONTENT + b"%d" % number for number, one in enumerate(entries)}
    content_ids = content_ids or {}
    parts = []
    for symbol, content in documents.items():
        if symbol in content_ids:
            inner = f'<xop:Include xmlns:xop="{v.XOP}" href={quoteattr("cid:" + content_ids[symbol])}/>'
        else:
            inner = escape(b64encode(content).decode())
        parts.append(f"<xdsb:Document id={quoteattr(symbol)}>{inner}</xdsb:Document>")
    return b"".join(
        [
            f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="{v.XDSB}">'.encode(),
            submit_objects_request_xml(objects),
            "".join(parts).encode(),
            b"</xdsb:ProvideAndRegisterDocumentSetRequest>",
        ]
    )
