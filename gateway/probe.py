"""Whether a community of the settings can be worked with, found out by asking it: ``dossier communities check``.

Every question is one that nobody has an answer to (an entry, a document, a person of random names), so that it shows
nothing of any patient and changes nothing. It leaves a record in the partner's audit trail like any other.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from gateway.iti47_patient_demographics_query import new_query
from gateway.settings import Community, GatewaySettings
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response, read_registry_response, retrieve_request
from ihe.errors import ErrorCode, RegistryError
from ihe.hl7v3_answer import read_patient_answer
from ihe.hl7v3_query import PatientName, PatientParameters
from ihe.transactions import ITI_38, ITI_39, ITI_55
from wire.client import Answer, NotSent, OutcomeUnknown, PeerFault, SoapClient
from wire.reach import Reached, Step, Unreachable, reach
from wire.settings import TlsSettings
from wire.tls import TlsFault

__all__ = ["Finding", "probe"]

GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
SOON_DAYS: Final = 30
_LONGEST_QUOTE: Final = 200
"""Characters of a partner's own words that are shown."""
_NOT_THERE: Final = frozenset({ErrorCode.DOCUMENT_UNIQUE_ID, ErrorCode.UNKNOWN_REPOSITORY_ID})

_REMEDIES: Final = {
    Step.ADDRESS: "the address in the settings, or the name service of this machine",
    Step.CONNECTION: "port and firewall, theirs and ours; is their gateway running?",
    Step.THEIR_CERTIFICATE: "ca of the community: the authority that signed the partner's certificate",
    Step.OUR_CERTIFICATE: "give the partner our authority's certificate (or ours), or show another: certificate, key",
}
_NO_TLS: Final = "https where http is meant, or another port: something else than their gateway listens at the address"
_LISTS: Final = "gateway.tls.revocation_list: a list in force, of each authority of the partner's certificate"
_BY_REASON: Final[Mapping[str, str]] = {
    "certificate expired": "the partner renews it; or the clock of this machine is wrong",
    "certificate not yet valid": "the clocks, theirs and ours",
    "certificate revoked": "ask the partner: who took it back does not want it to be believed",
    "certificate made for another purpose": "the partner needs a certificate for servers",
    "no revocation list of an authority of the certificate": _LISTS,
    "revocation list expired": _LISTS,
    "revocation list not yet in force": _LISTS,
    "no TLS was spoken": _NO_TLS,
    "broken off by the peer": _NO_TLS,
    "time-out": _NO_TLS,
    "protocol too old": "the partner has to speak TLS 1.2 or 1.3",
}
"""What to mend where the handshake fails for another reason than the authority; the words are those of ``wire.tls``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``holds`` is None for what was not tried or is not wrong by itself; ``remedy`` says what to mend."""

    what: str
    result: str
    holds: bool | None
    remedy: str | None = None


def _remedy(error: Unreachable) -> str:
    general = _REMEDIES[error.step]
    return _BY_REASON.get(str(error), general) if error.step is Step.THEIR_CERTIFICATE else general


class _Wrong(Exception):  # noqa: N818 - an outcome
    """It does not hold; the text is the result."""

    def __init__(self, result: str, remedy: str) -> None:
        super().__init__(result)
        self.remedy = remedy


def probe(community: Community, settings: GatewaySettings, tls: TlsSettings, home: str) -> tuple[Finding, ...]:
    """Ask one community everything; ``tls`` is that of the gateway, ``home`` our own home community id.

    What is wrong is a line, never an exception.
    """
    return tuple(_Probe(community, settings, tls, home).findings())


class _Probe:
    def __init__(self, community: Community, settings: GatewaySettings, tls: TlsSettings, home: str) -> None:
        self._home = home
        self._community = community
        self._settings = settings
        self._gateway_tls = tls
        self._tls = community.tls(tls)
        self._timeout_s = settings.deadline_of(community)

    def findings(self) -> Iterator[Finding]:
        asked = [
            (ITI_38.code, self._community.query_url, self._query),
            (ITI_39.code, self._community.retrieving_url, self._retrieve),
            (ITI_55.code, self._community.discovery_url, self._discover),
        ]
        reached: dict[str, bool] = {}
        for _code, url, _ask in asked:
            if url is not None and _place(url) not in reached:
                lines = list(self._reach(url))
                reached[_place(url)] = all(line.holds is not False for line in lines)
                yield from lines
        if not reached:
            yield Finding("address", "none: this community is never asked", None, "query_url, if it is to be asked")
        for code, url, ask in asked:
            if code not in self._community.transactions:
                yield Finding(code, "not exchanged with this community", None)
            elif url is None:
                yield Finding(code, "no address in the settings", None)
            elif not reached[_place(url)]:
                yield Finding(code, "not tried", None)
            else:
                yield from self._asked(code, url, ask)

    # ------------------------------------------------------------------------------------------------ the way there

    def _reach(self, url: str) -> Iterator[Finding]:
        place, began = _place(url), time.monotonic()
        try:
            found = reach(url, self._tls, timeout_s=self._timeout_s)
        except Unreachable as error:
            yield Finding(f"{error.step} {place}", str(error), holds=False, remedy=_remedy(error))
            return
        yield Finding(f"connection {place}", f"{found.address}, {_ms(began)}", holds=True)
        if found.protocol is None:
            yield Finding("certificates", "none: plain HTTP", None)
            return
        yield _certificate("their certificate", found.node or "without a subject", found.expires, found.protocol)
        yield from self._own_certificate()
        yield self._other_way(url, found)

    def _own_certificate(self) -> Iterator[Finding]:
        path = self._tls.certificate
        if path is None:
            yield Finding("our certificate", "none is shown, and none was asked for", None)
            return
        ours = x509.load_pem_x509_certificate(path.read_bytes())
        yield _certificate("our certificate", ours.subject.rfc4514_string(), ours.not_valid_after_utc, "accepted")

    def _other_way(self, url: str, found: Reached) -> Finding:
        """Whether they could call us with the certificate they showed; they may have another for that."""
        what, names = "calls from them", {found.node, found.fingerprint}
        try:
            reach(url, self._gateway_tls, timeout_s=self._timeout_s)
        except Unreachable as error:
            if error.step is Step.THEIR_CERTIFICATE:
                remedy = "their authority in gateway.tls.ca, if they are to call us with that certificate"
                return Finding(what, f"would be refused: {error}", None, remedy)
        if not names.isdisjoint(self._community.subjects):
            return Finding(what, "certificate trusted, named in subjects", holds=True)
        remedy = f'subjects = ["{found.node}"], if they call us with that certificate'
        if self._settings.callers == "listed":
            return Finding(what, "would be refused: no subject of this community, and callers is listed", None, remedy)
        return Finding(what, "certificate trusted, not named in subjects", None, remedy)

    # ------------------------------------------------------------------------------------------------ questions

    def _asked(self, code: str, url: str, ask: Callable[[SoapClient, str], Iterator[Finding]]) -> Iterator[Finding]:
        try:
            client = SoapClient(self._tls, timeout_s=self._timeout_s)
        except TlsFault as error:
            yield Finding(code, str(error), holds=False, remedy=_REMEDIES[Step.OUR_CERTIFICATE])
            return
        try:
            yield from ask(client, url)
        except _Wrong as wrong:
            yield Finding(code, str(wrong), holds=False, remedy=wrong.remedy)
        except PeerFault as error:
            remedy = "the path of the address, and whether the partner serves this transaction there"
            yield Finding(code, f"SOAP fault: {_quoted(str(error))}", holds=False, remedy=remedy)
        except (NotSent, OutcomeUnknown) as error:
            remedy = "the partner's service, and the path of the address; deadline_s, if it is slow"
            yield Finding(code, _quoted(str(error)), holds=False, remedy=remedy)
        finally:
            client.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s

    def _query(self, client: SoapClient, url: str) -> Iterator[Finding]:
        """GetDocuments for an entryUUID that was made a moment ago."""
        home, began = self._community.home_community_id, time.monotonic()
        wanted = {"$XDSDocumentEntryEntryUUID": f"('{uuid.uuid4().urn}')"}
        body = adhoc_query_request(GET_DOCUMENTS, wanted, home=home)
        with client.call(url, ITI_38, body, deadline=self._deadline()) as answer:
            response = read_adhoc_query_response(answer.body)
        took = _ms(began)
        self._judge_home(response.errors, [one.home for one in response.objects])
        if response.status != v.SUCCESS:
            raise self._refused(response.status, response.errors)
        yield Finding(ITI_38.code, f"answers, {took}", holds=True)

    def _retrieve(self, client: SoapClient, url: str) -> Iterator[Finding]:
        """A document that nobody has, of a repository that nobody has."""
        home, began = self._community.home_community_id, time.monotonic()
        body = retrieve_request([(_oid(), _oid())], home)
        with client.call(url, ITI_39, body, deadline=self._deadline()) as answer:
            took = _ms(began)
            response = answer.body.find(f"{{{v.RS}}}RegistryResponse")
            if response is None:
                raise _Wrong("the answer holds no RegistryResponse", "the partner's service")
            registry_response = read_registry_response(response)
            errors = registry_response.errors
            self._judge_home(errors, [])
            if any(error.code not in _NOT_THERE for error in errors):
                raise self._refused(registry_response.status, errors)
            yield Finding(ITI_39.code, f"answers, {took}", holds=True)
            yield _encoding(answer)

    def _discover(self, client: SoapClient, url: str) -> Iterator[Finding]:
        """A person of a name that was made up a moment ago."""
        began = time.monotonic()
        nobody = PatientName(f"Nobody{uuid.uuid4().hex}", "Nobody")
        parameters = PatientParameters(names=(nobody,), births=("19000101",), sexes=("F",))
        own, theirs = (home.removeprefix("urn:oid:") for home in (self._home, self._community.home_community_id))
        body, query = new_query(parameters, device=own, to=theirs, home=own)
        with client.call(url, ITI_55, body, deadline=self._deadline(), plain_only=True) as called:
            answer = read_patient_answer(called.body)
        if not answer.is_to(query):
            raise _Wrong(
                "answers another question than it was asked", "targetMessage and queryId of the partner's answer"
            )
        if answer.refused or answer.reasons:
            said = "; ".join((*answer.reasons, *(f"{one.code}: {one.text}" for one in answer.details)))
            raise _Wrong(_quoted(said or "refused without a reason"), "what the partner says; whether it lets us ask")
        if answer.patients:
            raise _Wrong("finds somebody of a name that nobody has", "the partner's matching: it must not guess")
        yield Finding(ITI_55.code, f"answers, {_ms(began)}", holds=True)

    def _judge_home(self, errors: Sequence[RegistryError], homes: Sequence[str | None]) -> None:
        """Raise _Wrong where the partner answers as another community than the settings say."""
        home = self._community.home_community_id
        remedy = "home_community_id: ask the partner for its own"
        if any(error.code == ErrorCode.UNKNOWN_COMMUNITY for error in errors):
            raise _Wrong(f"does not know {home} as its own community", remedy)
        named = {one for one in (*homes, *(error.location for error in errors)) if one and one.startswith("urn:oid:")}
        others = sorted(named - {home})
        if others:
            raise _Wrong(f"answers as {_quoted(', '.join(others))}, not as {home}", remedy)

    def _refused(self, status: str, errors: Sequence[RegistryError]) -> _Wrong:
        told = "; ".join(f"{error.code}: {error.context}" for error in errors)
        remedy = "what the partner says; with XDSRegistryError or XDSRepositoryError first whether it lets us ask"
        return _Wrong(_quoted(told or status), remedy)


def _oid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def _encoding(answer: Answer) -> Finding:
    if answer.mtom:
        return Finding("ITI-39 as MTOM", "MTOM is answered with MTOM", holds=True)
    remedy = "the partner has to answer ITI-39 with MTOM/XOP (ITI TF-2: 3.39.4); large documents would not come"
    return Finding("ITI-39 as MTOM", "MTOM is answered with plain SOAP", holds=False, remedy=remedy)


def _certificate(what: str, name: str, ends: datetime | None, more: str) -> Finding:
    if ends is None:
        return Finding(what, f"{_quoted(name)}, {more}", holds=True)
    days = (ends - datetime.now(UTC)).days
    remedy = "a new one, in time" if days < SOON_DAYS else None
    return Finding(what, f"{_quoted(name)}, {more}, {days} days left", holds=days >= 0, remedy=remedy)


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _ms(began: float) -> str:
    return f"{1000 * (time.monotonic() - began):.0f} ms"


def _quoted(text: str) -> str:
    """Somebody else's words, bounded and on one line."""
    clean = "".join(one if one.isprintable() else " " for one in text)
    return clean if len(clean) <= _LONGEST_QUOTE else clean[:_LONGEST_QUOTE] + "…"
