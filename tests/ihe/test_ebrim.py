"""Reading and writing ebRIM objects (ITI TF-3: 4.2.3)."""

from hypothesis import given
from hypothesis import strategies as st

from ihe import vocabulary as v
from ihe.ebrim import read_object_refs, read_submitted_objects, write_object
from ihe.registry_objects import Classification, ExternalIdentifier, Kind, LocalizedString, RegistryObject, Slot
from schemas import parse_xml

_XML = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=30
)
_MAYBE = st.none() | _XML
_STRINGS = st.lists(
    st.builds(LocalizedString, _XML, st.none() | st.from_regex(r"[a-z]{2}(-[A-Z]{2})?", fullmatch=True), _MAYBE),
    max_size=2,
).map(tuple)
_SLOTS = st.lists(st.builds(Slot, _XML, st.lists(_XML, max_size=3).map(tuple)), max_size=3).map(tuple)
_OBJECTS = st.builds(
    RegistryObject,
    kind=st.just(Kind.DOCUMENT_ENTRY),
    id=_MAYBE,
    lid=_MAYBE,
    home=_MAYBE,
    status=_MAYBE,
    object_type=_MAYBE,
    version_name=_MAYBE,
    mime_type=_MAYBE,
    name=_STRINGS,
    description=_STRINGS,
    slots=_SLOTS,
    classifications=st.lists(
        st.builds(Classification, _MAYBE, _MAYBE, _MAYBE, _MAYBE, _MAYBE, _STRINGS, _STRINGS, _SLOTS), max_size=2
    ).map(tuple),
    external_identifiers=st.lists(
        st.builds(ExternalIdentifier, _MAYBE, _MAYBE, _MAYBE, _XML, _STRINGS), max_size=2
    ).map(tuple),
)


def _list(*parts: bytes) -> bytes:
    return b'<rim:RegistryObjectList xmlns:rim="%s">%s</rim:RegistryObjectList>' % (v.RIM.encode(), b"".join(parts))


@given(_OBJECTS)
def test_what_is_written_reads_back_as_it_was(obj: RegistryObject) -> None:
    (found,) = read_submitted_objects(parse_xml(_list(write_object(obj)))).objects
    assert found == obj


def _package(marker: bytes = b"", identifier: bytes = b"p") -> bytes:
    return b'<rim:RegistryPackage id="%s">%s</rim:RegistryPackage>' % (identifier, marker)


def _node(node: str, owner: bytes = b"p") -> bytes:
    return b'<rim:Classification classifiedObject="%s" classificationNode="%s"/>' % (owner, node.encode())


def test_a_marker_inside_the_package_or_beside_it_says_what_it_is() -> None:
    inside = read_submitted_objects(parse_xml(_list(_package(_node(v.NODE_FOLDER)))))
    beside = read_submitted_objects(parse_xml(_list(_node(v.NODE_FOLDER), _package())))
    assert [o.kind for o in inside.objects] == [o.kind for o in beside.objects] == [Kind.FOLDER]
    assert beside.objects[0].classifications[0].node == v.NODE_FOLDER


def test_a_package_without_marker_or_with_both_stays_unmarked() -> None:
    both = _package(_node(v.NODE_FOLDER) + _node(v.NODE_SUBMISSION_SET))
    found = read_submitted_objects(parse_xml(_list(_package(identifier=b"q"), both)))
    assert [o.kind for o in found.objects] == [Kind.UNMARKED, Kind.UNMARKED]


def test_a_loose_classification_finds_its_object_whichever_of_them_writes_the_uuid_in_capitals() -> None:
    small = b"urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
    for inner, outer in ((small, small.upper()), (small.upper(), small), (small, b" %s " % small)):
        found = read_submitted_objects(parse_xml(_list(_node(v.NODE_FOLDER, outer), _package(identifier=inner))))
        assert ([o.kind for o in found.objects], found.stray) == ([Kind.FOLDER], ())


def test_a_loose_classification_goes_to_the_first_object_of_its_id() -> None:
    found = read_submitted_objects(parse_xml(_list(_node(v.NODE_FOLDER), _package(), _package())))
    assert [o.kind for o in found.objects] == [Kind.FOLDER, Kind.UNMARKED]


def test_a_loose_classification_of_nothing_is_reported_as_stray() -> None:
    found = read_submitted_objects(parse_xml(_list(_node(v.NODE_FOLDER, b"elsewhere"))))
    assert found.stray == ("elsewhere",)


def test_object_refs_are_left_out_of_the_objects_and_can_be_listed() -> None:
    element = parse_xml(_list(b'<rim:ObjectRef id="urn:uuid:1"/>', _package(_node(v.NODE_FOLDER))))
    assert len(read_submitted_objects(element).objects) == 1
    assert read_object_refs(element) == ("urn:uuid:1",)


def test_the_type_of_a_part_is_kept_where_it_is_not_the_one_it_must_be() -> None:
    parts = "".join(
        f'<rim:{tag} objectType="{written}"/>'
        for tag, fixed in (
            ("Classification", v.TYPE_CLASSIFICATION),
            ("ExternalIdentifier", v.TYPE_EXTERNAL_IDENTIFIER),
        )
        for written in (fixed, f" {fixed} ", "", "urn:x")
    )
    (obj,) = read_submitted_objects(
        parse_xml(_list(f'<rim:ExtrinsicObject id="a">{parts}</rim:ExtrinsicObject>'.encode()))
    ).objects
    for found in (obj.classifications, obj.external_identifiers):
        assert [one.strange_type for one in found] == [None, None, None, "urn:x"]


def test_a_language_is_read_as_senders_write_it() -> None:
    tags = ("en_US", " fr-LU ", "", "deutsch!")
    strings = "".join(f'<rim:LocalizedString xml:lang="{tag}" value="x"/>' for tag in tags)
    text = f'<rim:ExtrinsicObject id="a"><rim:Name>{strings}</rim:Name></rim:ExtrinsicObject>'
    (obj,) = read_submitted_objects(parse_xml(_list(text.encode()))).objects
    assert [one.lang for one in obj.name] == ["en-US", "fr-LU", None, "deutsch!"]
