from __future__ import annotations

import re
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, select
from sqlalchemy.exc import IntegrityError

from earmark_review.errors import DatabaseError
from earmark_review.store.database import Database, newest_revision
from earmark_review.store.schema import audit_guard, metadata


def objects_in(path):
    """Name -> its statement, with its parts in a fixed order: the migrations list constraints and later columns in another."""
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'").fetchall()
    raw.close()
    return {name: parts(sql) for name, sql in rows}


def parts(sql):
    """What stands between the commas of a statement that are in no inner bracket."""
    head, _, body = " ".join(sql.split()).partition("(")
    found, depth = [""], 0
    for letter in body.strip().removesuffix(")"):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [head.strip(), *sorted(part.strip() for part in found)]


@pytest.fixture
def migrated(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'migrated.db'}")
    database.migrate()
    yield database
    database.close()


def test_the_schema_equals_the_migrations(tmp_path, migrated):
    engine = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(engine)
    engine.dispose()
    created, stepwise = objects_in(tmp_path / "created.db"), objects_in(tmp_path / "migrated.db")
    assert len(created) > len(metadata.tables)
    assert created == stepwise


def test_alembic_sees_no_difference_either(migrated):
    with migrated.reading() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_every_guard_of_the_log_is_in_the_database(tmp_path, migrated):
    names = re.findall(r"CREATE TRIGGER (\w+)", "".join(audit_guard("sqlite")))
    assert len(names) == 3
    assert set(names) <= set(objects_in(tmp_path / "migrated.db"))


def test_migrating_twice_changes_nothing(migrated):
    migrated.migrate()
    with migrated.reading() as conn:
        assert conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [newest_revision()]


def test_a_database_of_a_newer_version_is_refused(migrated):
    with migrated.writing() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = 'r9999'")
    with pytest.raises(DatabaseError, match="update earmark"):
        migrated.migrate()


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "review.db").write_text("not a database, but long enough to be looked at " * 40)
    database = Database(f"sqlite:///{tmp_path / 'review.db'}")
    with pytest.raises(DatabaseError, match=r"review\.db"):
        database.migrate()


def test_another_engine_is_refused_until_it_is_tested():
    with pytest.raises((DatabaseError, ModuleNotFoundError)):
        Database("postgresql://localhost/earmark")


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1), ("secure_delete", 1), ("synchronous", 2), ("busy_timeout", 15000)]
)
def test_every_connection_is_set_up_for_durability_and_deletion(migrated, pragma, value):
    with migrated.reading() as conn:
        assert conn.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_writer_holds_the_write_lock_from_its_beginning(tmp_path, migrated):
    with migrated.writing():
        other = sqlite3.connect(tmp_path / "migrated.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_a_block_that_raises_leaves_nothing_behind(migrated):
    devices = metadata.tables["devices"]
    when = insert(devices).values(name="x", token_sha256="y", created_at=select(None).scalar_subquery())
    with pytest.raises(IntegrityError), migrated.writing() as conn:
        conn.execute(when)
    with migrated.reading() as conn:
        assert conn.execute(select(devices)).all() == []


def test_closing_folds_the_write_ahead_log_into_the_database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    database.migrate()
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_the_database_itself_refuses_a_second_holder(migrated):
    with migrated.writing() as conn:
        statements = (
            "INSERT INTO devices VALUES (1, 'd', 't', '2026-01-01', NULL, NULL)",
            "INSERT INTO users VALUES (1, 'a', 'a', 'h', 'reviewer', '2026-01-01', NULL)",
            "INSERT INTO sessions VALUES (1, 1, 's', '2026-01-01', '2026-01-01', NULL)",
            "INSERT INTO events VALUES (1, 1, 'e', 's', x'00', '2026-01-01', 'b', 1, 'scream', 0.5, 'above_threshold', 1)",
            "INSERT INTO cases (case_id, event_row, state, severity, opened_at) VALUES ('c', 1, 'leased', 1, '2026-01-01')",
            "INSERT INTO leases VALUES (1, 'c', 1, 1, 't1', '2026-01-01', '2026-01-02', NULL, NULL)",
        )
        for statement in statements:
            conn.exec_driver_sql(statement)
        with pytest.raises(IntegrityError, match="UNIQUE"):
            conn.exec_driver_sql("INSERT INTO leases VALUES (2, 'c', 1, 1, 't2', '2026-01-01', '2026-01-02', NULL, NULL)")
