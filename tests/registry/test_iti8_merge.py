"""ADT^A40 and A37 over real databases: what is merged, refused, permitted, on record, and what the queries show of it."""

import random

import pytest
from sqlalchemy import func, select

from atna.store.engine import reading
from ihe import vocabulary as v
from ihe.hl7v2 import parse_feed
from ihe.xua import Caller
from registry.iti8_merge import HANDLINGS, Merges, Unmerge, judge_merge, judge_unmerge
from registry.iti8_patient_identity_feed import FeedRules, Refused, judge
from registry.store.tables import patient_merge
from tests.builders import AUTHORITY, has_member, submission
from tests.feed_server import adt, merge, msa, unlink
from tests.registry.rooms import APPROVED, GET_DOCUMENTS, RegistryRoom, codes_of, feed_of
from wire.settings import AffinityDomainSettings, PartnerSettings

GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
GET_SET_AND_CONTENTS = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_FOLDER_AND_CONTENTS = "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7"
GET_RELATED = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"
GET_FOLDERS_FOR_DOCUMENT = "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
FIND_SETS = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
FIND_FOLDERS = "urn:uuid:958f3006-baad-4929-a4de-ff1114824431"
OK = f"({APPROVED})"
A, B, C, D = (f"{name}^^^&{AUTHORITY}&ISO" for name in "ABCD")
NODE = "CN=adt,O=Hospital A"


@pytest.fixture
def fed(registry):
    """A registry that knows A to D, each with one document, and the way to its feed."""
    registry.know(A, B, C, D)
    for patient in (A, B, C, D):
        registry.accept(submission(patient=patient))
    feed = feed_of(registry)
    return registry, lambda message, caller=Caller("127.0.0.1"): msa(feed.handle(message, caller))  # noqa: B008


def shown(registry, patient):
    """patientId of every DocumentEntry that is found, and their number."""
    response = registry.find(patient)
    assert response.status == v.SUCCESS
    return sorted(obj.identifier(v.ENTRY_PATIENT_ID) for obj in response.objects)


def active(registry):
    with reading(registry.engine) as connection:
        statement = select(func.count()).select_from(patient_merge).where(patient_merge.c.undone_at.is_(None))
        return connection.execute(statement).scalar_one()


def test_documents_of_both_are_found_by_the_surviving_id_alone(fed):
    registry, send = fed
    assert send(merge(B, A))[:2] == ("AA", "M40")
    assert shown(registry, B) == [B, B]
    assert shown(registry, A) == []
    assert shown(registry, C) == [C]
    told = [(r.event.action, int(r.event.outcome), [o.id for o in r.objects]) for r in registry.audited()]
    assert ("D", 0, [A]) in told and ("U", 0, [B]) in told


def test_chains_several_groups_and_several_prior_ids(fed):
    registry, send = fed
    assert send(merge(B, A, groups=[(C, B)]))[0] == "AA"
    assert shown(registry, C) == [C, C, C] and shown(registry, B) == shown(registry, A) == []
    assert send(merge(D, C, control="2"))[0] == "AA"
    assert shown(registry, D) == [D] * 4


def test_every_kind_of_query_shows_the_surviving_id(fed):
    registry, send = fed
    registry.accept(submission(patient=A, folders=1, unique_id="1.2.3.4.5"))
    send(merge(B, A))
    asked = [
        registry.query(GET_ALL, patientId=f"'{B}'", XDSDocumentEntryStatus=OK,
                       XDSSubmissionSetStatus=OK,
                       XDSFolderStatus=OK),
        registry.query(FIND_SETS, XDSSubmissionSetPatientId=f"'{B}'", XDSSubmissionSetStatus=OK),
        registry.query(FIND_FOLDERS, XDSFolderPatientId=f"'{B}'", XDSFolderStatus=OK),
    ]  # fmt: skip
    folder = asked[2].objects[0].id
    entry = next(o.id for o in registry.find(B).objects)
    asked += [
        registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{entry}')"),
        registry.query(GET_FOLDER_AND_CONTENTS, XDSFolderEntryUUID=f"'{folder}'"),
        registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId="'1.2.3.4.5'"),
        registry.query(GET_FOLDERS_FOR_DOCUMENT, XDSDocumentEntryEntryUUID=f"'{entry}'"),
    ]
    schemes = {v.ENTRY_PATIENT_ID, v.SUBMISSION_SET_PATIENT_ID, v.FOLDER_PATIENT_ID}
    for response in asked:
        assert response.status == v.SUCCESS, response.errors
        assert {i.value for o in response.objects for i in o.external_identifiers if i.scheme in schemes} <= {B}
    assert len(asked[1].objects) == 3 and len(asked[2].objects) == 1
    source = {value for o in registry.find(B).objects for value in o.slot("sourcePatientId")}
    assert source == {"89765a87b^^^&1.3.4.5&ISO"}
    everything = registry.find(B).objects
    uuids = ",".join(f"'{o.id}'" for o in everything)
    assert registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"({uuids})").status == v.SUCCESS
    assert send(unlink(A, B))[0] == "AA"
    again = registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"({uuids})")
    assert codes_of(again) == {"XDSResultNotSinglePatient"}


def test_nothing_is_registered_for_a_subsumed_id(fed):
    registry, send = fed
    send(merge(B, A))
    response = registry.submit(submission(patient=A))
    assert codes_of(response) == {"XDSUnknownPatientId"}
    context = response.errors[0].context
    assert A in context and "merged" in context and B not in context
    assert codes_of(registry.submit(submission(patient=f"X^^^&{AUTHORITY}&ISO"))) == {"XDSUnknownPatientId"}
    registry.accept(submission(patient=B))
    send(unlink(B, A))
    registry.accept(submission(patient=A))
    assert (shown(registry, A), shown(registry, B)) == ([A, A], [B, B])


def test_what_the_subsumed_had_counts_as_of_the_surviving(fed):
    """Replacement with folder propagation, an addendum, a folder: all of the record that was merged."""
    registry, send = fed
    registry.accept(submission(patient=A, folders=1))
    target = next(o.id for o in registry.find(A).objects)
    with_folder = registry.query(FIND_FOLDERS, XDSFolderPatientId=f"'{A}'", XDSFolderStatus=OK).objects[0].id
    in_folder = next(
        o.target
        for o in registry.query(GET_FOLDER_AND_CONTENTS, XDSFolderEntryUUID=f"'{with_folder}'").objects
        if o.source == with_folder
    )
    replacing = submission(patient=B, relations=[(v.RPLC, in_folder)])
    assert codes_of(registry.submit(replacing)) == {"XDSPatientIdDoesNotMatch"}
    send(merge(B, A))
    registry.accept(replacing)
    registry.accept(submission(patient=B, relations=[(v.APND, target)]))
    member = has_member(with_folder, "Document01", "member")
    registry.accept(submission(patient=B, extra=[member, has_member("SubmissionSet01", "member")]))
    contents = registry.query(GET_FOLDER_AND_CONTENTS, XDSFolderEntryUUID=f"'{with_folder}'")
    assert contents.status == v.SUCCESS and len([o for o in contents.objects if o.mime_type]) == 3
    assert len(shown(registry, B)) == 1 + 2 + 3 - 1
    stranger = submission(patient=C, relations=[(v.APND, target)])
    assert codes_of(registry.submit(stranger)) == {"XDSPatientIdDoesNotMatch"}


def entry_of(registry, patient):
    return registry.find(patient).objects[0].id


def linked(registry, uuid):
    """(type, other end, Approved?) of the associations at an object, but those of SubmissionSets."""
    asked = {"uuid": f"('{uuid}')", "XDSAssociationStatus": f"('{v.APPROVED}','{v.DEPRECATED}')", "MetadataLevel": "2"}
    found = registry.query(GET_ASSOCIATIONS, **asked).objects
    sets = {"SubmissionSetStatus", "NewVersion"}
    return {
        (one.type, one.target if one.source == uuid else one.source, one.status == v.APPROVED)
        for one in found
        if not any(slot.name in sets for slot in one.slots)
    }


def test_the_end_of_a_merge_parts_what_was_linked_meanwhile(fed):
    registry, send = fed
    registry.accept(submission(patient=B, folders=1))
    of_a, of_b = entry_of(registry, A), entry_of(registry, B)
    folder = registry.query(FIND_FOLDERS, XDSFolderPatientId=f"'{B}'", XDSFolderStatus=OK).objects[0].id
    send(merge(B, A))
    registry.accept(submission(patient=B, relations=[(v.APND, of_a)]))
    member = has_member(folder, of_a, "member")
    registry.accept(submission(patient=B, extra=[member, has_member("SubmissionSet01", "member")]))
    assert (v.HAS_MEMBER, folder, True) in linked(registry, of_a)
    assert send(unlink(B, A))[0] == "AA"
    assert (v.HAS_MEMBER, folder, False) in linked(registry, of_a)
    assert not [one for one in linked(registry, of_a) if one[2]]
    assert [one for one in linked(registry, folder) if one[2]], "its own members stay"
    appended = {one.id for one in registry.find(B).objects}
    registry.accept(submission(patient=A, relations=[(v.RPLC, of_a)]))
    assert {one.id for one in registry.find(B).objects} == appended, "nothing of B is deprecated"
    assert len(shown(registry, A)) == 1
    assert not [one for one in linked(registry, entry_of(registry, A)) if one[0] == v.HAS_MEMBER]
    contents = registry.query(GET_FOLDER_AND_CONTENTS, XDSFolderEntryUUID=f"'{folder}'")
    assert contents.status == v.SUCCESS
    assert {one.identifier(v.ENTRY_PATIENT_ID) for one in contents.objects if one.mime_type} <= {B}
    assert of_b in appended


def test_the_end_of_a_chain_parts_what_is_no_longer_one(fed):
    """C into B into A: where B leaves A, links of B and C stay, those of A with either are parted."""
    registry, send = fed
    ids = {who: entry_of(registry, who) for who in (A, B, C)}
    send(merge(B, C))
    registry.accept(submission(patient=B, relations=[(v.APND, ids[C])]))
    send(merge(A, B))
    registry.accept(submission(patient=A, relations=[(v.SIGNS, ids[C])]))
    assert send(unlink(A, B))[0] == "AA"
    assert sorted((kind, good) for kind, _, good in linked(registry, ids[C])) == [(v.APND, True), (v.SIGNS, False)]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (merge(B, B), "itself"),
        (merge(B, f"X^^^&{AUTHORITY}&ISO"), "never announced"),
        (merge(f"X^^^&{AUTHORITY}&ISO", A), "never announced"),
        (merge(B, f"A^^^&{AUTHORITY}.9&ISO"), "authority of MRG-1"),
        (merge(f"{B}~{C}", A), "two ids of one authority"),
        (merge(B), "MRG-1 needs an id"),
        (merge("", A), "PID-3 has no id"),
        (merge(B, "A"), "MRG-1 has no id"),
        (merge(B, A.replace("^", "&X^", 1)), "MRG-1 needs an id"),
        (merge(C, A, groups=[(A, B)]), "surviving id is merged"),
        (merge(C, A, groups=[(D, A)]), "subsumed id is merged"),
        (merge(C, A, groups=[(D, f"X^^^&{AUTHORITY}&ISO")]), "never announced"),
        (unlink(A, B), "not merged into each other"),
        (unlink(A, A), "one id each"),
        (adt("A37", pid3=A), "two PID"),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(fed, message, says):
    registry, send = fed
    before = len(registry.audited())
    code, _, text = send(message)
    assert code == "AE" and says in text, text
    assert active(registry) == 0
    assert [shown(registry, one) for one in (A, B, C, D)] == [[A], [B], [C], [D]]
    refusals = registry.audited()[before:]
    assert {int(record.event.outcome) for record in refusals if record.event.type_codes[0].code == "ITI-8"} == {8}


def test_repeated_ids_and_messages(fed):
    registry, send = fed
    other = f"Z^^^&{AUTHORITY}.9&ISO"
    first = merge(f"{B}~{other}~{B}", A)
    assert send(first)[0] == "AA"
    assert send(first)[0] == "AA"
    assert active(registry) == 1
    assert send(merge(B, A, control="again"))[0] == "AE"


def test_merges_are_for_listed_partners(registry):
    registry.know(A, B)
    stranger, listed = Caller("10.0.0.7", NODE), Caller("10.0.0.8", "CN=mpi")
    feed = feed_of(
        registry, AffinityDomainSettings(partners={"CN=mpi": PartnerSettings(transactions=frozenset({"ITI-8"}))})
    )
    code, _, text = msa(feed.handle(merge(B, A), stranger))
    assert code == "AR" and "not permitted" in text and active(registry) == 0
    assert {int(r.event.outcome) for r in registry.audited()} == {8}
    assert {o.id: r.event.action for r in registry.audited() for o in r.objects} == {A: "D", B: "U"}
    assert msa(feed.handle(adt(control="1"), stranger))[0] == "AA"
    assert msa(feed.handle(merge(B, A), listed))[0] == "AA"
    assert msa(feed.handle(unlink(B, A), stranger))[0] == "AR"
    assert active(registry) == 1


def test_unknown_patient_as_error(database_url):
    room = RegistryRoom(database_url, unknown_patient="error")
    room.know(A, B)
    room.accept(submission(patient=A))
    msa(feed_of(room).handle(merge(B, A), Caller("127.0.0.1")))
    assert codes_of(room.find(A)) == {"XDSUnknownPatientId"}
    assert shown(room, B) == [B]
    room.close()


@pytest.mark.parametrize("seed", range(3))
def test_random_merges_against_a_model(registry, seed):
    """What every id finds, and which patientId it shows, after each step of a random history."""
    chance = random.Random(seed)
    names = [f"P{number}^^^&{AUTHORITY}&ISO" for number in range(6)]
    registry.know(*names)
    feed = feed_of(registry)
    into, documents = {}, dict.fromkeys(names, 0)
    for step in range(40):
        one, other = chance.choices(names, k=2)
        kind = chance.choice(["merge", "merge", "unmerge", "submit"])
        if kind == "submit":
            accepted = registry.submit(submission(patient=one)).status == v.SUCCESS
            assert accepted == (one not in into)
            documents[one] += accepted
        elif kind == "merge":
            code = msa(feed.handle(merge(other, one, control=f"s{step}"), Caller("127.0.0.1")))[0]
            allowed = one != other and one not in into and other not in into
            assert code == ("AA" if allowed else "AE")
            if allowed:
                into[one] = other
        else:
            if chance.random() < 0.7 and into:
                one = chance.choice(list(into))
                other = into[one]
            code = msa(feed.handle(unlink(*chance.sample([one, other], 2), control=f"s{step}"), Caller("127.0.0.1")))[0]
            pair = next((a for a, b in ((one, other), (other, one)) if into.get(a) == b), None)
            assert code == ("AA" if pair else "AE")
            into.pop(pair, None)
        for name in names:
            group = [n for n in names if _root(n, into) == name]
            assert shown(registry, name) == [name] * sum(documents[n] for n in group)


def _root(name, into):
    while name in into:
        name = into[name]
    return name


def test_the_judges_alone():
    rules = FeedRules(frozenset({AUTHORITY}))
    pair = (("A", AUTHORITY), ("B", AUTHORITY))
    assert judge_merge(parse_feed(merge(B, A)), rules) == Merges((pair,))
    assert judge_unmerge(parse_feed(unlink(A, B)), rules) == Unmerge(*pair)
    assert judge(parse_feed(merge(B, A)), rules, HANDLINGS) == Merges((pair,))
    with pytest.raises(Refused) as caught:
        judge(parse_feed(merge(B, A)), rules)
    assert caught.value.problem.ack == "AR"
    many = merge(B, A, groups=[(B, A)] * 200)
    with pytest.raises(Refused) as caught:
        judge_merge(parse_feed(many), rules)
    assert "more than 100" in caught.value.problem.text
