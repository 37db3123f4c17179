"""Objects that are handed on unread are the same as if they had been read."""

import pytest
from lxml import etree

from ihe import vocabulary as v
from ihe.ebrim import write_object
from ihe.ebrs import adhoc_query_response, object_ref
from ihe.errors import RegistryError
from ihe.objects_as_bytes import cut, with_home
from ihe.soap import envelope
from schemas import parse_xml
from tests.builders import HOME, submission

OBJECTS = f".//{{{v.RIM}}}RegistryObjectList"
NAMES = ("ExtrinsicObject", "RegistryPackage", "Association", "ObjectRef")


def message(objects, errors=()):
    return envelope("urn:a", adhoc_query_response(v.SUCCESS, errors, objects), message_id="urn:m", relates_to="urn:r")


def whole(**more):
    return [write_object(one) for one in submission(folders=1, entries=2, **more).objects]


@pytest.mark.parametrize(
    "sent",
    [message(whole()), message([object_ref("urn:uuid:1"), object_ref("urn:uuid:2")]), message([])],
    ids=["objects", "references", "none"],
)
def test_home_is_set_as_on_the_tree(sent):
    frame, objects = cut(sent)
    around = parse_xml(frame)
    assert len(around.find(OBJECTS)) == 0
    again = parse_xml(sent)
    for one in again.find(OBJECTS):
        one.set("home", HOME)
    joined = frame.replace(b"<rim:RegistryObjectList>", b"<rim:RegistryObjectList>" + with_home(objects, HOME))
    assert etree.tostring(parse_xml(joined), method="c14n") == etree.tostring(again, method="c14n")


def test_what_looks_like_an_object_in_a_text_is_none():
    text = '<rim:ExtrinsicObject home="x"> &lt;rim:ObjectRef '
    sent = message([object_ref(text)], [RegistryError("X", text)])
    assert b"&lt;rim:ExtrinsicObject" in sent
    assert cut(sent) is None  # "home=" stands in it: not looked at any further
    sent = message([object_ref("<rim:ObjectRef id='1'>")])
    _, objects = cut(sent)
    (one,) = parse_xml(b"<x>" + with_home(objects, HOME) + b"</x>")
    assert dict(one.attrib) == {"home": HOME, "id": "<rim:ObjectRef id='1'>"}


GOOD = message([object_ref("urn:uuid:1")])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"rim:", b"r:"),
        (b"<rim:ObjectRef ", b"<rim:ObjectRef\n"),
        (b"<rim:ObjectRef ", b"<!-- --><rim:ObjectRef "),
        (b"<rim:ObjectRef ", b"<?x?><rim:ObjectRef "),
        (b"<rim:ObjectRef ", b"<rim:ObjectRefList/><rim:ObjectRef "),
        (b"<rim:ObjectRef ", b"<ObjectRef xmlns='x'/><rim:ObjectRef "),
        (b"<rim:ObjectRef ", b'<rim:ObjectRef home="x" '),
        (b"<rim:RegistryObjectList>", b"<rim:RegistryObjectList x='1'>"),
        (b"<rim:RegistryObjectList>", b"<rim:RegistryObjectList><rim:RegistryObjectList>"),
        (v.RIM.encode(), b"urn:another"),
        (b"<s:Envelope", b'<s:Envelope xmlns="urn:x"'),
        (b"<s:Envelope", b'<s:Envelope xmlns:xsi="urn:x"'),
        (b"<s:Envelope", b'<s:Envelope xmlns:ns3="urn:x"'),
        (b"<s:Envelope", b'<s:Envelope xmlns:ns3 = "urn:x"'),
        (b"<s:Envelope", b'<?xml version="1.0"?><s:Envelope'),
        (b"</rim:RegistryObjectList>", b""),
    ],
)
def test_what_is_written_in_another_way_is_left_to_the_parser(old, new):
    assert cut(GOOD) is not None
    assert old in GOOD
    assert cut(GOOD.replace(old, new)) is None


def test_names_are_those_of_ebrim():
    (kinds,) = {tuple(sorted({etree.QName(one).localname for one in parse_xml(message(whole())).find(OBJECTS)}))}
    assert set(kinds) <= set(NAMES)
