"""FHIR R4 in both forms: the tables against an independent model of FHIR, what is read, what is written, what is refused."""

import base64
import copy
import json

import pytest
from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.auditevent import AuditEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from atna import fhir_types
from atna.fhir_audit_event import Patient, audit_event, code_system, parse_patient, print_patient, system_uri
from atna.fhir_bundle import entries_of
from atna.fhir_reading import Form, ResourceRefused, form_of, read_json, read_resource
from atna.fhir_writing import as_json, as_xml
from atna.message import (
    AuditMessage,
    AuditSource,
    CodedValue,
    Detail,
    EventIdentification,
    Participant,
    ParticipantObject,
)
from tests.atna.fhir_samples import balp, everything, hostile

SAMPLES = {"balp": balp(), "everything": everything()}


def model_of(type_):
    return get_fhir_model_class("".join(part[0].upper() + part[1:] for part in type_.split(".")))


@pytest.mark.parametrize("type_", sorted(set(fhir_types._TYPES)))
def test_elements_have_the_order_type_and_number_of_fhir(type_):
    model = model_of(type_)
    ours = [element for element in fhir_types.elements(type_) if not element.attribute]
    choices, _required = fhir_types.choice_of(type_)
    names = [element.name for element in ours if element.name not in choices]  # value[x] is one place
    assert names == [name for name in model.elements_sequence() if name in names]
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for element in ours:
        field = fields[element.name]
        assert element.many == ("List" in str(field.annotation)), element.name
        extra = field.json_schema_extra or {}
        required = extra.get("element_required", field.is_required())
        assert element.required == bool(required), element.name


@pytest.mark.parametrize("name", SAMPLES)
def test_both_forms_carry_the_same(name):
    sample = SAMPLES[name]
    assert read_resource(as_json(sample)) == sample
    assert read_resource(json.dumps(sample, indent=2).encode()) == sample
    xml = as_xml(sample)
    assert read_resource(xml) == sample
    assert read_resource(b"\xef\xbb\xbf" + xml) == sample


@pytest.mark.parametrize("name", SAMPLES)
def test_an_independent_reader_sees_the_same_in_our_xml(name):
    sample = copy.deepcopy(SAMPLES[name]) | {"recorded": "2026-03-01T10:00:00+01:00"}
    # It does not read the ids of elements.
    sample["agent"][0].pop("id", None)
    sample.get("_recorded", {}).pop("id", None)
    assert json.loads(AuditEvent.model_validate_xml(as_xml(sample)).model_dump_json()) == sample
    names = [etree.QName(child).localname for child in etree.fromstring(as_xml(sample))]
    order = [name for name in AuditEvent.elements_sequence() if name in names]
    assert list(dict.fromkeys(names)) == order


def test_what_a_record_is_shows_in_its_first_bytes():
    for data, form in [
        (b"<85>1 2026", Form.SYSLOG), (b"", Form.SYSLOG), (b"text", Form.SYSLOG), (b" {", Form.JSON),
        (b"\xef\xbb\xbf{", Form.JSON), (b"<AuditEvent", Form.XML), (b"<?xml", Form.XML), (b"\n<!--", Form.XML),
    ]:  # fmt: skip
        assert form_of(data) is form, data


@pytest.mark.parametrize(("name", "data"), hostile(), ids=[name for name, _data in hostile()])
def test_what_is_hostile_is_refused_with_a_reason(name, data):
    with pytest.raises(ResourceRefused) as refused:
        read_resource(data)
    assert "passwd" not in str(refused.value)


def without(path):
    def change(sample):
        *way, last = path
        for step in way:
            sample = sample[step]
        del sample[last]

    return change


def put(value, *path):
    def change(sample):
        *way, last = path
        for step in way:
            sample = sample[step]
        sample[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "place", "code"),
    [
        (without(["type"]), "AuditEvent.type", "required"),
        (without(["recorded"]), "AuditEvent.recorded", "required"),
        (without(["agent"]), "AuditEvent.agent", "required"),
        (without(["source"]), "AuditEvent.source", "required"),
        (without(["agent", 1, "requestor"]), "AuditEvent.agent[1].requestor", "required"),
        (without(["source", "observer"]), "AuditEvent.source.observer", "required"),
        (put([], "agent"), "AuditEvent.agent", "structure"),
        (put({}, "agent"), "AuditEvent.agent", "structure"),
        (put([None], "agent"), "AuditEvent.agent[0]", "structure"),
        (put("yes", "agent", 0, "requestor"), "AuditEvent.agent[0].requestor", "value"),
        (put("", "agent", 0, "name"), "AuditEvent.agent[0].name", "value"),
        (put({}, "source", "observer"), "AuditEvent.source.observer", "structure"),
        (put("X", "action"), "AuditEvent.action", "code-invalid"),
        (put("1", "outcome"), "AuditEvent.outcome", "code-invalid"),
        (put(0, "outcome"), "AuditEvent.outcome", "value"),
        (put("2026-03-01", "recorded"), "AuditEvent.recorded", "value"),
        (put("2026-02-30T00:00:00Z", "recorded"), "AuditEvent.recorded", "value"),
        (put("2026-03-01T10:00:00", "recorded"), "AuditEvent.recorded", "value"),
        (put("a  b", "type", "code"), "AuditEvent.type.code", "value"),
        (put("a b", "type", "system"), "AuditEvent.type.system", "value"),
        (put("!!", "entity", 1, "query"), "AuditEvent.entity[1].query", "value"),
        (put("QUJD", "entity", 1, "query"), "AuditEvent.entity[1]", "invariant"),
        (put("x", "colour"), "AuditEvent", "structure"),
        (put({"id": "x"}, "_agent"), "AuditEvent", "structure"),
        (put([{"resourceType": "Patient"}], "contained"), "AuditEvent", "structure"),
        (put("Patient", "resourceType"), "resourceType", "structure"),
        (put([{"url": "u", "valueCode": "a", "valueString": "b"}], "extension"), "AuditEvent.extension[0]", "structure"),
        (put([{"valueCode": "a"}], "extension"), "AuditEvent.extension[0].url", "required"),
        (put([{"_url": {"id": "x"}, "valueCode": "a"}], "extension"), "AuditEvent.extension[0]", "structure"),
        (put([{"url": "u", "_id": {"id": "x"}, "valueCode": "a"}], "extension"), "AuditEvent.extension[0]", "structure"),
        (put([{"type": "t"}], "entity", 1, "detail"), "AuditEvent.entity[1].detail[0]", "structure"),
        (put({"status": "generated", "div": "<p/>"}, "text"), "AuditEvent.text.div", "value"),
    ],
)  # fmt: skip
def test_what_is_invalid_is_refused_with_its_place(change, place, code):
    sample = balp()
    change(sample)
    with pytest.raises(ResourceRefused) as refused:
        read_resource(json.dumps(sample).encode())
    assert (refused.value.place, refused.value.code, refused.value.malformed) == (place, code, False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'<action value="R"/>', b'<action value="R"/><action value="C"/>'),
        (b'<action value="R"/>', b'<action value="R" other="x"/>'),
        (b'<action value="R"/>', b'<action value="R"><type/></action>'),
        (b'<action value="R"/>', b'<action value="R">text</action>'),
        (b'<action value="R"/>', b'<action xmlns="urn:x" value="R"/>'),
        (b'<action value="R"/>', b'<colour value="R"/>'),
        (b'<requestor value="true"/>', b'<requestor value="1"/>'),
        (b"<agent>", b'<agent value="x">'),
    ],
)
def test_xml_that_fhir_does_not_have_is_refused(old, new):
    xml = as_xml(balp())
    assert old in xml
    with pytest.raises(ResourceRefused):
        read_resource(xml.replace(old, new, 1))


def test_lexical_variants_of_xml_are_read():
    xml = as_xml(balp()).decode().replace("><", "> <!-- c -->\n<").replace("<?xml", "<?xml", 1)
    assert read_resource(xml.encode()) == balp()


TEXT = st.text(max_size=40)
CODE = st.builds(
    CodedValue,
    TEXT,
    st.none() | TEXT | st.sampled_from(["DCM", "IHE Transactions", "RFC-3881"]),
    st.none() | TEXT,
    st.none() | TEXT,
)
SMALL = st.none() | st.integers(0, 9999)
MESSAGES = st.builds(
    AuditMessage,
    st.builds(EventIdentification, CODE, st.none() | TEXT, SMALL, st.lists(CODE, max_size=2).map(tuple), st.none() | TEXT, st.lists(CODE, max_size=2).map(tuple)),
    st.lists(st.builds(Participant, TEXT, st.booleans(), st.lists(CODE, max_size=2).map(tuple), st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, SMALL), max_size=2).map(tuple),
    st.lists(st.builds(ParticipantObject, TEXT, st.none() | CODE, SMALL, SMALL, SMALL, st.none() | TEXT, st.none() | TEXT, st.none() | st.binary(max_size=9), st.lists(st.builds(Detail, TEXT, st.binary(max_size=9)), max_size=2).map(tuple)), max_size=2).map(tuple),
    st.none() | st.builds(AuditSource, TEXT, st.none() | TEXT, st.lists(CODE, max_size=2).map(tuple)),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MESSAGES, st.integers(0, 253_402_300_799_999_999))
def test_whatever_a_message_says_its_audit_event_is_valid_fhir(message, event_at):
    resource = audit_event(5, event_at, message)
    AuditEvent.model_validate(copy.deepcopy(resource))
    xml = etree.fromstring(as_xml(resource))
    assert etree.QName(xml).localname == "AuditEvent"
    if not any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 or ord(char) > 0xFFFD for char in repr_of(resource)):
        assert read_resource(as_json(resource)) == resource
        assert read_resource(as_xml(resource)) == resource


def repr_of(value):
    if isinstance(value, dict):
        return "".join(map(repr_of, value.values()))
    return "".join(map(repr_of, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"{", b"<AuditEvent xmlns='http://hl7.org/fhir'>", b"", b'{"resourceType":']),
)
def test_no_bytes_do_worse_than_be_refused(data, start):
    with pytest.raises(ResourceRefused):
        read_resource(start + data)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "extension", "url", "code", "coding", "type", "_type", "what", "value"]), inner, max_size=3), max_leaves=8)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*fhir_types.by_name("AuditEvent"), "_recorded", "other"]), JSON)
def test_what_we_take_the_independent_model_takes_too(name, value):
    sample = balp(**{name: value})
    try:
        read_resource(json.dumps(sample).encode())
    except ResourceRefused:
        return
    AuditEvent.model_validate(sample)


def test_the_entries_of_a_bundle_are_cut_out_byte_by_byte():
    one, two = (
        b'{ "resourceType" :"AuditEvent", "id": "\\u00e4]}" }',
        b'{"resourceType":"Patient","a":[{"resource":{}}]}',
    )
    bundle = b' {"type" : "batch" ,"entry":[ {"request":{"resource":1},"resource": %b } ,{"resource":%b}, {}, 5,{"resource":7}]  }'
    data = bundle % (one, two)
    assert read_json(data)["type"] == "batch"
    assert entries_of(data) == [one, two, None, None, None]
    assert entries_of(b"{}") == entries_of(b'{"entry":{}}') == entries_of(b'{"entry":[]}') == []


@pytest.mark.parametrize(
    "name", ["DCM", "IHE Transactions", "RFC-3881", "IHE XDS Metadata", "1.2.3.4", "urn:x:y", "ü / %"]
)
def test_names_of_code_systems_survive_the_way_there_and_back(name):
    uri = system_uri(name)
    assert " " not in uri
    assert ":" in uri
    assert code_system(uri) == (f"urn:oid:{name}" if name == "1.2.3.4" else name)


def test_patients_as_cx():
    for text, patient in [
        ("p^^^&1.2.3&ISO", Patient("p", "1.2.3")), ("p^^^NS", Patient("p", "NS")), ("p", Patient("p", None)),
    ]:  # fmt: skip
        assert parse_patient(text) == patient
        assert print_patient(patient) == text


def test_base64_may_be_broken_into_lines():
    sample = balp()
    sample["entity"][1] = {"role": {"code": "24"}, "query": base64.encodebytes(b"x" * 100).decode()}
    assert read_resource(json.dumps(sample).encode())["entity"][1]["query"].count("\n") == 2
