"""From version to version: one transaction a step, one runner at a time, nothing changed by a step that fails."""

import threading
from textwrap import dedent

import pytest
from sqlalchemy import MetaData, inspect, text

from atna.store.engine import DatabaseRefused, begin_write, new_engine, open_engine, reading
from atna.store.migrating import Schema, schema_of, upgrade
from tests.atna.store.test_engine import schema
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures

STEPS = {
    2: """
        with op.batch_alter_table("thing") as batch:
            batch.alter_column("name", existing_type=sa.Text(), nullable=True)
        op.get_bind().execute(sa.text("UPDATE thing SET name = name || '!'"))
    """,
    3: """op.add_column("thing", sa.Column("more", sa.Text()))""",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'one.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def migrations(tmp_path):
    """The folder of the migrations, and what writes one more."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)

    def write(number, body):
        head = f"import sqlalchemy as sa\nfrom alembic import op\nrevision = '{number:04d}'\n"
        head += f"down_revision = {f'{number - 1:04d}' if number > 1 else None!r}\n\n\ndef upgrade():\n"
        lines = "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
        (folder / "versions" / f"{number:04d}_step.py").write_text(head + lines)

    write(1, "pass")
    for number, body in STEPS.items():
        write(number, body)
    return folder, write


@pytest.fixture
def filled(url):
    engine = open_engine(url, schema(version=1))
    with begin_write(engine) as connection:
        connection.execute(text("INSERT INTO thing (key, name) VALUES (1, 'a')"))
    engine.dispose()
    return url


def seen(url):
    engine = new_engine(url)
    with reading(engine) as connection:
        version = connection.execute(text("SELECT version FROM schema_version")).scalar_one()
        names = connection.execute(text("SELECT name FROM thing ORDER BY key")).scalars().all()
        columns = [column["name"] for column in inspect(connection).get_columns("thing")]
    engine.dispose()
    return version, names, columns


def target(version):
    return MetaData(info={"room": "room", "version": version})


def test_each_step_once_and_in_order(filled, migrations):
    assert schema_of(filled, target(3)) == Schema(1, 3)
    assert upgrade(filled, target(2), migrations[0]) == Schema(1, 2)
    assert seen(filled) == (2, ["a!"], ["key", "name"])
    assert upgrade(filled, target(3), migrations[0]) == Schema(2, 3)
    assert upgrade(filled, target(3), migrations[0]) == Schema(3, 3)
    assert seen(filled) == (3, ["a!"], ["key", "name", "more"])


def test_an_empty_database_gets_the_tables_of_this_program(url, migrations):
    assert schema_of(url, schema(version=3)) == Schema(None, 3)
    assert upgrade(url, schema(version=3), migrations[0]) == Schema(None, 3)
    assert seen(url) == (3, [], ["key", "name"])


def test_a_step_that_fails_leaves_everything_as_it_was(filled, migrations):
    folder, write = migrations
    write(3, STEPS[3] + "\nop.get_bind().execute(sa.text('DELETE FROM thing'))\nop.drop_table('nothing')")
    with pytest.raises(DatabaseRefused, match=r"step to version 3 failed .* as it was at version 2") as refused:
        upgrade(filled, target(3), folder)
    assert "nothing" not in str(refused.value)
    assert seen(filled) == (2, ["a!"], ["key", "name"])


def test_a_reference_to_nothing_is_not_left_behind(filled, migrations):
    folder, write = migrations
    write(
        2,
        """
        op.create_table("part", sa.Column("of", sa.Integer(), sa.ForeignKey("thing.key")))
        op.get_bind().execute(sa.text("INSERT INTO part VALUES (7)"))
        """,
    )
    with pytest.raises(DatabaseRefused):
        upgrade(filled, target(2), folder)
    assert seen(filled) == (1, ["a"], ["key", "name"])


def test_of_two_runners_one_does_the_work(filled, migrations):
    folder, write = migrations
    write(2, dedent(STEPS[2]) + "\nimport time\ntime.sleep(0.5)")
    faults = []

    def run():
        try:
            upgrade(filled, target(3), folder)
        except DatabaseRefused as error:
            faults.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert seen(filled) == (3, ["a!"], ["key", "name", "more"])


def test_tables_in_use_are_left_alone(filled, migrations, monkeypatch):
    monkeypatch.setattr("atna.store.engine.POSTGRESQL_SESSION", ("lock_timeout = '300ms'",))
    monkeypatch.setattr("atna.store.engine.BUSY_TIMEOUT_S", 0.3)
    busy = new_engine(filled)
    with begin_write(busy) as connection:
        connection.execute(text("UPDATE thing SET name = 'b'"))
        with pytest.raises(DatabaseRefused, match="in use"):
            upgrade(filled, target(3), migrations[0])
    busy.dispose()
    assert seen(filled) == (1, ["b"], ["key", "name"])


def test_an_older_schema_is_refused_by_name_of_the_command(filled):
    for how in ({}, {"read_only": True}):
        with pytest.raises(DatabaseRefused, match=r"version 1, this program needs 2; .* dossier db upgrade$"):
            open_engine(filled, schema(version=2), **how)


def test_a_newer_schema_is_left_alone(filled, migrations):
    upgrade(filled, target(3), migrations[0])
    with pytest.raises(DatabaseRefused, match="version 3, this program knows 2"):
        upgrade(filled, target(2), migrations[0])
    assert seen(filled)[0] == 3


def test_a_database_of_another_room(filled, migrations):
    for act in (schema_of, lambda *told: upgrade(*told, migrations[0])):
        with pytest.raises(DatabaseRefused, match="belongs to room"):
            act(filled, MetaData(info={"room": "another", "version": 2}))
