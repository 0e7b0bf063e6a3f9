from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, insert, select
from sqlalchemy.exc import IntegrityError

from earmark_review import audit
from earmark_review.errors import DatabaseError
from earmark_review.store.database import Database, alembic_config, newest_revision
from earmark_review.store.engines import engine_for
from earmark_review.store.schema import audit_guard, cases, metadata, verdicts


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


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_urls(request, tmp_path):
    """The addresses of two empty databases on one engine."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path / name}.db" for name in ("created", "stepwise")]
    server = request.getfixturevalue("postgres")
    return [server.create(), server.create()]


def described(url):
    """Everything that a database of ours consists of, on either engine: SQLite's own statements, or PostgreSQL's own descriptions."""
    engine = engine_for(url)
    try:
        if engine.dialect.name == "sqlite":
            return objects_in(engine.url.database)
        with engine.connect() as conn:
            return {name: sorted(map(tuple, conn.exec_driver_sql(query).all())) for name, query in POSTGRES_CATALOGUE.items()}
    finally:
        engine.dispose()


_OURS = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'"
POSTGRES_CATALOGUE = {
    "columns": f"""
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid) {_OURS}
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind = 'r' AND c.relname != 'alembic_version'""",
    "constraints": f"SELECT c.relname, k.conname, pg_get_constraintdef(k.oid) {_OURS} JOIN pg_constraint k ON k.conrelid = c.oid "
    "WHERE c.relname != 'alembic_version'",
    "indexes": "SELECT tablename, indexdef, '' FROM pg_indexes WHERE schemaname = 'public' AND tablename != 'alembic_version'",
    "triggers": f"SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid) {_OURS} JOIN pg_trigger t ON t.tgrelid = c.oid "
    "WHERE NOT t.tgisinternal",
    "functions": "SELECT p.proname, p.prosrc, '' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'",
}


def test_the_schema_equals_the_migrations_on_every_engine(empty_urls):
    engine = engine_for(empty_urls[0])
    metadata.create_all(engine)
    engine.dispose()
    database = Database(empty_urls[1])
    database.migrate()
    with database.reading() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        assert audit.missing_guards(conn) == []
    database.close()
    created, stepwise = (described(url) for url in empty_urls)
    assert sum(len(part) for part in created.values()) > len(metadata.tables)
    assert all(created.values())
    assert created == stepwise


FIRST_VERSION = (
    "INSERT INTO users VALUES (1, 'Ada', 'ada', 'hash', 'reviewer', '2026-01-01 00:00:00', NULL)",
    "INSERT INTO sessions VALUES (1, 1, 's', '2026-01-01 00:00:00', '2026-01-01 00:00:00', NULL)",
    "INSERT INTO devices VALUES (1, 'kitchen', 't', '2026-01-01 00:00:00', NULL, NULL)",
    "INSERT INTO events VALUES (1, 1, 'e', 's', {empty}, '2026-01-01 00:00:00', 'b', 1, 'scream', 0.5, 'above_threshold', 1)",
    "INSERT INTO cases VALUES ('c', 1, 'decided', 1, '2026-01-01 00:00:00', '2026-01-02 00:00:00')",
    "INSERT INTO leases VALUES (1, 'c', 1, 1, 't1', '2026-01-01 00:00:00', '2026-01-02 00:00:00', '2026-01-02 00:00:00', 'decided')",
    "INSERT INTO verdicts VALUES (1, 'c', 1, 1, 'confirmed', 'a note', '2026-01-02 00:00:00')",
    "INSERT INTO audit_log VALUES (1, '2026-01-01 00:00:00', 'operator', 'user.added', 'user:Ada', '{{}}', 'p', 'h')",
)
"""A row in every table that matters, as the first version wrote them."""


def test_a_dump_of_the_first_version_migrates_on_every_engine(empty_urls):
    database = Database(empty_urls[0])
    config = alembic_config()
    with database.writing() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "r0001")
        empty = "x''" if database.dialect == "sqlite" else "''"
        for statement in FIRST_VERSION:
            conn.exec_driver_sql(statement.format(empty=empty))
    database.migrate()
    with database.reading() as conn:
        case = conn.execute(select(cases)).one()
        assert (case.queue, case.outcome, case.shred_at) == ("first", "distress", datetime(2026, 1, 2, tzinfo=UTC))
        assert conn.execute(select(verdicts.c.verdict, verdicts.c.note, verdicts.c.queue)).one() == ("distress", "a note", "first")
        assert [entry.subject for entry in audit.read(conn)] == ["user:Ada"]
        assert conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [newest_revision()]
    database.close()


def a_value(column):
    """What fits, the same for every column of a kind, so that what refers to a row finds it."""
    kinds = {str: "1", int: 1, float: 0.5, bytes: b"1" * 32, datetime: datetime(2026, 1, 1, tzinfo=UTC)}
    return kinds[column.type.python_type]


@pytest.mark.parametrize("revision", ["r0010", "r0030", "r0050", "r0060", "r0070", "r0080"])
def test_a_dump_of_any_later_version_keeps_a_row_of_every_table(empty_urls, revision):
    database, config, old = Database(empty_urls[0]), alembic_config(), MetaData()
    assert revision in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with database.writing() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, revision)
        old.reflect(conn)
        tables = [table for table in old.sorted_tables if table.name != "alembic_version"]
        for table in tables:
            conn.execute(insert(table).values({column.name: a_value(column) for column in table.columns}))
        before = {table.name: conn.execute(select(table)).mappings().all() for table in tables}
    assert len(tables) >= 12
    database.migrate()
    with database.reading() as conn:
        assert {table.name: conn.execute(select(table)).mappings().all() for table in tables} == before
        assert conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [newest_revision()]
    database.close()


def test_the_version_before_this_one_is_among_those_whose_dumps_are_tried():
    head = ScriptDirectory.from_config(alembic_config()).get_revision(newest_revision())
    tried = test_a_dump_of_any_later_version_keeps_a_row_of_every_table.pytestmark[0].args[1]
    assert head.down_revision in tried


def test_workers_that_start_at_once_migrate_once(empty_urls):
    databases = [Database(empty_urls[0]) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Database.migrate, databases))
    with databases[0].reading() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    for database in databases:
        database.close()


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


@pytest.mark.parametrize("url", ["mysql://localhost/earmark", "not an address", "", "oracle://x"])
def test_another_engine_is_refused_with_the_two_that_there_are(url):
    with pytest.raises(DatabaseError, match="postgresql://"):
        Database(url)


def test_a_server_that_is_not_there_is_one_clear_error_without_the_password(tmp_path):
    database = Database(f"postgresql://ada:secret@/earmark?host={tmp_path}")
    with pytest.raises(DatabaseError, match="cannot be opened") as caught:
        database.migrate()
    assert "secret" not in str(caught.value)


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
