"""Settings reach the parts of the commands that run and end: `scan`, `explain`, `doctor`, `consent`, `send`."""

import importlib
import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tests.edge.device import consented, enrolled
from tests.edge.parcels import parcel
from tests.edge.review_double import problem
from typer.testing import CliRunner

from earmark_edge import delivery_cli
from earmark_edge.cli import app
from earmark_edge.consent_records import read_consent
from earmark_edge.courier import Courier
from earmark_edge.decide import DecideConfig
from earmark_edge.keys import device_key, read_credentials
from earmark_edge.listen.source import InputError, PcmFormat
from earmark_edge.outbox import wav_bytes
from earmark_edge.settings import EdgeSettings, SettingsError
from earmark_edge.signature import public_of
from earmark_edge.spool import SPOOL_FILE, open_spool
from earmark_model.contract import BundleError

RATE_HZ = 16_000


@pytest.mark.parametrize(("command", "module"), [("scan", "earmark_edge.cli"), ("explain", "earmark_edge.explain.cli")])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_that_are_set_are_those_of_the_graph(command, module, threads, bundle, monkeypatch):
    seen = []

    def scorer(folder, *, threads):
        seen.append((folder, threads))
        msg = "all is put together"
        raise BundleError(msg)

    monkeypatch.setattr(importlib.import_module(module), "Scorer", scorer)
    outcome = CliRunner().invoke(app, [command, "x.wav", "--bundle", str(bundle)], env={"EARMARK_THREADS": str(threads)})
    assert outcome.exit_code == 1
    assert seen == [(bundle, threads)]


def test_the_outbox_takes_as_many_bytes_as_set(tmp_path, service):
    enrolled(tmp_path, service.url)
    consented(tmp_path)
    settings = replace(EdgeSettings(), state=tmp_path, outbox_bytes=3_000_000)
    with delivery_cli.way_out(settings, print) as out, delivery_cli._spool(settings) as other:
        assert out.courier.spool._cap_bytes == other._cap_bytes == 3_000_000


@pytest.fixture
def explain(tmp_path, bundle, monkeypatch):
    """What `earmark edge explain --json` answers."""
    monkeypatch.delenv("EARMARK_BUNDLE", raising=False)

    def run(*words, stdin=None, options=("--bundle", str(bundle), "--state", str(tmp_path / "state")), **environment):
        outcome = CliRunner().invoke(app, ["explain", *map(str, words), "--json", *options], env=environment, input=stdin)
        assert outcome.exit_code == 0, outcome.output
        return json.loads(outcome.stdout)

    return run


@pytest.fixture
def shouting(tmp_path, play):
    path = tmp_path / "shouting.wav"
    path.write_bytes(wav_bytes(play(("", 3), ("shout", 2), ("", 5)), RATE_HZ))
    return path


def test_what_explain_is_set_to_is_what_it_explains(explain, shouting, tmp_path, write_bundle, bundle):
    assert explain(shouting)["events"] == []
    assert [each["label"] for each in explain(shouting, EARMARK_ROUTE_ALSO="shout")["events"]] == ["shout"]
    assert explain(shouting, "--seconds", 2.5, EARMARK_ROUTE_ALSO="shout")["events"] == []
    assert explain(shouting)["page"] == str(tmp_path / "state" / "explain.html")
    assert explain(shouting, "--out", tmp_path / "page.html")["page"] == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()
    environment = {"EARMARK_STATE": str(tmp_path / "set"), "EARMARK_BUNDLE": str(write_bundle(tmp_path / "other", verified=("cry",)))}
    answered = explain(shouting, options=(), **environment)
    assert answered["page"] == str(tmp_path / "set" / "explain.html")
    assert "scream, baby_cry" in " ".join(answered["answer"])
    optional = explain(shouting, options=("--bundle", str(bundle), "--state", str(tmp_path / "given")), **environment)
    assert optional["page"] == str(tmp_path / "given" / "explain.html")
    assert "scream, baby_cry" not in " ".join(optional["answer"])


def test_explain_reads_pcm_at_the_rate_that_it_is_given(monkeypatch):
    seen = []

    def inputs_of(texts, _rate_hz, *, pcm, is_fast):
        seen.append((texts, pcm, is_fast))
        msg = "all is put together"
        raise InputError(msg)

    monkeypatch.setattr(importlib.import_module("earmark_edge.explain.cli"), "inputs_of", inputs_of)
    assert CliRunner().invoke(app, ["explain", "-", "--rate", "8000"]).exit_code == 2
    assert seen == [(["-"], PcmFormat(8_000), True)]


def test_a_record_of_consent_holds_what_was_given(tmp_path):
    words = ["--tiers", "0,2", "--days", "30", "--labels", "scream,shout", "--training", "--slice", "--id", "ours"]
    assert CliRunner().invoke(app, ["consent", "give", *words, "--state", str(tmp_path)]).exit_code == 0
    given = read_consent(tmp_path, device_key(tmp_path))
    assert (given.consent_id, given.tiers, given.labels, given.may_train, given.may_slice) == (
        "ours",
        (0, 2),
        ("scream", "shout"),
        True,
        True,
    )
    assert datetime.fromisoformat(given.expires_at) - datetime.fromisoformat(given.given_at) == timedelta(days=30)


@pytest.mark.parametrize("by_option", [False, True])
def test_the_doctor_looks_at_what_is_set(by_option, tmp_path, bundle, write_bundle, monkeypatch):
    module, seen = importlib.import_module("earmark_edge.doctor.cli"), {}

    def check_bundle(load, decide):
        seen.update(unverified=load().spec.unverified, decide=decide)
        return None, []

    def inputs_checks(inputs, _rate_hz, muted_by):
        seen.update(inputs=[each.name for each in inputs], muted_by=muted_by)
        return []

    def check_disk(state, outbox_bytes):
        seen.update(state=state, outbox_bytes=outbox_bytes)
        msg = "all is looked at"
        raise SettingsError(msg)

    for stand_in in (check_bundle, inputs_checks, check_disk):
        monkeypatch.setattr(module, stand_in.__name__, stand_in)
    state = tmp_path / "state"
    state.mkdir()
    (state / "mute").touch()
    other = write_bundle(tmp_path / "other", verified=("cry",))
    environment = {
        "EARMARK_STATE": str(state),
        "EARMARK_BUNDLE": str(other),
        "EARMARK_OUTBOX_BYTES": "3000000",
        "EARMARK_ROUTE_ALSO": "shout",
    }
    options = ["bed=mic:1"]
    if by_option:
        environment |= {"EARMARK_STATE": str(tmp_path / "not"), "EARMARK_BUNDLE": str(bundle)}
        options += ["--state", str(state), "--bundle", str(other)]
    assert CliRunner().invoke(app, ["doctor", *options], env=environment).exit_code == 2
    assert seen == {
        "unverified": ("scream", "baby_cry"),
        "decide": DecideConfig(route_also=("shout",)),
        "inputs": ["bed"],
        "muted_by": ("file",),
        "state": state,
        "outbox_bytes": 3_000_000,
    }


def test_what_the_service_refused_waits_for_its_turn_and_goes_at_once_where_that_is_asked(tmp_path, service):
    service.device = public_of(enrolled(tmp_path, service.url).device_key)
    consented(tmp_path)
    spool = open_spool(tmp_path / SPOOL_FILE, 10**7, print)
    Courier(tmp_path, read_credentials(tmp_path), spool).accept(parcel(0, "scream"))
    spool.close()
    service.fail(service.work, problem(422, "Unprocessable"))  # consent is taken, the event is not
    said = [CliRunner().invoke(app, ["send", *words, "--state", str(tmp_path)]) for words in ((), (), ("--now",))]
    assert [outcome.stdout.strip() for outcome in said] == [
        "sent 0 events; 1 wait, of which 1 were refused for now",
        "sent 0 events; 1 wait, of which 1 were refused for now",
        "sent 1 events; 0 wait, of which 0 were refused for now",
    ]


def test_the_ledger_asks_the_service_unless_told_not_to(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(delivery_cli, "_ask_statuses", lambda settings, _spool: asked.append(settings.state))
    for words in ((), ("--offline",)):
        assert CliRunner().invoke(app, ["ledger", *words, "--state", str(tmp_path)]).exit_code == 0
    assert asked == [tmp_path]
