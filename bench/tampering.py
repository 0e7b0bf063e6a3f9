"""Tampers with a copy of an audit log in 10,000 random ways and counts those that `earmark review audit verify` finds.

Five kinds, evenly: an edited field, two entries exchanged, an entry removed (those after it moved up or not), the end cut off, and all of
it from some entry on written anew with a chain that holds. The tamperer may write the database as they like and has no signing key.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, create_engine, delete, insert

from earmark_review import audit
from earmark_review.anchors import Head, faults
from earmark_review.store.schema import audit_log, metadata

ENTRIES = 60
_FIELDS = ("at", "actor", "action", "subject", "detail", "previous_sha256", "sha256", "seq")


@dataclass(frozen=True, slots=True)
class Tampered:
    """Rows as they were left, and in which way."""

    kind: str
    rows: Sequence[audit.Entry]
    spaced: int | None = None
    """The entry whose detail is written with other blanks, which changes nothing that it says."""


def tamper(entries: Sequence[audit.Entry], rng: random.Random) -> Tampered:
    """One random way of tampering that changes something."""
    kind = rng.choice(("edit", "reorder", "delete", "truncate", "rewrite"))
    at = rng.randrange(len(entries))
    if kind == "edit":
        return _edited(entries, at, rng)
    if kind == "reorder":
        other = rng.choice([index for index in range(len(entries)) if index != at])
        swapped = list(entries)
        swapped[at], swapped[other] = replace(entries[other], seq=entries[at].seq), replace(entries[at], seq=entries[other].seq)
        return Tampered(kind, swapped)
    if kind == "delete":
        at = rng.randrange(len(entries) - 1)
        rest = entries[at + 1 :]
        moved = [replace(entry, seq=entry.seq - 1) for entry in rest] if rng.random() < 0.5 else rest  # noqa: PLR2004 - a coin
        return Tampered(kind, [*entries[:at], *moved])
    if kind == "truncate":
        return Tampered(kind, entries[:at])
    return Tampered(kind, _rewritten(entries, at, keep_length=rng.random() < 0.5))  # noqa: PLR2004 - a coin


def _edited(entries: Sequence[audit.Entry], at: int, rng: random.Random) -> Tampered:
    entry, field = entries[at], rng.choice((*_FIELDS, "blanks"))
    if field == "blanks":
        return Tampered("edit", entries, spaced=entry.seq)
    changed: dict[str, Any] = {
        "at": entry.at + timedelta(microseconds=rng.choice((-1, 1, 10**6))),
        "detail": {**entry.detail, "n": rng.random()},
        "seq": entry.seq + rng.choice((len(entries) + 1, 10**6)),
    }
    value: Any = changed.get(field) or _other_text(getattr(entry, field), rng)
    return Tampered("edit", [*entries[:at], replace(entry, **dict[str, Any]({field: value})), *entries[at + 1 :]])


def _other_text(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice([letter for letter in "0123456789abcdef" if letter != text[at]]) + text[at + 1 :]


def _rewritten(entries: Sequence[audit.Entry], at: int, *, keep_length: bool) -> Sequence[audit.Entry]:
    """A chain that holds, from entry `at` on in other words, or without that entry."""
    rows = list(entries[:at])
    rest = entries[at:] if keep_length else entries[at + 1 :]
    for index, entry in enumerate(rest):
        actor = "user:somebody" if keep_length and index == 0 else entry.actor
        previous = rows[-1].sha256 if rows else audit.GENESIS_SHA256
        bare = replace(entry, seq=len(rows) + 1, actor=actor, previous_sha256=previous)
        rows.append(replace(bare, sha256=bare.expected_sha256()))
    return rows


def honest_log(conn: Connection, rng: random.Random) -> list[audit.Entry]:
    """A log of `ENTRIES` entries, as the service writes them."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(ENTRIES):
        at += timedelta(seconds=rng.random() * 60)
        draft = audit.Draft(at, f"user:{rng.choice('abc')}", rng.choice(list(audit.Action)), f"case:{number}", {"n": number})
        audit.write(conn, [draft])
    return audit.read(conn)


def _put(conn: Connection, tampered: Tampered) -> None:
    conn.execute(delete(audit_log))
    for row in tampered.rows:
        words = json.dumps(row.detail, sort_keys=True, separators=(", ", ": ") if row.seq == tampered.spaced else (",", ":"))
        values = {"seq": row.seq, "at": row.at, "actor": row.actor, "action": row.action, "subject": row.subject, "detail": words}
        conn.execute(insert(audit_log).values(**values, previous_sha256=row.previous_sha256, sha256=row.sha256))


def trial(count: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """How many tamperings of each kind were tried, and how many were found."""
    rng, tried, found = random.Random(seed), Counter[str](), Counter[str]()
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(":memory:"))
    with engine.begin() as conn:
        metadata.create_all(conn)
        entries = honest_log(conn, rng)
        heads = [Head(entries[-1].seq, entries[-1].sha256, "the end")]
        assert faults(conn, heads) == [], "the log as it was written holds"
        guards = audit.missing_guards(conn)
        for (name,) in conn.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            conn.exec_driver_sql(f"DROP TRIGGER {name}")
        missing = len(audit.missing_guards(conn)) - len(guards)
        for _ in range(count):
            tampered = tamper(entries, rng)
            _put(conn, tampered)
            tried[tampered.kind] += 1
            found[tampered.kind] += len(faults(conn, heads)) > missing  # what the missing triggers give away does not count
    engine.dispose()
    return tried, found


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tried, found = trial(given.count, given.seed)
    print("| tampering | tried | found |")
    print("|---|---|---|")
    for kind in sorted(tried):
        print(f"| {kind} | {tried[kind]} | {found[kind]} |")
    print(f"| all | {tried.total()} | {found.total()} |")


if __name__ == "__main__":
    main()
