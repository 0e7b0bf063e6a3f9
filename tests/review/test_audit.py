from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError
from tests.review.conftest import ON_SQLITE

from earmark_review import audit
from earmark_review.errors import AuditUnavailableError


@pytest.fixture
def entries(house, one_case):
    found = house.log()
    assert len(found) >= 5
    return found


REPLACE = {
    "sqlite": "INSERT OR REPLACE INTO audit_log SELECT seq, at, 'eve', action, subject, detail, previous_sha256, sha256 FROM audit_log",
    "postgresql": "TRUNCATE audit_log",
}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'user:eve' WHERE seq = 2",
        "DELETE FROM audit_log WHERE seq = 2",
        "DELETE FROM audit_log",
        "another way round",
        "INSERT INTO audit_log SELECT seq + 1000, at, actor, action, subject, detail, previous_sha256, sha256 FROM audit_log WHERE seq = 1",
    ],
)
def test_the_database_refuses_to_change_or_shorten_the_log(house, entries, statement):
    with pytest.raises(IntegrityError, match="audit_log"), house.service.database.writing() as conn:
        conn.exec_driver_sql(REPLACE.get(house.engine) if statement == "another way round" else statement)
    assert house.log() == entries


@ON_SQLITE
def test_the_triggers_hold_for_any_other_program_too(house, entries):
    raw = sqlite3.connect(house.data / "review.db")
    for statement in ("UPDATE audit_log SET detail = '{}'", "DELETE FROM audit_log", "REPLACE INTO audit_log SELECT * FROM audit_log"):
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(statement)
    raw.close()


def test_an_untouched_chain_is_whole(entries):
    assert audit.first_break(entries) is None


def test_an_empty_log_is_whole():
    assert audit.first_break([]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "user:eve"},
        {"action": "case.skipped"},
        {"subject": "case:other"},
        {"detail": {"verdict": "other_sound"}},
        {"sha256": "0" * 64},
    ],
)
def test_a_changed_entry_breaks_the_chain(entries, change):
    changed = [*entries[:2], replace(entries[2], **change), *entries[3:]]
    assert "entry 3 was changed" in audit.first_break(changed)


def test_a_moved_moment_breaks_the_chain(entries, clock):
    clock.advance(60)
    assert "entry 3" in audit.first_break([*entries[:2], replace(entries[2], at=clock()), *entries[3:]])


def test_a_rewritten_entry_breaks_at_the_one_after(entries):
    changed = replace(entries[2], actor="user:eve")
    rewritten = replace(changed, sha256=changed.expected_sha256())
    assert "entry 4 does not follow" in audit.first_break([*entries[:2], rewritten, *entries[3:]])


def test_a_removed_or_swapped_entry_breaks_the_chain(entries):
    assert "entry 3 is missing" in audit.first_break([*entries[:2], *entries[3:]])
    assert audit.first_break([entries[1], entries[0], *entries[2:]])


def test_an_entry_falls_with_the_transaction_that_it_records(house, clock):
    before = house.log()

    def fail_after_the_entry():
        with house.service.database.writing() as conn:
            audit.append(conn, clock(), "user:ada", audit.Action.CASE_VIEWED, "case:1")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail_after_the_entry()
    assert house.log() == before


def test_a_log_that_takes_no_entries_says_so(house, clock):
    with house.service.database.writing() as conn:
        conn.exec_driver_sql("DROP TABLE audit_log")
    with pytest.raises(AuditUnavailableError), house.service.database.writing() as conn:
        audit.append(conn, clock(), "user:ada", audit.Action.CASE_VIEWED, "case:1")


def test_the_log_holds_no_note_and_no_token(house, ada, one_case):
    note = "the neighbour's daughter, I think"
    ada.claim(one_case)
    lease = ada.lease_of(one_case)
    ada.act(one_case, "verdict", lease, verdict="distress", note=note)
    words = " ".join(f"{entry.subject} {entry.detail}" for entry in house.log())
    assert "case.decided" in house.actions()
    for secret in (note, lease, ada.client.cookies["earmark_session"]):
        assert secret not in words
