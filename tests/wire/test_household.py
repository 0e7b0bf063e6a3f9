"""`earmark edge enrol`, `consent`, `send` and `ledger` as a household runs them, against a service that really runs."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.edge.parcels import parcel
from typer.testing import CliRunner

from earmark_edge.cli import app
from earmark_edge.consent_records import CONSENT_FILE
from earmark_edge.courier import Courier
from earmark_edge.event import RATE_CAP
from earmark_edge.keys import DEVICE_KEY_FILE, ENROLMENT_FILE, read_credentials
from earmark_edge.ledger import LedgerEntry, lines_of
from earmark_edge.messages import Look, Status
from earmark_edge.outbox import Parcel
from earmark_edge.spool import SPOOL_FILE, open_spool
from earmark_model.contract import Reason
from earmark_review import audit
from earmark_review.accounts import Role
from earmark_review.cases import CaseState, Verdict


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("EARMARK_")]:
        monkeypatch.delenv(name)

    def invoke(*words, status=0):
        outcome = CliRunner().invoke(app, [*words, "--state", str(tmp_path / "home")])
        assert outcome.exit_code == status, outcome.output
        return outcome

    invoke.state = tmp_path / "home"
    return invoke


@pytest.fixture
def enrolled_home(run, server):
    run("enrol", server.url, "--code", server.service.offer_enrolment("hall"))
    return run.state


def put(state: Path, *labels: str) -> None:
    """What a listening device puts into its outbox: an event for each label."""
    spool = open_spool(state / SPOOL_FILE, 10**7, print)
    courier = Courier(state, read_credentials(state), spool)
    for number, label in enumerate(labels):
        courier.accept(parcel(number, label))
    spool.close()


def test_enrolling_shows_the_fingerprint_that_the_service_printed_and_keeps_keys_to_its_owner(run, server):
    code = server.service.offer_enrolment("hall")
    shown = run("enrol", server.url, "--code", code.lower().replace("-", " "))
    assert f"enrolled as 'hall' with {server.url}" in shown.stdout
    assert server.service.identity.fingerprint in shown.stdout
    assert "nothing leaves yet" in shown.stdout
    assert {oct((run.state / name).stat().st_mode)[-3:] for name in (DEVICE_KEY_FILE, ENROLMENT_FILE)} == {"600"}
    token = json.loads((run.state / ENROLMENT_FILE).read_text())["token"]
    assert token not in shown.output


def test_a_lost_answer_to_an_enrolment_may_be_asked_for_again_but_not_by_another_device(run, server, tmp_path):
    code = server.service.offer_enrolment("hall")
    run("enrol", server.url, "--code", code)
    run("enrol", server.url, "--code", code)
    other = CliRunner().invoke(app, ["enrol", server.url, "--code", code, "--state", str(tmp_path / "other")])
    assert other.exit_code == 1
    assert "the code has been used" in other.stderr


@pytest.mark.parametrize(
    ("url", "code", "status", "said"),
    [
        (None, "WRONG-CODE", 1, "not one of ours"),
        ("http://192.0.2.1", "CODE", 2, "use https"),
        ("ftp://x", "CODE", 2, "expected the address"),
        ("", "CODE", 2, "'': expected the address"),
        ("http://127.0.0.1:9", "CODE", 1, "nothing listens there: is the service running, and are host and port right?"),
        ("http://127.0.0.1:9", "CODE", 1, "the same code can be tried again"),
        (None, "", 1, "earmark review device enrol NAME"),
        ("PAGE", "CODE", 1, "answered 404, Not Found: there is nothing at /cases/api/v1/enrolments; expected a review service there"),
    ],
)
def test_an_enrolment_that_cannot_be_is_one_line_that_says_why(run, server, url, code, status, said):
    address = f"{server.url}/cases" if url == "PAGE" else server.url if url is None else url
    outcome = run("enrol", address, "--code", code, status=status)
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not (run.state / ENROLMENT_FILE).exists()


def test_consent_is_shown_given_and_withdrawn_in_the_households_words(run, enrolled_home):
    assert "earmark edge consent give" in run("consent", "show", status=2).stderr
    given = run("consent", "give", "--tiers", "0,2", "--days", "30", "--labels", "scream,cry", "--id", "ours")
    assert "consent 'ours' stands until" in given.stdout
    shown = run("consent", "show")
    assert re.search(r"tiers +0, 2\n", shown.stdout)
    assert re.search(r"may_train +False\n", shown.stdout)
    record = json.loads(run("consent", "show", "--json").stdout)
    assert (record["consent_id"], record["labels"], record["withdrawn_at"]) == ("ours", ["cry", "scream"], "")
    withdrawn = run("consent", "withdraw")
    assert "consent 'ours' is withdrawn; 0 events that had not left were wiped" in withdrawn.stdout
    assert "withdrawn" in run("consent", "show", status=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tiers", "4"), "tiers from 0 to 3"),
        (("--tiers", "all"), "expected numbers from 0 to 3"),
        (("--tiers", ""), "at least one tier"),
        (("--tiers", "0", "--labels", "music"), "some of"),
        (("--tiers", "0", "--id", "\x07"), "printable"),
    ],
)
def test_a_consent_that_says_nothing_sensible_is_refused_and_the_one_before_stays(run, enrolled_home, words, said):
    run("consent", "give", "--tiers", "0", "--id", "before")
    outcome = run("consent", "give", *words, status=2)
    assert said in outcome.stderr
    assert json.loads(run("consent", "show", "--json").stdout)["consent_id"] == "before"


def test_a_record_that_someone_edited_is_none(run, enrolled_home):
    run("consent", "give", "--tiers", "0")
    path = run.state / CONSENT_FILE
    path.write_text(path.read_text().replace("[0]", "[0,1,2,3]"))
    assert "not a record that this device signed" in run("consent", "show", status=2).stderr
    assert "not a record that this device signed" in run("send", status=2).stderr


def test_the_ledger_tells_what_waits_what_left_and_what_became_of_it(run, server, enrolled_home):
    assert "nothing has left" in run("ledger").output
    run("consent", "give", "--tiers", "0,2", "--id", "ours")
    put(run.state, "scream", "cry")
    waiting = run("ledger", "--offline").stdout
    assert waiting.count("nothing of it has left yet") == 2
    assert "waits here, sealed: scores over time, masked audio" in waiting
    assert "sent 2 events; 0 wait" in run("send").stdout
    told = run("ledger").stdout
    assert "what the device took for a scream" in told
    assert "that it happened, with scores over time, masked audio" in told
    assert "under consent ours" in told
    assert told.count("seen: by nobody") == 2
    first, second = (json.loads(line) for line in run("ledger", "--json").stdout.splitlines())
    assert (first["label"], first["state"], first["tiers_sent"], first["case"], second["label"]) == (
        "scream",
        "delivered",
        [0, 2],
        "ready",
        "cry",
    )
    server.service.delete_event("hall", first["event_id"])
    assert "deleted by the review service" in run("ledger").stdout


def lines(looks=(), verdicts=None, state="final", **changes):
    event = replace(parcel(1, "cry").event, **changes)
    status = Status(event.event_id, state, looks, verdicts)
    return lines_of(LedgerEntry(event, "delivered", event.wall_time, (0, 2), (), (), "", status))


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.BELOW_THRESHOLD])
def test_the_ledger_says_in_words_why_a_sound_left(reason):
    (why,) = [line for line in lines(reason=reason) if line.startswith("why:")]
    assert "_" not in why.partition(";")[0]
    assert "the device was" in why


def test_the_ledger_has_words_for_all_that_a_service_can_say():
    when = "2026-01-31T12:00:00+00:00"
    said = [
        *(lines(state=state)[-1] for state in CaseState),
        *(lines(verdicts={verdict: when})[-1] for verdict in Verdict),
        *(lines(looks=(Look(role, "pictures and scores", when),))[-2] for role in Role),
    ]
    for line in said:
        assert re.fullmatch(r"(now|decided|seen): [^_]+", line), line
        assert line not in {f"now: {state}" for state in CaseState} - {"now: decided"}, (
            "a word of the service's own, not of the household's"
        )
    assert "distress" in lines(verdicts={"distress": when})[-1]


def test_the_ledger_tells_hearing_from_seeing():
    when = "2026-01-31T12:00:00+00:00"
    told = lines(
        looks=tuple(Look("reviewer", words, when) for words in ("pictures and scores", "audio of tier 2", "spectrogram of tier 2"))
    )
    assert [line.partition(", by a reviewer")[0] for line in told if "by a reviewer" in line] == [
        "seen: pictures and scores",
        "heard: masked audio",
        "seen: spectrogram of masked audio",
    ]
    assert "seen: something new" in lines(looks=(Look("reviewer", "something new", when),))[-2], "of a later service"


def test_the_ledger_says_where_the_cap_kept_audio_at_home_and_where_a_full_outbox_wiped_it(run, server, enrolled_home):
    run("consent", "give", "--tiers", "0,2")
    given = parcel(1, "cry")
    capped = replace(given.event, audio_withheld=RATE_CAP, clips=given.event.clips[:1])
    spool = open_spool(run.state / SPOOL_FILE, 1_500, print)
    courier = Courier(run.state, read_credentials(run.state), spool)
    for each in (Parcel(capped, {0: given.payloads[0]}), parcel(2, "cry"), parcel(3, "cry")):
        courier.accept(each)
    spool.close()
    run("send")
    first, second, third = run("ledger").stdout.split("what the device took for")[1:]
    assert "its audio stayed at home" in first
    assert "never left, wiped for want of space: masked audio" in second
    assert "stayed at home" not in second + third
    told = [json.loads(line) for line in run("ledger", "--json").stdout.splitlines()]
    assert [(one["audio_withheld"], one["tiers_dropped"]) for one in told] == [("rate_cap", []), ("", [2]), ("", [])]


def test_the_ledger_says_what_it_was_told_last_where_the_service_is_away(run, server, enrolled_home):
    run("consent", "give", "--tiers", "0,2")
    put(run.state, "cry")
    run("send")
    run("ledger")
    path = run.state / ENROLMENT_FILE
    path.write_text(path.read_text().replace(server.url, "http://127.0.0.1:9"))
    outcome = run("ledger", "--offline")
    assert "seen: by nobody" in outcome.stdout


def test_the_ledger_tells_the_rest_where_the_disk_lost_an_event_or_what_became_of_one(run, server, enrolled_home):
    run("consent", "give", "--tiers", "0,2")
    put(run.state, "scream", "cry")
    run("send")
    run("ledger")
    spool = open_spool(run.state / SPOOL_FILE, 10**7, print)
    spool._conn.execute("UPDATE events SET payload = x'7b00' WHERE event_id = 'event-0'")
    spool._conn.execute("UPDATE events SET status = x'7b00' WHERE event_id = 'event-1'")
    spool.close()
    told = run("ledger", "--offline")
    assert told.stdout.count("what the device took for") == 1
    assert "1 more events are not told of here" in told.stderr
    assert [json.loads(line)["event_id"] for line in run("ledger", "--json", "--offline").stdout.splitlines()] == ["event-1"]


def test_withdrawing_wipes_what_waits_tells_the_service_and_the_ledger_says_so(run, server, enrolled_home):
    run("consent", "give", "--tiers", "0,2")
    put(run.state, "scream", "cry")
    assert "2 events that had not left were wiped" in run("consent", "withdraw").stdout
    assert run("ledger", "--offline").stdout.count("consent ended, and it was wiped here") == 2
    assert "withdrawn" in run("send", status=2).stderr
    with server.service.database.reading() as conn:
        entries = audit.read(conn)
    (recorded,) = [entry for entry in entries if entry.action == "consent.recorded"]
    assert recorded.detail["withdrawn"] is True
    assert not [entry for entry in entries if entry.action == "event.received"]


@pytest.mark.parametrize("words", [("ledger",), ("send",), ("consent", "show"), ("consent", "withdraw")])
def test_a_state_folder_that_is_not_enrolled_or_has_no_consent_is_told_what_to_do(run, words):
    outcome = CliRunner().invoke(app, [*words, "--state", str(run.state)])
    assert outcome.exit_code in {0, 2}
    assert "earmark edge" in outcome.output or "nothing has left" in outcome.output


def test_every_command_explains_itself():
    for words in (["enrol"], ["send"], ["ledger"], ["consent"], ["consent", "give"], ["consent", "show"], ["consent", "withdraw"]):
        shown = CliRunner().invoke(app, [*words, "--help"])
        assert shown.exit_code == 0
        assert len(shown.stdout) > 100
