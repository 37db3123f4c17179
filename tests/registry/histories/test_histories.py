"""Random histories of submissions, updates and removals: the registry and a model of the framework's rules agree.

``HISTORIES=2000`` draws that many new ones on each engine, three times as long (``make histories``); without it the same
few come each time. Of the many one that fails is made small before it is shown, which takes minutes.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.registry.histories.history import History
from tests.registry.rooms import RegistryRoom

MANY = int(os.environ.get("HISTORIES", "0"))
STEPS = 30 if MANY else 10


@pytest.fixture
def room(database_url):
    one = RegistryRoom(database_url)
    yield one
    one.close()


@settings(
    max_examples=MANY or 20,
    derandomize=not MANY,
    phases=tuple(Phase) if MANY else (Phase.explicit, Phase.generate),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(rng=st.randoms(use_true_random=False))
def test_a_registry_does_what_the_model_does(room, rng):
    room.forget_records()
    history = History(room, rng)
    for _ in range(STEPS):
        history.step()
