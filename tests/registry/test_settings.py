"""The registry's settings: defaults of the contract, nothing unknown, nothing senseless."""

import pytest
from pydantic import ValidationError

from registry.settings import RegistrySettings


def test_defaults():
    settings = RegistrySettings()
    assert (settings.workers, settings.max_leaf_results, settings.max_registration_s) == (1, 10_000, 15)
    assert (settings.feed_other_events, settings.read_database_url) == ("accept", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker": 2},
        {"workers": 0},
        {"max_leaf_results": 0},
        {"max_registration_s": 0},
        {"max_registration_s": float("inf")},
        {"feed_idle_timeout_s": 1e10},
        {"feed_other_events": "ignore"},
        {"feed_max_message_bytes": 10},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        RegistrySettings(**wrong)
