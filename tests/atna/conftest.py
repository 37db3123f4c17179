"""Both databases for everything that keeps something, and records to keep."""

import itertools

import pytest

from atna import events, participants
from atna.message import Outcome
from atna.recorder import Recorder
from ihe.xua import Caller
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/database.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path}/database.db"


class Writer:
    """Makes records; ``at`` is the time of the next one, in seconds since 1970."""

    def __init__(self):
        self.at = 1_772_359_200.0  # 2026-03-01T10:00:00Z
        self.recorder = Recorder("registry@host", "urn:oid:1.2.3", "dossier-registry", "host", lambda: self.at)
        self._numbers = itertools.count(1)

    def query(self, patient="p1", *, address="10.0.0.7", outcome=Outcome.SUCCESS, request=b"<q/>"):
        return self.recorder.record(
            events.stored_query(
                participants.serving(Caller(address), "http://registry/registry", "1"),
                query_id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
                request=request,
                patient_id=f"{patient}^^^&1.3.6.1.4.1.21367.2005.3.7&ISO" if patient else None,
                outcome=outcome,
            )
        )

    def registration(self, patient="p1"):
        return self.recorder.record(
            events.registered(
                participants.serving(Caller("10.0.0.8", "CN=repository"), "http://registry/registry", "1"),
                patient_id=f"{patient}^^^Hospital&1.3.6.1.4.1.21367.2005.3.7&ISO",
                submission_set_id=f"1.2.3.{next(self._numbers)}",
                outcome=Outcome.SUCCESS,
            )
        )


@pytest.fixture
def writer():
    return Writer()
