"""Opens the database, brings it to the current schema, and hands out transactions that read or write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from sqlite3 import Connection as SqliteConnection
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from earmark_review.errors import DatabaseError

BUSY_TIMEOUT_MS = 15_000
_WRITES = "earmark_writes"


class Database:
    """An engine with two kinds of transaction. On SQLite a writer takes the write lock as it begins, so it never fails halfway."""

    def __init__(self, url: str) -> None:
        # Handlers run on a pool of forty threads; each holds at most one connection, and only briefly.
        self._engine = create_engine(url, pool_size=20, max_overflow=20)
        if self._engine.dialect.name != "sqlite":
            msg = f"{url.partition(':')[0]}: this version keeps its cases in SQLite alone; give sqlite:///PATH"
            raise DatabaseError(msg)
        _prepare_sqlite(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._engine.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed when the block ends, and undone when it raises."""
        with self._engine.connect().execution_options(**{_WRITES: True}) as conn, conn.begin():
            yield conn

    def migrate(self) -> None:
        """Bring an empty or older database to the current schema, in one transaction.

        Raises:
            DatabaseError: it cannot be opened, is no Earmark database, or was written by a newer version.
        """
        config = alembic_config()
        try:
            with self.writing() as conn:
                config.attributes["connection"] = conn
                command.upgrade(config, "head")
        except CommandError as error:
            msg = f"{self._engine.url.render_as_string()}: not of a version that this earmark knows ({error}); update earmark"
            raise DatabaseError(msg) from error
        except SQLAlchemyError as error:
            where, cause = self._engine.url.render_as_string(), error.__cause__ or error
            msg = f"{where}: cannot be opened as the review database ({cause}); check the path and its permissions"
            raise DatabaseError(msg) from error

    def truncate_log(self) -> None:
        """Fold the write-ahead log into the database and empty it, so that what was deleted is in neither."""
        with self._engine.connect() as conn:
            cursor = conn.connection.cursor()  # the driver's own: a checkpoint cannot run inside a transaction
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()

    def close(self) -> None:
        """Fold the write-ahead log into the database and close every connection."""
        try:
            self.truncate_log()
        finally:
            self._engine.dispose()


def alembic_config() -> Config:
    """Where the migrations lie."""
    config = Config()
    config.set_main_option("script_location", "earmark_review:sql")
    config.set_main_option("path_separator", "os")
    return config


def newest_revision() -> str:
    """The schema version of this code."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(raw: SqliteConnection, _record: Any) -> None:
        raw.isolation_level = None  # the driver's own BEGIN is deferred; ours is below
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",  # a receipt is a promise: what it names must survive a power cut
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(conn: Connection) -> None:
        writes = conn.get_execution_options().get(_WRITES, False)
        conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
