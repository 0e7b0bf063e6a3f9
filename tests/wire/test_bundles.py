"""From `earmark review bundle offer` to the bundle that a listening device runs, over a socket, with the bundles that ship."""

import json
import queue
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from tests.waiting import until
from typer.testing import CliRunner

from earmark_edge.bundle_store import BundleRefusedError, BundleStore
from earmark_edge.courier import Courier
from earmark_edge.decide import DecideConfig, Rules
from earmark_edge.keys import read_credentials, write_enrolment
from earmark_edge.listen.listener import Listener, Outlets
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.report import JsonReport
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.shadow import Terms
from earmark_edge.listen.sink import CourierSink, Pace
from earmark_edge.listen.supervisor import Block
from earmark_edge.listen.updates import Updates
from earmark_edge.scorer import Scorer
from earmark_edge.settings import bundle_to_run, default_bundle
from earmark_edge.spool import SPOOL_FILE, open_spool
from earmark_edge.uplink import Backoff, Uplink, UplinkError
from earmark_model.contract import SPEC_FILE, read_bundle
from earmark_review.cli import app

RATE_HZ = 16_000
OTHER = "earmark-open"
QUIET = np.random.default_rng(3).normal(0, 1e-3, RATE_HZ).astype(np.float32)


@pytest.fixture
def run(server):
    def invoke(*words, status=0):
        outcome = CliRunner().invoke(app, ["bundle", *map(str, words), "--data", str(server.service.settings.data)])
        assert outcome.exit_code == status, outcome.output
        return outcome

    return invoke


@contextmanager
def listening(state):
    """A device as `earmark edge listen --send` puts it together, that hears what it is fed."""
    credentials = read_credentials(state)
    folder, version = bundle_to_run(None, state)
    scorer, config = Scorer(folder), DecideConfig()
    updates = Updates(BundleStore(state, credentials.enrolment.signing_key), version, Scorer, config, Terms(2, 30.0))
    spools = [open_spool(state / SPOOL_FILE, 10**7, print) for _ in range(2)]
    sink = CourierSink(
        *(Courier(state, credentials, spool) for spool in spools),
        lambda pause: Uplink(credentials, sleep=pause, backoff=Backoff(attempts=1)),
        Rules(scorer.spec, config),
        is_muted=lambda: False,
        updates=updates,
        pace=Pace(beat_s=0.1, ask_s=0.1),
    )
    settings = ListenSettings(canary_s=0.0)
    listener = Listener(
        ["room"],
        scorer,
        config,
        settings,
        inbox=queue.Queue(),
        mute=Mute(state / "mute"),
        outlets=Outlets(sink, JsonReport(), updates=updates),
    )
    sink.start(listener.beats)
    try:
        yield listener
    finally:
        sink.close()
        updates.close()
        for spool in spools:
            spool.close()


def hear_until(listener, holds, seconds=300):
    """A second of a quiet room at a time, as fast as it goes; waits for the courier where nothing is on trial."""
    for at_s in range(seconds):
        if holds():
            return
        listener._block(listener.channels[0], Block(0, QUIET, 1e6 + at_s, is_first=False))
        listener._swap_when_quiet()
        if listener._updates._shadow is None:
            time.sleep(0.05)
    assert holds(), listener._updates.told()


def said_of(server, run, name="kitchen"):
    found = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    (told,) = [each for each in found if each["type"] == "device" and each["device"] == name]
    return told["running"], told["offered"], told["trial"]


def actions(server):
    from earmark_review import audit  # noqa: PLC0415 - beside the fixtures

    with server.service.database.reading() as conn:
        return [entry.action for entry in audit.read(conn) if entry.action.startswith("bundle.")]


def deaf_bundle(folder):
    """The shipped bundle with thresholds that no scream reaches."""
    shutil.copytree(default_bundle(), folder)
    words = json.loads((folder / SPEC_FILE).read_text())
    for threshold in words["thresholds"].values():
        threshold |= {"value": 1.0, "guarantee": None}
    (folder / SPEC_FILE).write_text(json.dumps(words | {"triage": None}))
    return folder


def test_an_offered_bundle_runs_in_shadow_takes_over_and_is_rolled_back_as_a_newer_version(server, enrolled, run, capsys):
    state = enrolled()
    other = default_bundle().parent / OTHER
    assert "bundle 1 is offered to every device" in run("offer", other).stdout
    run("offer", default_bundle())
    with listening(state) as listener:
        hear_until(listener, lambda: listener._updates.told().trial == "shadow")
        assert listener.status.bundle_sha256 == read_bundle(default_bundle()).graph_sha256, "what ran goes on until the trial is over"
        hear_until(listener, lambda: listener._updates.told().bundle_version == 2)
        run("again", 1)
        hear_until(listener, lambda: listener._updates.told().bundle_version == 3)
        assert listener.status.bundle_sha256 == read_bundle(other).graph_sha256
        assert listener._outlets.sink._rules.spec.graph_sha256 == listener.status.bundle_sha256, "events bear the bundle that heard them"
        until(lambda: said_of(server, run) == (3, 3, ""))
    assert "bundle 3 passed its trial" in capsys.readouterr().out
    folder, version = bundle_to_run(None, state)
    assert (version, read_bundle(folder)) == (3, read_bundle(other)), "and at the next start"
    assert actions(server).count("bundle.adopted") == 2


def test_a_bundle_that_misses_its_canaries_never_runs_and_the_service_is_told_once(server, enrolled, run, tmp_path):
    state = enrolled()
    run("offer", deaf_bundle(tmp_path / "deaf"))
    with listening(state) as listener:
        hear_until(listener, lambda: listener._updates.told().trial == "canary_missed")
        assert listener.status.bundle_sha256 == read_bundle(default_bundle()).graph_sha256
        until(lambda: said_of(server, run) == (0, 1, "canary_missed"))
        beats = listener._outlets.sink.counts()["failed_heartbeats"]
        time.sleep(0.5)
    assert beats == 0
    assert actions(server) == ["bundle.offered", "bundle.failed"], "an alert, and not one a minute"
    assert bundle_to_run(None, state)[0] == default_bundle()


def test_a_trial_that_the_end_of_the_device_cut_off_goes_on_at_the_next_start(server, enrolled, run):
    state = enrolled()
    run("offer", default_bundle().parent / OTHER)
    with listening(state) as listener:
        hear_until(listener, lambda: listener._updates.told().trial == "shadow")
    with listening(state) as listener:
        hear_until(listener, lambda: listener._updates.told().bundle_version == 1)


def test_a_device_is_offered_what_is_meant_for_it_and_loads_nothing_else(server, enrolled, run):
    kitchen, bed = enrolled("kitchen"), enrolled("bed")
    run("offer", default_bundle(), "--device", "bed")
    for state, version in ((kitchen, None), (bed, 1)):
        credentials = read_credentials(state)
        with Uplink(credentials, backoff=Backoff(attempts=1)) as uplink:
            store = BundleStore(state, credentials.enrolment.signing_key)
            answer = uplink.bundle_offer()
            assert (answer is None) == (version is None)
            if answer:
                offer = store.wanted(*answer)
                store.take(offer, *answer, lambda file, uplink=uplink: uplink.bundle_file(1, file))
                assert read_bundle(store.folder(1)) == read_bundle(default_bundle())
                file = offer.files[0]
    with (
        Uplink(read_credentials(kitchen), backoff=Backoff(attempts=1)) as uplink,
        pytest.raises(UplinkError, match="404"),
    ):
        uplink.bundle_file(1, file)


def test_an_offer_of_another_service_is_not_taken(server, enrolled, run):
    state = enrolled()
    run("offer", default_bundle())
    credentials = read_credentials(state)
    with Uplink(credentials) as uplink:
        answer = uplink.bundle_offer()
    write_enrolment(state, replace(credentials.enrolment, signing_key=bytes(32)))
    with (
        Uplink(read_credentials(state), backoff=Backoff(attempts=1)) as uplink,
        pytest.raises(UplinkError, match="not signed by the service"),
    ):
        uplink.bundle_offer()
    with pytest.raises(BundleRefusedError, match="signature"):
        BundleStore(state, bytes(32)).wanted(*answer)


def test_a_file_that_rotted_on_the_services_disk_is_not_served_and_the_old_bundle_stays(server, enrolled, run):
    state = enrolled()
    run("offer", default_bundle())
    for path in (server.service.settings.data / "bundles").iterdir():
        with path.open("r+b") as file:
            file.write(b"\xff")
    credentials = read_credentials(state)
    with Uplink(credentials, backoff=Backoff(attempts=1)) as uplink:
        updates = Updates(BundleStore(state, credentials.enrolment.signing_key), 0, Scorer, DecideConfig())
        with pytest.raises(UplinkError, match="damaged"):
            updates.check(uplink)
    assert bundle_to_run(None, state)[0] == default_bundle()
    assert "bundle 2 is offered" in run("offer", default_bundle()).stdout, "offering it again mends it"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("offer", "nowhere"), "no such file"),
        (("again", "7"), "no bundle 7 was offered"),
        (("offer", default_bundle(), "--device", "attic"), "no device 'attic'"),
    ],
)
def test_what_cannot_be_offered_is_one_line_and_status_1(run, words, said):
    outcome = run(*words, status=1)
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_the_list_shows_what_was_offered_to_whom(run, enrolled):
    assert "none was offered" in run("list").stdout
    enrolled("bed")
    run("offer", default_bundle(), "--device", "bed")
    shown = run("list").stdout
    assert "bed" in shown
    assert read_bundle(default_bundle()).graph_sha256[:12] in shown
