"""ITI-55 Cross Gateway Patient Discovery, Initiating Gateway side (ITI TF-2: 3.55): who our patient is over there.

Known here   name, birth and sex, from our own registry by identifier (ITI-47), each time; whom it does not know by it,
             or no more since a merge, nobody is asked about
Asked        the community, with them; with our identifier, too, where ``send_patient_id`` allows it
Believed     an answer of AA to this very question, with patients whose custodian is the community that was asked: ids
             are good for the home they come with, and that home is asked as its own row of the settings says. Whoever
             is told with another birth or sex than ours, as far as both are known, is somebody else: then nothing of
             the answer is used. Nobody is whom no patient was told of; who was told and cannot be used is no nobody
Remembered   as long as CorrelationTimeToLive says, at most ``max_remember_s``; without it ``remember_s``; that nobody
             was found ``remember_nobody_s``; what failed is asked again. It is the answer to what the community was
             told: once something else is known here of the patient, it is asked anew. Who somebody is holds for every
             asker; that nobody was found, for the wsse:Security header it was told to: others may see more
Shared       what is asked at the same moment with the same header is asked once
Records      ITI-47 and ITI-55 as consumer, before anything of the answers is used
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atna.message import Outcome
from gateway.communities import Communities, Open
from gateway.iti47_patient_demographics_query import RegistryPatients, Silent, cx_of, new_query, record_of
from gateway.once import OnceAtATime
from gateway.records import Records
from gateway.settings import Community, GatewaySettings
from gateway.store.protocol import GatewayStore, StoreUnavailable
from ihe import vocabulary as v
from ihe.datatypes import is_oid, normalise_oid_urn, parse_cx
from ihe.demographics import births_agree, name_and_birth
from ihe.durations import parse_duration
from ihe.errors import plain_codes
from ihe.hl7v2 import Demographics, Identifier
from ihe.hl7v3_answer import FoundPatient, PatientAnswer, ResponseCode, read_patient_answer
from ihe.hl7v3_parts import time_of
from ihe.hl7v3_query import PatientParameters, PatientQuery, parameters_of
from ihe.transactions import ITI_55
from wire.client import NotSent, OutcomeUnknown, PeerFault, for_log

__all__ = ["Discovered", "Discovery", "Unknown", "judge"]

MOST_FOUND: Final = 20
"""Patients that one community may find for one of ours, whatever the settings allow."""
MOST_TOLD: Final = 100
"""Patients in an answer that is read at all; each of them costs a look."""
LONGEST_ID: Final = 256
DIGEST: Final = 16
"""Hexadecimal digits of the digests of what was told, and of who asked."""
MICROSECONDS: Final = 1_000_000
_SEXES: Final = frozenset({"F", "M", "O"})
"""What we tell a community; the others of table 0001 have no code there that could come back."""
_ANY_SEX: Final = frozenset({"", "U"})
_TIME_TO_LIVE: Final = f"{{{v.XCPD}}}CorrelationTimeToLive"

_log = logging.getLogger(__name__)


class Unknown(Exception):  # noqa: N818 - says what happened
    """It could not be told how the patient is named there; ``reason`` is fit for the asker and names no patient."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Nonsense(Exception):  # noqa: N818 - says what happened
    """An answer that is not read any further; a failure of the community, which its breaker counts."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a community answered: identifiers (CX), none: it does not know him; for how many seconds it said so.

    ``patients`` has for each identifier whom it is of, as the community told.
    """

    ids: tuple[str, ...] = ()
    time_to_live_s: float | None = None
    patients: tuple[FoundPatient, ...] = ()


class Discovery:
    """One for all threads of a process; ``home`` is our home community id, ``registry`` is ours."""

    def __init__(  # noqa: PLR0917 - the parts of the room it works with
        self,
        settings: GatewaySettings,
        home: str,
        store: GatewayStore,
        records: Records,
        registry: RegistryPatients,
        communities: Communities,
    ) -> None:
        self._settings = settings
        self._oid = home.removeprefix("urn:oid:")
        self._store = store
        self._records = records
        self._registry = registry
        self._communities = communities
        self._people: OnceAtATime[Demographics | None] = OnceAtATime()
        self._asked: OnceAtATime[Discovered] = OnceAtATime()

    def remembered(
        self, community: Community, patient: Identifier, deadline: float, security: bytes = b""
    ) -> Sequence[str]:
        """The patient's identifiers there, from memory or asked now. Raises Unknown."""
        try:
            known = self._known_here(patient, deadline, security)
            if known is None:
                return ()
            told = _parameters(known, patient, community)
            home, subject = community.home_community_id, _subject(patient, told)
            found = self._still_good(home, subject, security)
            if found is not None:
                return found

            def ask() -> Discovered:
                answered = self._answered(community, told, patient, deadline, security)
                return self._keep(home, subject, security, judge(*answered, known, community, self._settings))

            # Of another asker's question neither the answer nor the refusal is this one's: the header may decide it.
            return self._asked.ask((home, subject, security), ask, deadline).ids
        except TimeoutError:
            raise Unknown("no answer in time to who the patient is there (ITI-55)") from None
        except StoreUnavailable as error:
            raise Unknown("the gateway's database does not answer") from error

    def _still_good(self, home: str, subject: str, security: bytes) -> tuple[str, ...] | None:
        """What is remembered, as far as it would be taken and kept by the settings as they are now."""
        now, nobody_s = _now(), self._settings.remember_nobody_s
        known = self._store.remembered(home, subject, now)
        if known is not None and known.found and (len(known.found) == 1 or self._settings.several != "refuse"):
            longest = now + int(self._settings.max_remember_s * MICROSECONDS)
            return known.found if known.expires_at <= longest else None
        nobody = self._store.remembered(home, _nobody(subject, security), now) if nobody_s > 0 else None
        return () if nobody is not None and nobody.expires_at <= now + int(nobody_s * MICROSECONDS) else None

    def _keep(self, home: str, subject: str, security: bytes, found: Discovered) -> Discovered:
        seconds = _kept_for(found, self._settings)
        if seconds > 0:
            now = _now()
            kept_as = subject if found.ids else _nobody(subject, security)
            self._store.remember(home, kept_as, found.ids, now, now + int(seconds * MICROSECONDS))
        return found

    def ask(self, community: Community, patient: Identifier, deadline: float, security: bytes = b"") -> Discovered:
        """Ask the community, whatever is remembered. Raises Unknown, StoreUnavailable."""
        known = self._known_here(patient, deadline, security)
        if known is None:
            return Discovered()
        told = _parameters(known, patient, community)
        return judge(*self._answered(community, told, patient, deadline, security), known, community, self._settings)

    def _known_here(self, patient: Identifier, deadline: float, security: bytes) -> Demographics | None:
        """What our registry was told of this patient; ``None``: nobody announced this identifier, or it was merged.

        Raises Unknown.
        """
        # Asked for all communities that wait for it, not for the most impatient of them alone.
        until = time.monotonic() + self._settings.deadline_s
        try:
            person = (cx_of(patient), security)
            return self._people.ask(person, lambda: self._person(patient, until, security), deadline)
        except TimeoutError:
            raise Unknown("the registry of this community gave no answer in time") from None

    def _person(self, patient: Identifier, deadline: float, security: bytes) -> Demographics | None:
        asked = PatientParameters(identifiers=((patient,),))
        try:
            found = self._registry.find(asked, deadline=deadline, security=security)
        except Silent as silent:
            self._store.record_alone([silent.record])
            raise Unknown(silent.reason) from silent
        self._store.record_alone(found.records)
        if found.answer.refused:
            codes = _codes(detail.code for detail in found.answer.details)
            _log.warning("the registry refused a query for patients: %s", codes)
            raise Unknown("the registry of this community refused to say who the patient is (ITI-47)")
        own = cx_of(patient)
        same = (one for one in found.answer.patients if any(cx_of(each) == own for each in one.identifiers))
        return next((one.demographics for one in same), None)

    def _answered(
        self,
        community: Community,
        parameters: PatientParameters,
        patient: Identifier,
        deadline: float,
        security: bytes,
    ) -> tuple[PatientAnswer, tuple[Any, ...]]:
        """The community's answer and the headers of it, on record. Raises Unknown."""
        home, url = community.home_community_id, community.discovery_url
        if url is None:
            raise Unknown("the settings name no discovery_url for this community")
        if deadline <= time.monotonic():  # no fault of the community, which its breaker would count
            raise Unknown("no time was left to ask who the patient is there (ITI-55)")
        question = new_query(
            parameters,
            device=self._oid,
            to=home.removeprefix("urn:oid:"),
            home=self._oid,
            own_authority=patient.universal_id if community.send_patient_id else None,
        )

        def put_on_record(outcome: Outcome, reason: str | None = None) -> None:
            # Who asks names no patient in this record (ITI TF-2: 3.55.5.1.1); the ITI-47 before it does.
            parties = self._records.sent(url)
            record = record_of(self._records, parties, ITI_55, question[1], None, outcome, reason, home)
            self._store.record_alone([record])

        try:
            answer, headers = self._call(community, url, question, deadline, security)
        except Open as error:
            raise Unknown(str(error)) from error
        except PeerFault as error:
            _log.warning("community %s gave no answer to ITI-55 that can be used: %s", home, for_log(error))
            put_on_record(Outcome.MAJOR_FAILURE, "SOAP fault")
            raise Unknown(f"who the patient is there (ITI-55): {for_log(error)}") from error
        except (NotSent, OutcomeUnknown) as error:
            _log.warning("community %s gave no answer to ITI-55 that can be used: %s", home, for_log(error))
            put_on_record(Outcome.MAJOR_FAILURE, type(error).__name__)
            raise Unknown(f"who the patient is there (ITI-55): {error}") from error
        except _Nonsense as error:
            _log.warning("community %s gave an answer to ITI-55 that is not used: %s", home, error)
            put_on_record(Outcome.MAJOR_FAILURE, str(error))
            raise Unknown(f"{error} (ITI-55)") from error
        if answer.refused:
            put_on_record(Outcome.SERIOUS_FAILURE, _codes(answer.reasons) or "AE")
        else:
            put_on_record(Outcome.SUCCESS)
        return answer, headers

    def _call(
        self, community: Community, url: str, question: tuple[bytes, PatientQuery], deadline: float, security: bytes
    ) -> tuple[PatientAnswer, tuple[Any, ...]]:
        """``question`` as of ``new_query``. Raises Open, _Nonsense, and what SoapClient.call raises."""
        body, query = question
        with (
            self._communities.guard(community, deadline),
            self._communities.client(community).call(
                url,
                ITI_55,
                body,
                extra_headers=security,
                deadline=deadline,
                max_bytes=self._settings.max_answer_bytes,
                plain_only=True,
            ) as answered,
        ):
            answer = read_patient_answer(answered.body, MOST_TOLD + 1)
            if len(answer.patients) > MOST_TOLD:
                raise _Nonsense(f"it told of more than {MOST_TOLD} patients")
            if not answer.is_to(query):
                raise _Nonsense("it answered another question than it was asked")
            return answer, answered.headers


def _now() -> int:
    return time.time_ns() // 1_000


def _parameters(known: Demographics, patient: Identifier, community: Community) -> PatientParameters:
    """What the community is told. Raises Unknown where that could find nobody."""
    if name_and_birth(known.family, known.given, known.birth) is None and not community.send_patient_id:
        raise Unknown("name and birth of the patient are not known here, and its own identifier is not sent there")
    return parameters_of(known, [patient] if community.send_patient_id else ())


def _subject(patient: Identifier, told: PatientParameters) -> str:
    """Whom and what an answer is remembered for: our identifier, and a digest of what was told with it."""
    cx = cx_of(patient)
    # With the identifier in it, the same person's digests under two of them do not show that they are one.
    return f"{cx} {hashlib.sha256(repr((cx, told)).encode()).hexdigest()[:DIGEST]}"


def _nobody(subject: str, security: bytes) -> str:
    """What it is remembered for that nobody was found: the subject, and a digest of the header that was shown."""
    return f"{subject} {hashlib.sha256(subject.encode() + security).hexdigest()[:DIGEST]}"


def _kept_for(found: Discovered, settings: GatewaySettings) -> float:
    said = settings.remember_s if found.time_to_live_s is None else found.time_to_live_s
    kept = min(said, settings.max_remember_s)
    return kept if found.ids else settings.remember_nobody_s


def judge(
    answer: PatientAnswer,
    headers: Sequence[Any],
    known: Demographics,
    community: Community,
    settings: GatewaySettings,
) -> Discovered:
    """What an answer comes to; ``known`` is what is known here of the patient.

    Raises Unknown where it says neither who the patient is nor that he is not known, or tells of somebody else.
    """
    home = community.home_community_id
    if answer.refused:
        codes = _codes(answer.reasons) or _codes(detail.code for detail in answer.details) or "no reason"
        raise Unknown(f"it could not say who the patient is there (ITI-55): {codes}")
    if answer.code not in {ResponseCode.OK, ResponseCode.NOT_FOUND}:
        raise Unknown("its answer to who the patient is there (ITI-55) has no known queryResponseCode")
    if answer.code == ResponseCode.NOT_FOUND and answer.patients:
        raise Unknown("it found nobody (NF), and told of a patient nevertheless (ITI-55)")
    if answer.wanted and not answer.patients:
        raise Unknown(f"it wants to know more of the patient than is known here (ITI-55): {_codes(answer.wanted)}")
    if answer.reasons and not answer.patients:
        raise Unknown(f"it could not say who the patient is there (ITI-55): {_codes(answer.reasons) or 'no reason'}")
    believed = {cx_of(one.identifiers[0]): one for one in _believed(answer, home)}
    if answer.patients and not believed:
        raise Unknown("it found a patient, but with no identifier that it could be asked with (ITI-55)")
    if not all(_fits(one.demographics, known) for one in believed.values()):
        raise Unknown("it found a patient of another birth or sex (ITI-55)")
    ids = tuple(believed)
    if len(ids) > MOST_FOUND or (len(ids) > 1 and settings.several == "refuse"):
        raise Unknown(f"it knows {len(ids)} patients who could be this one (ITI-55), and none was chosen")
    return Discovered(ids, _time_to_live(headers), tuple(believed.values()))


def _believed(answer: PatientAnswer, home: str) -> Iterator[FoundPatient]:
    """The patients who are of this community; the first identifier is good for further questions."""
    foreign = nameless = 0
    for one in answer.patients:
        (identifier, *_) = (*one.identifiers, None)
        if one.home is not None and normalise_oid_urn(one.home) != home:
            foreign += 1
        elif identifier is None or not is_oid(identifier.universal_id or "") or len(cx_of(identifier)) > LONGEST_ID:
            nameless += 1
        else:
            yield one
    # A line for each of them would let whoever answers fill the log.
    if foreign:
        _log.warning("community %s answered ITI-55 with patients of another community: %d dropped", home, foreign)
    if nameless:
        _log.warning("community %s answered ITI-55 with patients without an identifier: %d dropped", home, nameless)


def _fits(told: Demographics, known: Demographics) -> bool:
    """Whether nothing that a community told of a patient contradicts what we told it."""
    born, told_sex, sex = time_of(known.birth), (told.sex or "").upper(), (known.sex or "").upper()
    # What is no time at all agrees with none: a peer cannot get out of the comparison by writing nonsense.
    same_birth = not told.birth or born is None or births_agree(time_of(told.birth) or "?", born)
    return same_birth and (told_sex in _ANY_SEX or sex not in _SEXES or told_sex == sex)


def _time_to_live(headers: Sequence[Any]) -> float | None:
    told = next((header.text or "" for header in headers if header.tag == _TIME_TO_LIVE), None)
    return None if told is None else parse_duration(told)


def _codes(words: Any) -> str:
    """Codes of a partner for the asker and the record; what is no code is called so."""
    return ", ".join(plain_codes(words))


def identifier_of(cx: str) -> Identifier:
    """A CX as HL7 v3 has it."""
    read = parse_cx(cx)
    return Identifier(read.id, universal_id=read.authority, universal_id_type="ISO")
