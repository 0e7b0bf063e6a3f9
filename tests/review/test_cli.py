from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from typing import get_args

import pytest
from typer.testing import CliRunner

from earmark_review.account_cli import PersonsRole
from earmark_review.accounts import PEOPLE
from earmark_review.cli import app
from earmark_review.service import open_service
from earmark_review.settings import read_settings
from earmark_review.web.serving import listen

PASSWORD = "long enough for a test"


@pytest.fixture
def run(tmp_path):
    runner = CliRunner()

    def invoke(*words, stdin=None, status=0):
        outcome = runner.invoke(app, [*words, "--data", str(tmp_path / "data")], input=stdin)
        assert outcome.exit_code == status, outcome.output
        return outcome

    invoke.data = tmp_path / "data"
    return invoke


def test_the_data_folder_is_its_owners_alone(run, tmp_path):
    run("device", "list")
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_an_account_is_added_with_a_password_from_stdin(run, tmp_path):
    assert "added supervisor 'ada'" in run("user", "add", "ada", "--role", "supervisor", "--password-stdin", stdin=f"{PASSWORD}\n").stdout
    with sqlite3.connect(tmp_path / "data" / "review.db") as raw:
        [(name, role, password_hash)] = raw.execute("SELECT name, role, password_hash FROM users").fetchall()
    raw.close()
    assert (name, role) == ("ada", "supervisor")
    assert password_hash.startswith("$argon2id$v=19$m=65536")


def test_an_account_is_added_with_a_password_asked_for_twice_and_not_shown(run):
    outcome = run("user", "add", "ada", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    assert PASSWORD not in outcome.output
    assert "added 'bea'" not in run("user", "add", "bea", stdin=f"{PASSWORD}\nsomething else\n", status=1).stdout
    assert "already" not in run("user", "add", "bea", "--password-stdin", stdin=PASSWORD).output


def test_the_roles_that_can_be_given_are_those_of_people(run):
    assert get_args(PersonsRole) == PEOPLE
    refused = run("user", "add", "toaster", "--role", "device", stdin=PASSWORD, status=2)
    assert "privacy_officer" in refused.output
    assert "Password" not in refused.output


@pytest.mark.parametrize(("name", "password", "expected"), [("ada", "short", "expected 8 to 256"), ("<x>", PASSWORD, "user name")])
def test_an_unfit_account_is_one_line_and_status_1(run, name, password, expected):
    outcome = run("user", "add", name, "--password-stdin", stdin=f"{password}\n", status=1)
    assert outcome.stderr.startswith("earmark review: ")
    assert expected in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_an_unknown_role_is_misuse(run):
    run("user", "add", "ada", "--role", "king", "--password-stdin", stdin=PASSWORD, status=2)


def test_an_enrolment_code_is_printed_once_alone_on_stdout(run, tmp_path):
    outcome = run("device", "enrol", "kitchen")
    code = outcome.stdout.strip()
    assert re.fullmatch(r"[2-9A-Z]{5}(-[2-9A-Z]{5}){2}", code)
    assert re.search(r"fingerprint: [0-9a-f]{4}( [0-9a-f]{4}){7}\n", outcome.stderr)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir() if path.is_file())
    assert code.encode() not in stored
    assert code.replace("-", "").encode() not in stored
    assert b"kitchen" in stored


def enrolled(run, name):
    """A device that enrolled itself, as its own side of the wire would have made it."""
    run("device", "list")
    service = open_service(read_settings(data=run.data))
    service.add_device(name, hashlib.sha256(name.encode()).digest())
    service.close()


def test_devices_are_listed_and_revoked(run):
    assert "no devices" in run("device", "list").stdout
    enrolled(run, "kitchen")
    assert "kitchen" in run("device", "list").stdout
    run("device", "revoke", "kitchen")
    [line] = run("device", "list", "--json").stdout.splitlines()
    assert json.loads(line)["revoked_at"]
    assert "no device 'kitchen'" in run("device", "revoke", "kitchen", status=1).stderr
    assert "already" in run("device", "enrol", "kitchen", status=1).stderr


def test_an_event_that_is_not_there_cannot_be_deleted(run):
    assert "sent no event 'x'" in run("event", "delete", "kitchen", "x", status=1).stderr


def test_the_log_is_printed_and_its_chain_checked(run):
    enrolled(run, "kitchen")
    run("device", "revoke", "kitchen")
    outcome = run("log")
    assert [line.split()[3] for line in outcome.stdout.splitlines()] == ["device.added", "device.revoked"]
    assert "2 entries, chain whole" in outcome.stderr
    entries = [json.loads(line) for line in run("log", "--json").stdout.splitlines()]
    assert [entry["seq"] for entry in entries] == [1, 2]
    assert entries[1]["previous_sha256"] == entries[0]["sha256"]
    assert len(run("log", "--after", "1").stdout.splitlines()) == 1


def test_a_tampered_log_is_status_1(run, tmp_path):
    enrolled(run, "kitchen")
    with sqlite3.connect(tmp_path / "data" / "review.db") as raw:
        raw.execute("DROP TRIGGER audit_log_is_never_changed")
        raw.execute("UPDATE audit_log SET actor = 'user:eve'")
    raw.close()
    assert "entry 1 was changed" in run("log", status=1).stderr


def test_a_data_folder_that_cannot_be_one_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    outcome = CliRunner().invoke(app, ["device", "list", "--data", str(tmp_path / "file")])
    assert outcome.exit_code == 1
    assert "cannot be used as the data folder" in outcome.stderr


def test_a_bad_setting_names_its_variable(run, monkeypatch):
    monkeypatch.setenv("EARMARK_REVIEW_LEASE_S", "-1")
    assert "EARMARK_REVIEW_LEASE_S" in run("device", "list", status=1).stderr


def test_a_port_in_use_is_one_line(run):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        outcome = run("serve", "--port", str(port), status=1)
    assert f"cannot listen on 127.0.0.1:{port}" in outcome.stderr


@pytest.mark.parametrize("words", [(), ("user",), ("device",), ("event",)])
def test_without_a_command_there_is_help(words):
    assert "Usage" in CliRunner().invoke(app, list(words)).output
