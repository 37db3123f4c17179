"""Ids that the registry makes."""

import uuid

from registry.desk import new_uuid


def test_ids_are_random_uuids():
    made = {new_uuid() for _ in range(1000)}
    assert len(made) == 1000
    for one in made:
        assert one == uuid.UUID(one).urn
        assert uuid.UUID(one).version == 4
        assert uuid.UUID(one).variant == uuid.RFC_4122
