"""The engines that cases may be kept in, each set up for what a receipt promises: SQLite in a file, PostgreSQL on a server."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from earmark_review.errors import DatabaseError

BUSY_TIMEOUT_MS = 15_000
"""How long a transaction waits for another one's locks before it gives up."""
READS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"sqlite": {}, "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}}
)
"""What makes a transaction see one state, by engine; SQLite's WAL does so of itself."""
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def engine_for(url: str) -> Engine:
    """An engine for an SQLAlchemy URL; `postgresql://` is taken to mean psycopg, the driver that comes with `earmark[cluster]`.

    Raises:
        DatabaseError: the URL is none, of another engine, or its driver is not installed.
    """
    expected = "give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
    try:
        parsed = make_url(url)
        drivername = _DRIVERS.get(parsed.drivername, parsed.drivername)
        if drivername not in _DRIVERS.values():
            msg = f"{drivername}: cases are kept in SQLite or PostgreSQL; {expected}"
            raise DatabaseError(msg)
        # Handlers run on a pool of forty threads; each holds at most one connection, and only briefly.
        engine = create_engine(parsed.set(drivername=drivername), pool_size=20, max_overflow=20, pool_pre_ping=drivername != "sqlite")
    except (ArgumentError, NoSuchModuleError) as error:
        msg = f"the address of the database cannot be read; {expected}"
        raise DatabaseError(msg) from error
    except ModuleNotFoundError as error:
        msg = f"PostgreSQL needs a driver that is not installed ({error.name}); pip install 'earmark[cluster]'"
        raise DatabaseError(msg) from error
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    else:
        _prepare_postgresql(engine)
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(raw: sqlite3.Connection, _record: Any) -> None:
        raw.isolation_level = None  # the driver's own BEGIN is deferred; ours is in `begin`
        raw.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        switch_to_wal(raw)
        for pragma in (
            "synchronous = FULL",  # a receipt is a promise: what it names must survive a power cut
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            raw.execute(f"PRAGMA {pragma}")


def begin(conn: Connection, *, writes: bool) -> None:
    """Begin on SQLite what SQLAlchemy has begun: its own beginning is left to the driver, and the driver's is switched off.

    Not from a handler of the engine's, since with one of those every statement is announced to it, which adds a third to its time.
    """
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def switch_to_wal(raw: sqlite3.Connection) -> None:
    """Switch a file to the write-ahead log. Where several do so with a new file at once, SQLite refuses some without waiting.

    Raises:
        sqlite3.OperationalError: it is busy for as long as a transaction would wait, or cannot be switched.
    """
    ends_s = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends_s:
                raise
            time.sleep(0.01)
        else:
            return


def _prepare_postgresql(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(raw: Any, _record: Any) -> None:
        settings = {
            "lock_timeout": str(BUSY_TIMEOUT_MS),
            "idle_in_transaction_session_timeout": "60000",  # a worker that hangs gives back what it locked
            "synchronous_commit": "on",  # a receipt is a promise, whatever the server's own default
            "timezone": "UTC",
        }
        with raw.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        raw.commit()
