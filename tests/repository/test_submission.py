"""What makes two submissions one, and what the repository changes in the metadata."""

from dataclasses import replace

import pytest

from ihe import vocabulary as v
from repository.submission import Content, complete_entry, digest, read_provided, written
from schemas import parse_xml
from tests.builders import (
    new_uuid,
    provide_and_register_xml,
    submission,
    with_identifier,
    with_slot,
    without_slot,
)


def provided(objects):
    return read_provided(parse_xml(provide_and_register_xml(objects)))


def digest_of(objects, hashes=("aa",)):
    return digest(provided(objects), hashes)


def changed_entry(objects, *changes):
    def change(obj):
        for one in changes if obj.kind.value == "DocumentEntry" else ():
            obj = one(obj)
        return obj

    return replace(objects, objects=tuple(change(o) for o in objects.objects))


def renamed(objects, names):
    return replace(
        objects,
        objects=tuple(
            replace(
                o, id=names.get(o.id, o.id), source=names.get(o.source, o.source), target=names.get(o.target, o.target)
            )
            for o in objects.objects
        ),
    )


ONE = submission(unique_id="1.2.3")


@pytest.mark.parametrize(
    "same",
    [
        lambda o: renamed(o, {"Document01": "x", "SubmissionSet01": "y"}),
        lambda o: changed_entry(o, without_slot("hash"), without_slot("size")),
        lambda o: changed_entry(o, with_slot("repositoryUniqueId", "9.9")),
        lambda o: changed_entry(o, lambda e: replace(e, slots=e.slots[::-1])),
    ],
    ids=["symbolic ids", "hash and size", "repositoryUniqueId", "order of slots"],
)
def test_what_a_toolkit_makes_anew_does_not_count(same):
    assert digest_of(same(ONE)) == digest_of(ONE)


@pytest.mark.parametrize(
    "other",
    [
        lambda o: changed_entry(o, with_slot("languageCode", "de-LU")),
        lambda o: changed_entry(o, with_identifier(v.ENTRY_UNIQUE_ID, "9.9.9")),
        lambda o: changed_entry(o, lambda e: replace(e, mime_type="text/xml")),
        lambda o: changed_entry(o, lambda e: replace(e, classifications=e.classifications[1:])),
        lambda o: replace(o, objects=o.objects[:-1]),
        lambda o: renamed(o, {"Document01": new_uuid()}),
    ],
    ids=["slot", "unique id", "mimeType", "author", "fewer objects", "entryUUID"],
)
def test_everything_else_counts(other):
    assert digest_of(other(ONE)) != digest_of(ONE)


def test_the_bytes_count():
    assert digest_of(ONE, ["bb"]) != digest_of(ONE)


def test_two_symbolic_names_exchanged_are_another_submission():
    two = submission(entries=2, unique_id="1.2.3")
    swapped = replace(
        two,
        objects=tuple(replace(o, target={"Document01": "Document02"}.get(o.target, o.target)) for o in two.objects),
    )
    assert digest_of(two, "ab") != digest_of(swapped, "ab")


def test_a_slot_given_twice_becomes_one_and_stands_first():
    objects = submission(entry=lambda e: replace(e, slots=(*e.slots, *e.slots)))
    read = provided(objects)
    complete_entry(read.entries[0], "1.2", Content(1, "aa"))
    text = written(read)
    assert text.count(b'name="repositoryUniqueId"') == 1
    assert text.index(b'name="repositoryUniqueId"') < text.index(b'name="creationTime"')


def test_namespaces_declared_outside_are_kept():
    body = provide_and_register_xml(ONE)
    outside = body.replace(
        b'xmlns:xdsb="urn:ihe:iti:xds-b:2007"', b'xmlns:xdsb="urn:ihe:iti:xds-b:2007" xmlns:q="urn:q"', 1
    )
    again = parse_xml(written(read_provided(parse_xml(outside))))
    assert again.tag == f"{{{v.LCM}}}SubmitObjectsRequest"
    assert again.nsmap["q"] == "urn:q"


def test_the_unique_id_of_a_set_is_the_one_the_registry_keeps():
    # An outcome that got lost is asked for by it: an OID written as a URN would look like a submission that is lost.
    assert provided(submission(unique_id=" urn:oid:1.2.3 ")).unique_id == "1.2.3"
