"""Objects kept as text with holes."""

import pytest

from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects, write_object
from ihe.registry_objects import ExternalIdentifier, Kind, LocalizedString, RegistryObject, Slot
from registry.store.dictionary import first_dictionary
from registry.store.fragments import Codec, Filling, filled, fragment_of
from schemas import parse_xml

ENTRY = RegistryObject(
    Kind.DOCUMENT_ENTRY,
    "urn:uuid:1",
    lid="urn:uuid:1",
    object_type=v.STABLE,
    mime_type="text/plain",
    version_name="1",
    name=(LocalizedString('A "title" & <more>'),),
    slots=(Slot("creationTime", ("2026",)), Slot("urn:x:extra", ("a", "b"))),
    external_identifiers=(ExternalIdentifier("urn:uuid:2", v.ENTRY_PATIENT_ID, "urn:uuid:1", "old^^^&1.2&ISO"),),
)


def _shown(obj: RegistryObject, filling: Filling) -> RegistryObject:
    text = b'<rim:RegistryObjectList xmlns:rim="%s">%s</rim:RegistryObjectList>'
    (found,) = read_submitted_objects(parse_xml(text % (v.RIM.encode(), filled(fragment_of(obj), filling)))).objects
    return found


def test_holes_are_filled_with_what_the_row_says() -> None:
    shown = _shown(ENTRY, Filling(v.DEPRECATED, 7, "urn:uuid:9", 'new"<^^^&1.2&ISO', "urn:oid:1.2"))
    assert (shown.status, shown.version_name, shown.lid, shown.home) == (v.DEPRECATED, "7", "urn:uuid:9", "urn:oid:1.2")
    assert shown.identifier(v.ENTRY_PATIENT_ID) == 'new"<^^^&1.2&ISO'
    assert shown.name == ENTRY.name
    assert shown.slots == ENTRY.slots


def test_home_and_availability_are_shown_only_when_there_is_something_to_say() -> None:
    plain = _shown(ENTRY, Filling(v.APPROVED, 1, "urn:uuid:1", "p^^^&1.2&ISO"))
    offline = _shown(ENTRY, Filling(v.APPROVED, 1, "urn:uuid:1", "p^^^&1.2&ISO", availability=v.AVAILABLE_OFFLINE))
    assert plain.home is None
    assert plain.slot("documentAvailability") is None
    assert offline.slot("documentAvailability") == (v.AVAILABLE_OFFLINE,)


def test_a_folders_time_is_that_of_the_registry() -> None:
    folder = RegistryObject(Kind.FOLDER, "urn:uuid:1", slots=(Slot("lastUpdateTime", ("1999",)),))
    shown = _shown(folder, Filling(v.APPROVED, 1, "urn:uuid:1", "", last_update_time="20261122010203"))
    assert shown.slot("lastUpdateTime") == ("20261122010203",)


@pytest.mark.parametrize("dictionaries", [{}, {1: first_dictionary()}, {1: b"old", 2: first_dictionary()}])
def test_compression_gives_back_every_byte(dictionaries: dict[int, bytes]) -> None:
    codec = Codec(dictionaries)
    for text in (b"", b"x", fragment_of(ENTRY), write_object(ENTRY) * 50):
        assert codec.decompressed(codec.compressed(text), codec.number) == text


def test_rows_of_an_older_dictionary_stay_readable() -> None:
    old = Codec({1: first_dictionary()})
    kept = old.compressed(fragment_of(ENTRY))
    assert Codec({1: first_dictionary(), 2: b"newer" * 100}).decompressed(kept, 1) == fragment_of(ENTRY)


def test_the_dictionary_makes_a_typical_entry_much_smaller() -> None:
    fragment = fragment_of(ENTRY)
    assert len(Codec({1: first_dictionary()}).compressed(fragment)) < len(Codec({}).compressed(fragment)) * 0.6
