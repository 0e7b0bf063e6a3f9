"""Whether the service lives, and whether it can do its work: each thing that it needs is taken away, and named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from tests.review.callers import client_of

from earmark_review import readiness
from earmark_review.web.serving import running

NEEDS = {"database", "schema", "log", "keys", "clips"}
COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose.yaml"


@pytest.fixture(autouse=True)
def _asked_anew_each_time(monkeypatch):
    monkeypatch.setattr(readiness, "_FRESH_S", 0)


def asked(house):
    """The status of liveness, of readiness, and what failed."""
    client = client_of(house.app)
    alive, ready = client.get("/healthz"), client.get("/readyz")
    checks = ready.json()["checks"]
    assert set(checks) == NEEDS
    assert set(checks.values()) <= {"ok", "failed"}
    return alive.status_code, ready.status_code, {name for name, said in checks.items() if said == "failed"}


def change(house, *statements):
    with house.service.database.writing() as conn:
        for statement in statements:
            conn.exec_driver_sql(statement)


def test_a_service_in_order_is_alive_and_ready_and_trying_leaves_nothing(house):
    before = house.actions()
    assert asked(house) == (200, 200, set())
    assert house.actions() == before
    assert house.service.keys.everything() == []
    assert house.service.blobs.list_keys() == []


def test_a_database_that_is_gone_is_named_and_the_process_lives(house, engine, request, fresh_database):
    house.service.database.close()
    if engine == "postgresql":
        request.getfixturevalue("postgres").drop(house.knobs["database"])
    else:
        (house.data / "review.db").write_bytes(b"no database at all" * 300)
    assert asked(house) == (200, 503, {"database", "schema", "log"})
    if engine == "postgresql":
        house.knobs["database"] = request.getfixturevalue("postgres").create(template="fresh")  # for the fixture to drop
    else:
        shutil.copy(fresh_database, house.data)
        assert asked(house) == (200, 200, set())


def test_a_schema_of_another_version_is_named_until_it_is_this_ones(house):
    change(house, "UPDATE alembic_version SET version_num = 'r0001'")
    assert asked(house) == (200, 503, {"schema"})
    house.service.database.close()
    change(house, f"UPDATE alembic_version SET version_num = '{readiness.newest_revision()}'")
    assert asked(house) == (200, 200, set())


def test_a_log_that_takes_no_entries_is_named_until_it_does(house):
    change(house, "ALTER TABLE audit_log RENAME TO elsewhere")
    assert asked(house) == (200, 503, {"log"})
    change(house, "ALTER TABLE elsewhere RENAME TO audit_log")
    assert asked(house) == (200, 200, set())


def test_a_key_store_that_takes_no_keys_is_named(house):
    house.service.keys._conn.execute("ALTER TABLE wrapped_keys RENAME TO elsewhere")
    assert asked(house) == (200, 503, {"keys"})
    house.service.keys._conn.execute("ALTER TABLE elsewhere RENAME TO wrapped_keys")
    assert asked(house) == (200, 200, set())


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_key_store_on_a_server_that_is_gone_is_named(open_house, postgres):
    address = postgres.create()
    house = open_house(keys=address)
    assert asked(house) == (200, 200, set())
    assert house.service.keys.everything() == []
    postgres.drop(address)
    assert asked(house) == (200, 503, {"keys"})


def test_a_store_of_clips_that_takes_none_is_named(house, engine, request):
    if engine == "postgresql":
        bucket = house.knobs["blobs"].removeprefix("s3://")
        urlopen(Request(f"{request.getfixturevalue('s3').url}/{bucket}", method="DELETE")).close()
    else:
        shutil.rmtree(house.service.blobs.incoming)
    assert asked(house) == (200, 503, {"clips"})


def test_what_hangs_while_it_is_tried_keeps_one_caller_and_no_more(house, monkeypatch):
    monkeypatch.setattr(readiness, "_TURN_S", 0.01)
    with house.app.state.readiness._turn:
        assert asked(house) == (200, 503, NEEDS)
    assert asked(house) == (200, 200, set())


def test_an_answer_holds_for_a_moment_so_that_asking_keeps_no_disk_busy(house, monkeypatch):
    monkeypatch.setattr(readiness, "_FRESH_S", 3600)
    assert asked(house) == (200, 200, set())
    change(house, "ALTER TABLE audit_log RENAME TO elsewhere")
    assert asked(house) == (200, 200, set())


def test_strangers_learn_no_address_and_no_cause_and_the_log_does(house, caplog):
    house.service.database.close()
    change(house, "UPDATE alembic_version SET version_num = 'r0001'")
    answer = client_of(house.app).get("/readyz")
    assert "r0001" not in answer.text
    assert str(house.data) not in answer.text
    assert answer.headers["retry-after"] == "5"
    assert any("r0001" in record.getMessage() for record in caplog.records)


def test_the_compose_files_question_succeeds_while_the_service_is_ready_and_fails_otherwise(open_house):
    [question] = re.findall(r'-c, "(from urllib[^"]+)"', COMPOSE.read_text())
    house = open_house(port=0)
    with running(house.service) as server:
        words = [sys.executable, "-c", question.replace("http://127.0.0.1:8600", server.url)]
        assert question not in words
        assert subprocess.run(words, check=False).returncode == 0
        change(house, "ALTER TABLE audit_log RENAME TO elsewhere")
        assert subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 1
