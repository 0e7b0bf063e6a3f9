"""Moves an installation's rows from one engine to another, in one transaction, and checks that what arrived is what was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Table, func, insert, select, text

from earmark_review import audit
from earmark_review.errors import DatabaseError
from earmark_review.store.database import Database
from earmark_review.store.schema import metadata

_CHUNK = 500


def move_rows(source: Database, target: Database, tell: Callable[[str, int], None]) -> Mapping[str, int]:
    """Copy every table of `source` into an empty `target`, both of the current schema; return the rows by table.

    `tell` hears the name of each table and how many rows of it are there so far. On SQLite nobody else writes to `source` meanwhile.

    Raises:
        DatabaseError: `target` holds rows already, or what arrived differs; then nothing was copied.
    """
    copied: dict[str, int] = {}
    with source.writing() as old, target.writing() as new:
        for table in metadata.sorted_tables:
            if new.execute(select(func.count()).select_from(table)).scalar_one():
                msg = f"the other database has rows in {table.name} already; give an empty one"
                raise DatabaseError(msg)
        for table in metadata.sorted_tables:
            copied[table.name] = _copy(old, new, table, tell)
        _check_log(old, new)
    return copied


def _copy(old: Connection, new: Connection, table: Table, tell: Callable[[str, int], None]) -> int:
    count = 0
    rows = old.execution_options(yield_per=_CHUNK).execute(select(table).order_by(*table.primary_key))
    for chunk in rows.mappings().partitions(_CHUNK):
        new.execute(insert(table), [dict(row) for row in chunk])
        count += len(chunk)
        tell(table.name, count)
    arrived = new.execute(select(func.count()).select_from(table)).scalar_one()
    if arrived != count:
        msg = f"{count} rows of {table.name} were copied and {arrived} arrived; is the service stopped?"
        raise DatabaseError(msg)
    _go_on_counting(new, table)
    return count


def _go_on_counting(conn: Connection, table: Table) -> None:
    """Let PostgreSQL number the next row after those that came with their numbers; SQLite does so of itself."""
    column = table.autoincrement_column
    if conn.dialect.name != "postgresql" or column is None:
        return
    words = {"table": table.name, "column": column.name}
    sequence = conn.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), words).scalar()
    if sequence is not None:
        highest = conn.execute(select(func.coalesce(func.max(column), 0))).scalar_one()
        conn.execute(select(func.setval(sequence, highest + 1, False)))  # noqa: FBT003 - PostgreSQL's own third argument


def _check_log(old: Connection, new: Connection) -> None:
    before, after = audit.read(old), audit.read(new)
    if before != after or (audit.first_break(after) and not audit.first_break(before)):
        msg = "the log that arrived is not the one that was there, so nothing was copied"
        raise DatabaseError(msg)
