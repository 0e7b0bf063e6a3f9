"""Opens the database, brings it to the current schema, and hands out transactions that read or write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from earmark_review import audit
from earmark_review.errors import DatabaseError
from earmark_review.store import engines
from earmark_review.store.engines import READS, begin, engine_for
from earmark_review.store.turns import Turn, take_turn
from earmark_review.together import Together

Result = TypeVar("Result")
Write = Callable[[Connection], Any]


class Database:
    """An engine with two kinds of transaction. On SQLite a writer takes the write lock as it begins, so it never fails halfway."""

    def __init__(self, url: str) -> None:
        self._engine = engine_for(url)
        self._turn = Lock()
        self._together = Together(self._write_all)

    @property
    def dialect(self) -> str:
        """Which engine this is: `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._engine.connect().execution_options(**READS[self.dialect]) as conn, conn.begin():
            begin(conn, writes=False)
            yield conn

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed when the block ends, and undone when it raises.

        Entries of the log are written as it ends: on PostgreSQL that is where writers wait for one another, and for as short as can be.

        Raises:
            AuditUnavailableError: the log did not take the block's entries, so nothing of it happened.
        """
        entries: list[audit.Draft] = []
        with self._alone(), self._engine.connect().execution_options(**{audit.DRAFTS: entries}) as conn, conn.begin():
            begin(conn, writes=True)
            yield conn
            audit.write(conn, entries)

    def write_together(self, write: Callable[[Connection], Result]) -> Result:
        """Have `write` done in a transaction, and return once that is committed.

        On SQLite, others who would have to wait their turn are let into the same one: a single sync of the disk does for all of them.
        `write` may be called twice: where a shared transaction fails before its commit, each has one of its own, so that none suffers for
        its neighbours.

        Raises:
            AuditUnavailableError: the log did not take the entries, so nothing happened.
        """
        if self.dialect != "sqlite":
            with self.writing() as conn:
                return write(conn)
        outcome: Result = self._together.run(write)
        return outcome

    def _write_all(self, writes: Sequence[Write]) -> list[Any]:
        done: list[Any] = []
        is_spoilt = False
        try:
            with self.writing() as conn:
                for write in writes:
                    is_spoilt = True
                    done.append(write(conn))
                    is_spoilt = False
        except Exception as error:
            if not is_spoilt:  # it did not begin, or failed at its commit, after which nobody knows what is there: all are told
                raise
            return [error] if len(writes) == 1 else [self._written_alone(write) for write in writes]
        return done

    def _written_alone(self, write: Write) -> Any:
        try:
            with self.writing() as conn:
                return write(conn)
        except Exception as error:  # noqa: BLE001 - it goes to whoever asked for this
            return error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """On SQLite, let this process's writers wait in turn: its own way of waiting is to sleep and look again, which starves some.

        Another process's are met at BEGIN IMMEDIATE; so is one of ours that does not end in time.
        """
        is_mine = self.dialect == "sqlite" and self._turn.acquire(timeout=engines.BUSY_TIMEOUT_MS / 1000)
        try:
            yield
        finally:
            if is_mine:
                self._turn.release()

    def migrate(self) -> None:
        """Bring an empty or older database to the current schema, in one transaction; of several processes at once, one does it.

        Raises:
            DatabaseError: it cannot be opened, is no Earmark database, or was written by a newer version.
        """
        config = alembic_config()
        try:
            with self.writing() as conn:
                take_turn(conn, Turn.SCHEMA)
                config.attributes["connection"] = conn
                command.upgrade(config, "head")
        except CommandError as error:
            msg = f"{self._engine.url.render_as_string()}: not of a version that this earmark knows ({error}); update earmark"
            raise DatabaseError(msg) from error
        except SQLAlchemyError as error:
            where, cause = self._engine.url.render_as_string(), str(error.__cause__ or error).strip()
            msg = f"{where}: cannot be opened as the review database ({cause}); check that it is there and open to this account"
            raise DatabaseError(msg) from error

    def revision(self) -> str | None:
        """The schema version that the database is at; None where it never was brought to any."""
        with self.reading() as conn:
            return MigrationContext.configure(conn).get_current_revision()

    def truncate_log(self) -> None:
        """On SQLite, fold the write-ahead log into the database and empty it, so that what was deleted is in neither."""
        if self.dialect != "sqlite":
            return  # PostgreSQL's belongs to the server, which reuses it in its own time
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


@lru_cache(maxsize=1)
def newest_revision() -> str:
    """The schema version of this code."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head
