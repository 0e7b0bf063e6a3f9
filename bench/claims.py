"""Fifty claimants on 10,000 cases: who claims, decides, skips or comes back too late, and that nobody ever holds what another one holds.

`python -m bench.claims` runs several processes on SQLite; `--database URL` takes an empty PostgreSQL database. It prints what happened and
exits with 1 where the log shows two holders of one case, a late answer that was taken, or a case that is not decided exactly once.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.events import event_of
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import OperationalError

from earmark_review import audit
from earmark_review.accounts import Role, SignedIn
from earmark_review.cases import LeaseTerms, Verdict
from earmark_review.errors import StaleLeaseError
from earmark_review.store import leases
from earmark_review.store.database import Database
from earmark_review.store.decisions import Answer, decide
from earmark_review.store.schema import cases, devices, events, sessions, users
from earmark_review.store.schema import leases as lease_rows
from earmark_review.tokens import token_sha256

TERMS = LeaseTerms(3600, 3600)
LATE_SHARE, SKIP_SHARE = 0.1, 0.1
_PATIENCE = 100
T = TypeVar("T")


def person(number: int) -> SignedIn:
    """One of the claimants, counted from 1."""
    return SignedIn(number, number, f"claimant {number}", Role.REVIEWER)


def prepare(database: Database, count: int, people: int) -> None:
    """Accounts with sessions, a device, and so many cases that are ready."""
    now = datetime.now(UTC)
    event = event_of("event", 0)
    common = {"device_id": 1, "sha256": "0" * 64, "payload": event.to_bytes(), "received_at": now, "boot_id": "boot", "label": "scream"}
    common |= {"peak_score": 0.9, "reason": "above_threshold", "length_s": 1.0}
    numbers = range(1, people + 1)
    with database.writing() as conn:
        accounts = [{"user_id": n, "name": f"claimant {n}", "name_key": str(n), "password_hash": "-", "role": "reviewer"} for n in numbers]
        conn.execute(insert(users).values(created_at=now), accounts)
        signed_in = [{"session_id": n, "user_id": n, "token_sha256": str(n)} for n in numbers]
        conn.execute(insert(sessions).values(created_at=now, last_seen_at=now), signed_in)
        conn.execute(insert(devices).values(device_id=1, name="device", token_sha256="-", created_at=now))
        conn.execute(insert(events), [common | {"event_row": n, "event_id": str(n), "seq": n} for n in range(count)])
        waiting = {"state": "ready", "severity": 1, "opened_at": now}
        conn.execute(insert(cases), [waiting | {"case_id": f"{n:032x}", "event_row": n} for n in range(count)])
        if database.dialect == "postgresql":
            conn.exec_driver_sql("ANALYZE")  # as its own upkeep does within a minute of so many new rows


def work(database: Database, number: int, seed: int = 0) -> Counter[str]:
    """Claim, and decide, skip or let run out, until nothing waits; count what happened."""
    who, rng, done = person(number), random.Random(f"{seed} {number}"), Counter[str]()
    while claim := _patiently(database, done, partial(_claim, who=who)):
        done["claimed"] += 1
        draw = rng.random()
        if draw < LATE_SHARE:
            _patiently(database, done, partial(_run_out, claim=claim))
            act, done_as = partial(_decide, claim=claim, who=who, verdict=Verdict.PLAY), "late and taken"
        elif draw < LATE_SHARE + SKIP_SHARE:
            act, done_as = partial(_skip, claim=claim, who=who), "skipped"
        else:
            act, done_as = partial(_decide, claim=claim, who=who, verdict=Verdict.OTHER_SOUND), "decided"
        try:
            _patiently(database, done, act)
            done[done_as] += 1
        except StaleLeaseError:
            done["late and refused" if draw < LATE_SHARE else "in time and refused"] += 1
    return done


def _patiently(database: Database, done: Counter[str], act: Callable[[Connection], T]) -> T:
    """Act in a transaction of its own; whom a busy database turned away, with a 503 in the service, tries again, as a browser would."""
    while True:
        try:
            with database.writing() as conn:
                return act(conn)
        except OperationalError:
            done["turned away"] += 1
            if done["turned away"] > _PATIENCE:
                raise


def _claim(conn: Connection, who: SignedIn) -> leases.Claim | None:
    case_id = leases.next_case(conn, who, datetime.now(UTC))
    return leases.claim(conn, case_id, who, TERMS, 1, datetime.now(UTC)) if case_id else None


def _skip(conn: Connection, claim: leases.Claim, who: SignedIn) -> None:
    leases.skip(conn, leases.live_lease(conn, claim.case_id, claim.token, who, datetime.now(UTC)), who, datetime.now(UTC))


def _decide(conn: Connection, claim: leases.Claim, who: SignedIn, verdict: Verdict) -> None:
    lease = leases.live_lease(conn, claim.case_id, claim.token, who, datetime.now(UTC))
    decide(conn, lease, who, Answer(verdict), datetime.now(UTC))


def _run_out(conn: Connection, claim: leases.Claim) -> None:
    """Let the claim run out, as if its hour had passed; others may hold the case before its holder answers."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    mine = lease_rows.c.token_sha256 == token_sha256(claim.token)
    conn.execute(update(lease_rows).where(mine, lease_rows.c.ended_at.is_(None)).values(expires_at=past))


_ENDS = {"case.decided", "case.skipped", "lease.expired", "lease.released"}


def faults(database: Database) -> list[str]:
    """What the log and the rows say went wrong, in words."""
    with database.reading() as conn:
        entries = audit.read(conn)
        open_cases = conn.execute(select(cases.c.case_id, cases.c.state).where(cases.c.state != "final")).all()
        count = len(conn.execute(select(cases.c.case_id)).all())
    found = [f"case {row.case_id[-6:]} is {row.state}" for row in open_cases]
    held: set[str] = set()
    for entry in entries:
        if entry.action == "case.claimed":
            if entry.subject in held:
                found.append(f"{entry.subject} had two holders at entry {entry.seq}")
            held.add(entry.subject)
        elif entry.action in _ENDS:
            if entry.subject not in held:
                found.append(f"{entry.subject} was let go of at entry {entry.seq} by whoever did not hold it")
            held.discard(entry.subject)
    verdicts = Counter(entry.subject for entry in entries if entry.action == "case.decided")
    if len(verdicts) != count or set(verdicts.values()) - {1}:
        found.append(f"{len(verdicts)} of {count} cases were decided, some {max(verdicts.values(), default=0)} times")
    if broken := audit.first_break(entries):
        found.append(broken)
    return found


def work_all(database: Database, numbers: Sequence[int]) -> Counter[str]:
    """Several claimants at once, each on a thread."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        return sum(pool.map(partial(work, database), numbers), Counter[str]())


def _process(url: str, numbers: Sequence[int]) -> Counter[str]:
    database = Database(url)
    try:
        return work_all(database, numbers)
    finally:
        database.close()


def main() -> None:
    """Run, print, and say by the exit status whether anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="an empty PostgreSQL database; SQLite in a temporary folder without one")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--claimants", type=int, default=50)
    parser.add_argument("--processes", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.database or f"sqlite:///{Path(folder) / 'review.db'}"
        database = Database(url)
        database.migrate()
        prepare(database, given.cases, given.claimants)
        shares = [range(1 + index, given.claimants + 1, given.processes) for index in range(given.processes)]
        began_s = time.monotonic()
        with ProcessPoolExecutor(given.processes) as pool:
            done = sum(pool.map(_process, [url] * given.processes, shares), Counter[str]())
        took_s = time.monotonic() - began_s
        done += work(database, 1)  # a claim that ran out as everyone left
        found = faults(database)
        dialect = database.dialect
        database.close()
    words = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    print(f"{dialect}: {given.claimants} claimants in {given.processes} processes on {given.cases} cases in {took_s:.0f} s: {words}")
    print("\n".join(found[:20]) if found else "0 double holders, every late answer refused, every case decided once")
    sys.exit(bool(found or done["late and taken"] or done["in time and refused"]))


if __name__ == "__main__":
    main()
