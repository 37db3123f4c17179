"""The audit records of each transaction as a table, and the check that a record is what its row says.

A row stands for one record; further records of the same request follow below it. To be read beside the tables of the
framework (ITI TF-2: 3.20 and 3.NN.5.1; DICOM PS3.15 A.5.3):

writer      who wrote the record
event       EventID, then EventActionCode and EventTypeCode
out         EventOutcomeIndicator
taking part ``a > b``: a is the Source (110153), b the Destination (110152); ``*`` stands behind the one that asked
            (UserIsRequestor). Nothing but one of the names of ``PARTIES``
objects     by the names of ``OBJECTS``; in braces what is known of the request
"""

import re
from dataclasses import dataclass

from atna.iti20_record_audit_event import decode_message
from atna.message import parse
from schemas import parse_xml
from schemas.loader import compiled

__all__ = ["ROWS", "Row", "compare", "rows_of"]

TABLE = """
case                     | writer     | event                    | out | taking part             | objects
-------------------------|------------|--------------------------|-----|-------------------------|-------------------------------
ITI-8 A01                | registry   | Patient Record C ITI-8   |  0  | adt* > feed             | Patient v2 {p}
ITI-8 A04                | registry   | Patient Record C ITI-8   |  0  | adt* > feed             | Patient v2 {p}
ITI-8 A05                | registry   | Patient Record C ITI-8   |  0  | adt* > feed             | Patient v2 {p}
ITI-8 A08                | registry   | Patient Record U ITI-8   |  0  | adt* > feed             | Patient v2 {p}
ITI-8 A40                | registry   | Patient Record D ITI-8   |  0  | adt* > feed             | Patient v2 {q}
                         | registry   | Patient Record U ITI-8   |  0  | adt* > feed             | Patient v2 {p}
ITI-8 A37                | registry   | Patient Record U ITI-8   |  0  | adt* > feed             | Patient v2 {p}
                         | registry   | Patient Record U ITI-8   |  0  | adt* > feed             | Patient v2 {q}
ITI-8 A01 refused        | registry   | Patient Record C ITI-8   |  8  | adt* > feed             | Patient v2 {p}
ITI-8 A40 refused        | registry   | Patient Record D ITI-8   |  8  | adt* > feed             | Patient v2 {q}
                         | registry   | Patient Record U ITI-8   |  8  | adt* > feed             | Patient v2 {p}
ITI-64                   | registry   | Patient Record U ITI-64  |  0  | adt* > feed             | Local id {l}; New id {p}; Previous id {q}; Made set
ITI-64 refused           | registry   | Patient Record U ITI-64  |  8  | adt* > feed             | Unchanged new id {p}; Unchanged previous id {p}
ITI-44 add               | registry   | Patient Record C ITI-44  |  0  | node* > registry        | Patient v3 {p}
ITI-44 revise            | registry   | Patient Record U ITI-44  |  0  | node* > registry        | Patient v3 {p}
ITI-44 merge             | registry   | Patient Record D ITI-44  |  0  | node* > registry        | Patient v3 {q}
                         | registry   | Patient Record U ITI-44  |  0  | node* > registry        | Patient v3 {p}
ITI-44 refused           | registry   | Patient Record C ITI-44  |  8  | node* > registry        | Patient v3 {p}
ITI-44 merge refused     | registry   | Patient Record D ITI-44  |  8  | node* > registry        | Patient v3 {q}
                         | registry   | Patient Record U ITI-44  |  8  | node* > registry        | Patient v3 {p}
ITI-47                   | registry   | Query E ITI-47           |  0  | node* > registry        | Patient {p}; Query ITI-47 {query}
                         | registry   | Query E ITI-47           |  0  | node* > registry        | Patient {q}; Query ITI-47 {query}
ITI-47 nothing found     | registry   | Query E ITI-47           |  0  | node* > registry        | Query ITI-47 {query}
ITI-47 refused           | registry   | Query E ITI-47           |  8  | node* > registry        | Query ITI-47 {query}
ITI-42                   | registry   | Import C ITI-42          |  0  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-42 refused           | registry   | Import C ITI-42          |  8  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-42 wrong metadata    | registry   | Import C ITI-42          |  8  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-42 not by the schema | registry   | Import C ITI-42          |  8  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-42 of nothing        | registry   | Import C ITI-42          |  8  | node* > registry        | SubmissionSet unknown
ITI-61                   | registry   | Import C ITI-61          |  0  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-61 refused           | registry   | Import C ITI-61          |  8  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-57                   | registry   | Import U ITI-57          |  0  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-57 refused           | registry   | Import U ITI-57          |  8  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-92                   | registry   | Import U ITI-92          |  0  | node* > registry        | Patient {p}; SubmissionSet home {s}
ITI-92 refused           | registry   | Import U ITI-92          |  8  | node* > registry        | Patient {p}; SubmissionSet home {s}
ITI-62                   | registry   | Patient Record D ITI-62  |  0  | node* > registry        | Patient {p}; Object {a}; Object {b}; Object {c}
ITI-62 refused           | registry   | Patient Record D ITI-62  |  8  | node* > registry        | Object {a}
ITI-18                   | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-18 by id             | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-18 nothing found     | registry   | Query E ITI-18           |  0  | node* > registry        | Query ITI-18 {query}
ITI-18 with home         | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query home ITI-18 {query}
ITI-18 refused           | registry   | Query E ITI-18           |  8  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-51                   | registry   | Query E ITI-51           |  0  | node* > registry        | Patient {p}; Query ITI-51 {query}
                         | registry   | Query E ITI-51           |  0  | node* > registry        | Patient {q}; Query ITI-51 {query}
ITI-51 refused           | registry   | Query E ITI-51           |  8  | node* > registry        | Query ITI-51 {query}
ITI-41                   | repository | Import C ITI-41          |  0  | node* > repository      | Patient {p}; SubmissionSet {s}
                         | repository | Export R ITI-42          |  0  | own* > its registry     | Patient {p}; SubmissionSet {s}
                         | registry   | Import C ITI-42          |  0  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-41 sent again        | repository | Import C ITI-41          |  0  | node* > repository      | Patient {p}; SubmissionSet {s}
ITI-41 refused           | repository | Import C ITI-41          |  8  | node* > repository      | Patient {p}; SubmissionSet {s}
ITI-41 registry refuses  | repository | Import C ITI-41          |  8  | node* > repository      | Patient {p}; SubmissionSet {s}
                         | repository | Export R ITI-42          |  8  | own* > its registry     | Patient {p}; SubmissionSet {s}
                         | registry   | Import C ITI-42          |  8  | node* > registry        | Patient {p}; SubmissionSet {s}
ITI-41 registry away     | repository | Import C ITI-41          |  8  | node* > repository      | Patient {p}; SubmissionSet {s}
                         | repository | Export R ITI-42          | 12  | own* > its registry     | Patient {p}; SubmissionSet {s}
                         | repository | Query E ITI-18           | 12  | own* > its registry     | Patient {p}; Query ITI-18 {query}
ITI-43                   | repository | Export R ITI-43          |  0  | repository > node*      | Patient {p}; Document {d}; Document {e}
ITI-43 two patients      | repository | Export R ITI-43          |  0  | repository > node*      | Patient {p}; Document {d}
                         | repository | Export R ITI-43          |  0  | repository > node*      | Patient {q}; Document {e}
ITI-43 partly            | repository | Export R ITI-43          |  0  | repository > node*      | Patient {p}; Document {d}
                         | repository | Export R ITI-43          |  8  | repository > node*      | Document {e}
ITI-43 refused           | repository | Export R ITI-43          |  8  | repository > node*      | Document {d}
ITI-86                   | repository | Patient Record D ITI-86  |  0  | node* > repository      | Patient {p}; Erased document {d}
                         | repository | Query E ITI-18           |  0  | own* > its registry     | Patient {p}; Query ITI-18 {query}
                         | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-86 partly            | repository | Patient Record D ITI-86  |  0  | node* > repository      | Patient {p}; Erased document {d}
                         | repository | Patient Record D ITI-86  |  8  | node* > repository      | Erased document {e}
                         | repository | Query E ITI-18           |  0  | own* > its registry     | Patient {p}; Query ITI-18 {query}
                         | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-86 refused           | repository | Patient Record D ITI-86  |  8  | node* > repository      | Erased document {d}
ITI-86 registry away     | repository | Patient Record D ITI-86  |  0  | node* > repository      | Patient {p}; Erased document {d}
                         | repository | Query E ITI-18           | 12  | own* > its registry     | Patient {p}; Query ITI-18 {query}
ITI-38                   | gateway    | Query E ITI-38           |  0  | node* > responding      | Patient {p}; Query home ITI-38 {query}
                         | gateway    | Query E ITI-18           |  0  | own* > its registry     | Patient {p}; Query home ITI-18 {query}
                         | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-38 registry refuses  | gateway    | Query E ITI-38           |  8  | node* > responding      | Patient {p}; Query home ITI-38 {query}
                         | gateway    | Query E ITI-18           |  8  | own* > its registry     | Patient {p}; Query home ITI-18 {query}
                         | registry   | Query E ITI-18           |  8  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-38 refused           | gateway    | Query E ITI-38           |  8  | node* > responding      | Query home ITI-38 {query}
ITI-39                   | gateway    | Export R ITI-39          |  0  | responding > node*      | Document home {d}
                         | gateway    | Import C ITI-43          |  0  | its repository > own*   | Document home {d}
                         | repository | Export R ITI-43          |  0  | repository > node*      | Patient {p}; Document {d}
ITI-39 partly            | gateway    | Export R ITI-39          |  0  | responding > node*      | Document home {d}
                         | gateway    | Export R ITI-39          |  8  | responding > node*      | Document home {e}
                         | gateway    | Import C ITI-43          |  0  | its repository > own*   | Document home {d}
                         | gateway    | Import C ITI-43          |  8  | its repository > own*   | Document home {e}
                         | repository | Export R ITI-43          |  0  | repository > node*      | Patient {p}; Document {d}
                         | repository | Export R ITI-43          |  8  | repository > node*      | Document {e}
ITI-39 refused           | gateway    | Export R ITI-39          |  8  | responding > node*      | Document {d}
ITI-55                   | gateway    | Query E ITI-55           |  0  | node* > responding      | Patient {p}; Query home ITI-55 {query}
                         | gateway    | Query E ITI-47           |  0  | own* > its registry     | Patient {p}; Query ITI-47 made
                         | registry   | Query E ITI-47           |  0  | node* > registry        | Patient {p}; Query ITI-47 made
ITI-55 nobody            | gateway    | Query E ITI-55           |  0  | node* > responding      | Query home ITI-55 {query}
                         | gateway    | Query E ITI-47           |  0  | own* > its registry     | Query ITI-47 made
                         | registry   | Query E ITI-47           |  0  | node* > registry        | Query ITI-47 made
ITI-55 refused           | gateway    | Query E ITI-55           |  8  | node* > responding      | Query home ITI-55 {query}
                         | gateway    | Query E ITI-47           |  8  | own* > its registry     | Query ITI-47 made
                         | registry   | Query E ITI-47           |  8  | node* > registry        | Query ITI-47 made
ITI-92 across            | gateway    | Import U ITI-92          |  0  | node* > responding      | Patient {p}; SubmissionSet home {s}
                         | gateway    | Export U ITI-92          |  0  | own* > its registry     | Patient {p}; SubmissionSet home {s}
                         | registry   | Import U ITI-92          |  0  | node* > registry        | Patient {p}; SubmissionSet home {s}
ITI-18 across            | gateway    | Query E ITI-18           |  0  | node* > initiating      | Patient {p}; Query ITI-18 {query}
                         | gateway    | Query E ITI-18           |  0  | own* > its registry     | Patient {p}; Query home ITI-18 {query}
                         | registry   | Query E ITI-18           |  0  | node* > registry        | Patient {p}; Query ITI-18 {query}
ITI-43 across            | gateway    | Export R ITI-43          |  0  | initiating > node*      | Document home {d}
                         | gateway    | Import C ITI-43          |  0  | its repository > own*   | Document home {d}
                         | repository | Export R ITI-43          |  0  | repository > node*      | Patient {p}; Document {d}
ITI-81                   | audit      | Audit Log Used R         |  0  | node* > log             | Log {url}
ITI-81 one               | audit      | Audit Log Used R         |  0  | node* > log             | Log {url}
ITI-81 refused           | audit      | Audit Log Used R         |  8  | node* > log             | Log {url}
start                    | registry   | Application Activity E 110120 | 0 | application > launcher* |
                         | repository | Application Activity E 110120 | 0 | application > launcher* |
                         | gateway    | Application Activity E 110120 | 0 | application > launcher* |
stop                     | registry   | Application Activity E 110121 | 0 | application > launcher* |
                         | repository | Application Activity E 110121 | 0 | application > launcher* |
                         | gateway    | Application Activity E 110121 | 0 | application > launcher* |
"""

EVENTS = {
    "Application Activity": "110100",
    "Audit Log Used": "110101",
    "Export": "110106",
    "Import": "110107",
    "Patient Record": "110110",
    "Query": "110112",
    "Security Alert": "110113",
}
ROLES = {"110150": "Application", "110151": "Application Launcher", "110152": "Destination", "110153": "Source"}
IP, NAME = 2, 1
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Name: ParticipantObjectTypeCode, -Role, -DataLifeCycle, ParticipantObjectIDTypeCode (code, system, text), details that
# must be there beside those of OWN_DETAILS
PATIENT_ID = ("2", "RFC-3881", "Patient Number")
SUBMISSION_SET = (
    "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd", "IHE XDS Metadata", "submission set classificationNode",
)  # fmt: skip
DOCUMENT_ID = ("9", "RFC-3881", "Report Number")
LINKED = ("MSH-10", "urn:ihe:iti:xpid:2017:patientIdentifierType")
HOME = "urn:ihe:iti:xca:2010:homeCommunityId"
STORED_QUERY = ("ITI-18", "IHE Transactions", "Registry Stored Query")
MULTI_PATIENT = ("ITI-51", "IHE Transactions", "Multi-Patient Stored Query")
DEMOGRAPHICS = ("ITI-47", "IHE Transactions", "Patient Demographics Query HL7 v3")
CROSS_QUERY = ("ITI-38", "IHE Transactions", "Cross Gateway Query")
DISCOVERY = ("ITI-55", "IHE Transactions", "Cross Gateway Patient Discovery")
OTHER_HOME = "ihe:homeCommunityID"
"""The framework spells it so for documents and patients that are found, and differently for queries."""
OBJECTS = {
    "Patient": (1, 1, None, PATIENT_ID, ()),
    "Patient v2": (1, 1, None, PATIENT_ID, ("MSH-10",)),
    "Patient v3": (1, 1, None, PATIENT_ID, ("II",)),
    "Local id": (1, 1, None, PATIENT_ID, LINKED),
    "New id": (1, 1, 1, PATIENT_ID, LINKED),
    "Previous id": (1, 1, 14, PATIENT_ID, LINKED),
    "Unchanged new id": (1, 1, None, PATIENT_ID, LINKED),
    "Unchanged previous id": (1, 1, None, PATIENT_ID, LINKED),
    "SubmissionSet": (2, 20, None, SUBMISSION_SET, ()),
    "Made set": (2, 20, None, SUBMISSION_SET, ()),
    "SubmissionSet home": (2, 20, None, SUBMISSION_SET, (HOME,)),
    "Query ITI-18": (2, 24, None, STORED_QUERY, ("QueryEncoding",)),
    "Query home ITI-18": (2, 24, None, STORED_QUERY, ("QueryEncoding", HOME)),
    "Query ITI-51": (2, 24, None, MULTI_PATIENT, ("QueryEncoding",)),
    "Query ITI-47": (2, 24, None, DEMOGRAPHICS, ("QueryEncoding",)),
    "Query home ITI-38": (2, 24, None, CROSS_QUERY, ("QueryEncoding", HOME)),
    "Query home ITI-55": (2, 24, None, DISCOVERY, ("QueryEncoding", OTHER_HOME)),
    "Document home": (2, 3, None, DOCUMENT_ID, ("Repository Unique Id", OTHER_HOME)),
    "Document": (2, 3, None, DOCUMENT_ID, ("Repository Unique Id",)),
    "Erased document": (2, 3, 15, DOCUMENT_ID, ("Repository Unique Id",)),
    "Object": (2, 3, 15, ("urn:ihe:iti:2017:ObjectRef", "IHE XDS Metadata", "registry object reference"), ()),
    "Log": (2, 13, None, ("12", "RFC-3881", "URI"), ()),
}
OWN_DETAILS = {"urn:dossier:access-rule", "urn:dossier:search"}
"""What this house tells beyond the framework."""


@dataclass(frozen=True)
class Row:
    """One record that a case is to leave."""

    writer: str
    event: str
    outcome: int
    parties: str
    objects: tuple[str, ...]


def _rows():
    rows = {}
    for line in TABLE.strip().splitlines()[2:]:
        case, writer, event, outcome, parties, objects = (cell.strip() for cell in line.split("|"))
        if case:
            here = rows[case] = []
        here.append(Row(writer, event, int(outcome), parties, tuple(filter(None, objects.split("; ")))))
    return rows


ROWS = _rows()


def rows_of(case, known):
    """What the case is to leave, as text, sorted; ``known`` says what stands for the names in braces."""
    return sorted(
        f"{row.writer} | {row.event} | {row.outcome} | {row.parties} | " + "; ".join(row.objects).format_map(known)
        for row in ROWS[case]
    )


def compare(messages, places):
    """Records as rows of the table, sorted; what no row can say of them fails here. ``places``: ``Places``."""
    schema = compiled("audit")
    return sorted(_told(message, places, schema) for message in messages)


@dataclass(frozen=True)
class Places:
    """Addresses of the services, and the host's name as records have it."""

    registry: str
    repository: str
    gateway: str
    log: str
    host: str
    home: str


def _told(message, places, schema):
    syslog = decode_message(message)
    schema.assertValid(parse_xml(syslog.message))
    record = parse(syslog.message)
    event, writer = record.event, syslog.app_name.removeprefix("dossier-")
    _check_header(syslog, record, places)
    (event_id,) = [name for name, code in EVENTS.items() if code == event.event_id.code]
    types = [code.code for code in event.type_codes]
    text = " ".join([event_id, event.action, *types])
    assert event.event_id.text == event_id
    assert (event.outcome_description is not None) == (event.outcome in (4, 8)) or event.outcome == 12, event
    objects = "; ".join(_object(item, places) for item in record.objects)
    return f"{writer} | {text} | {event.outcome} | {_parties(record, syslog, places)} | {objects}"


def _check_header(syslog, record, places):
    """RFC 5424 as ITI TF-2: 3.20 wants it, and the source of the record."""
    assert syslog.priority == (85 if record.event.outcome == 0 else 84)
    assert syslog.message_id == "IHE+RFC-3881"
    assert syslog.timestamp == record.event.date_time
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", syslog.timestamp)
    assert syslog.host == places.host
    assert not syslog.message.startswith(b"\xef\xbb\xbf")
    assert record.source.enterprise_site_id == places.home
    assert record.source.source_id
    assert record.source.type_codes[0].code == "4"


def _parties(record, syslog, places):
    first, second, *others = [_party(one, syslog, places) for one in record.participants]
    assert not others, others
    (role_one, text_one), (role_two, text_two) = first, second
    assert (role_one, role_two) in {("Source", "Destination"), ("Application", "Application Launcher")}
    return f"{text_one} > {text_two}"


def _party(one, syslog, places):
    """(role, name): the name says where it is, what it is called, and its process id where it wrote the record."""
    (role,) = [ROLES[code.code] for code in one.roles]
    network = (one.network_id, one.network_type)
    own = one.alternative_user_id == syslog.process_id
    assert own or one.alternative_user_id is None
    host, loopback = (places.host, NAME), ("127.0.0.1", IP)
    known = {
        ("127.0.0.1", loopback, False): "node",
        (places.registry, loopback, True): "registry",
        (places.registry, loopback, False): "its registry",
        (places.repository, loopback, True): "repository",
        (places.repository, loopback, False): "its repository",
        (f"{places.gateway}/responding", loopback, True): "responding",
        (f"{places.gateway}/initiating", loopback, True): "initiating",
        (f"dossier-repository@{places.host}", host, True): "own",
        (f"dossier-gateway@{places.host}", host, True): "own",
        ("HOSPITAL|ADT", loopback, False): "adt",
        ("AD|XDS", host, True): "feed",
        (syslog.process_id, host, False): "application",
        (f"supervisor@{places.host}", host, False): "launcher",
    }
    name = known.get((one.user_id, network, own))
    if name is None and one.user_id.startswith(places.log) and (network, own) == (loopback, True):
        name = "log"
    assert name is not None, one
    return role, name + "*" * one.is_requestor


def _object(item, places):
    details = {detail.type: detail.value for detail in item.details}
    asked = {name for name in details if name not in OWN_DETAILS}
    kind = (item.type_code, item.role, item.life_cycle, (item.id_type.code, item.id_type.system, item.id_type.text))
    assert details.get("QueryEncoding", b"UTF-8") == b"UTF-8"
    for home in (HOME, OTHER_HOME):
        assert details.get(home, places.home.encode()) == places.home.encode()
    assert (item.query is not None) == (item.role == 24)
    assert item.name == ("Security Audit Log" if item.role == 13 else None)
    names = [name for name, row in OBJECTS.items() if (*kind, asked) == (*row[:4], set(row[4]))]
    if "MSH-10" in asked and len(asked) > 1:
        role = details["urn:ihe:iti:xpid:2017:patientIdentifierType"].decode()
        word = {"localPatientId": "local", "newPatientId": "new", "previousPatientId": "previous"}[role]
        names = [name for name in names if word in name.lower()]
    if "Made set" in names:  # by the registry itself: of ITI-64 it has no uniqueId that a sender could know
        if item.id.startswith("urn:uuid:"):
            return "Made set"
        names.remove("Made set")
    assert len(names) == 1, (item, names)
    made = item.id_type.code == "ITI-47" and UUID.fullmatch(item.id)  # a gateway's own question
    return f"{names[0]} {'made' if made else item.id}"
