"""Turns: what no two transactions may do at once, though they touch no row in common."""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import Connection, func, select

_SPACE = 0x4541524D  # "EARM": keeps our turns apart from another program's in the same database


class Turn(IntEnum):
    """What is done by one transaction at a time."""

    SCHEMA = 1
    LOG = 2
    NAMES = 3
    """Giving a name, a key or a version number to something new."""
    SIGN_IN = 4
    RESTORE = 5
    """Deleting events, and catching up with what a restored backup does not know."""


def take_turn(conn: Connection, turn: Turn) -> None:
    """Wait until no other transaction has this turn, and keep it until this one ends. On SQLite a writer is alone from its beginning."""
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(_SPACE, int(turn))))
