import json
import os
import resource
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from tests.edge.device import consented, enrolled
from tests.edge.listen.fakes import ScriptedSource
from tests.edge.parcels import parcel
from tests.edge.review_double import problem

from earmark_edge.courier import Courier
from earmark_edge.decide import DecideConfig
from earmark_edge.doctor import machine
from earmark_edge.doctor.check import Verdict, ok
from earmark_edge.doctor.cli import _print
from earmark_edge.doctor.hearing import check_bundle, check_input, inputs_checks
from earmark_edge.doctor.machine import check_clock, check_core_dumps, check_disk, check_swap, check_telemetry
from earmark_edge.doctor.service import check_listener, check_way_out
from earmark_edge.keys import ENROLMENT_FILE
from earmark_edge.listen.clock import ClockState
from earmark_edge.listen.health import Problem
from earmark_edge.listen.inputs import Input
from earmark_edge.listen.source import SourceError
from earmark_edge.listen.status import CanaryStatus, Status, StreamStatus
from earmark_edge.listen.supervisor import State
from earmark_edge.outbox import wav_bytes
from earmark_edge.scorer import Scorer
from earmark_edge.signature import public_of
from earmark_edge.spool import SPOOL_FILE, Spool
from earmark_edge.uplink import Uplink

RATE_HZ = 16_000
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOISE = np.random.default_rng(0).normal(0, 0.05, 3 * RATE_HZ).astype(np.float32)


def heard(*script):
    return check_input(Input("bed", ScriptedSource(script)), RATE_HZ)


def test_an_input_that_hears_is_well_and_is_closed_again():
    source = ScriptedSource([NOISE])
    found = check_input(Input("bed", source), RATE_HZ)
    assert [(check.name, check.verdict) for check in found] == [("input bed", Verdict.OK), ("level", Verdict.OK)]
    assert "-26 dBFS" in found[1].said
    assert not source.is_open


@pytest.mark.parametrize(
    ("samples", "verdict", "said"),
    [
        (np.zeros(2 * RATE_HZ), Verdict.FAIL, "silent"),
        (np.clip(NOISE * 100, -1, 1), Verdict.FAIL, "clipped"),
        (NOISE + 0.4, Verdict.FAIL, "dc"),
        (np.full(2 * RATE_HZ, np.nan), Verdict.FAIL, "silent"),
        (NOISE * 1e-4, Verdict.WARN, "dBFS"),
    ],
)
def test_a_level_that_is_none_is_told_with_what_to_do(samples, verdict, said):
    level = heard(samples)[1]
    assert (level.verdict, said in level.said, bool(level.advice)) == (verdict, True, True)


def test_an_input_that_is_not_there_or_breaks_fails():
    for script in ([SourceError("unplugged")], [OSError(5, "broken")]):
        (check,) = heard(*script)
        assert check.verdict is Verdict.FAIL
        assert check.advice


def test_a_muted_device_is_not_listened_to():
    source = ScriptedSource([NOISE])
    (check,) = inputs_checks([Input("bed", source)], RATE_HZ, ("file",))
    assert (check.verdict, source.opened) == (Verdict.WARN, 0)


def test_a_sound_bundle_hears_its_canary_and_says_what_its_thresholds_are_worth(bundle, write_bundle, tmp_path):
    by_name = {check.name: check for check in check_bundle(lambda: Scorer(bundle), DecideConfig())[1]}
    assert by_name["thresholds"].verdict is Verdict.OK
    assert "scream misses at most 5%" in by_name["thresholds"].said
    unverified = write_bundle(tmp_path / "b", verified=())
    assert {c.name: c.verdict for c in check_bundle(lambda: Scorer(unverified), DecideConfig())[1]}["thresholds"] is Verdict.WARN


def test_a_bundle_that_cannot_hear_fails(write_bundle, tmp_path):
    from tests.edge.conftest import GUARANTEE, LABELS  # noqa: PLC0415 - beside the fixtures

    from earmark_model.contract import Threshold  # noqa: PLC0415

    deaf = write_bundle(tmp_path / "deaf", thresholds={label: Threshold(1.0, GUARANTEE) for label in LABELS})
    by_name = {check.name: check.verdict for check in check_bundle(lambda: Scorer(deaf), DecideConfig())[1]}
    assert by_name["canary"] is Verdict.FAIL
    (deaf / "model.onnx").write_bytes(b"damaged")
    scorer, (check,) = check_bundle(lambda: Scorer(deaf), DecideConfig())
    assert (scorer, check.verdict) == (None, Verdict.FAIL)


def test_the_clock():
    assert check_clock(ClockState(is_synchronised=True, uncertainty_s=0.02)).verdict is Verdict.OK
    assert check_clock(ClockState(is_synchronised=True, uncertainty_s=9)).verdict is Verdict.WARN
    assert "set-ntp" in check_clock(ClockState(is_synchronised=False, uncertainty_s=86_400)).advice


def test_the_disk(tmp_path, monkeypatch):
    state = tmp_path / "state"
    assert check_disk(state, 1).verdict is Verdict.OK
    assert check_disk(state, 2**60).verdict is Verdict.WARN
    state.chmod(0o755)
    assert "chmod 700" in check_disk(state, 1).advice
    full = SimpleNamespace(free=5)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: full)
    assert check_disk(state, 1).verdict is Verdict.FAIL
    (tmp_path / "file").touch()
    assert check_disk(tmp_path / "file", 1).verdict is Verdict.FAIL


SWAPS = "Filename\tType\tSize\n/dev/sda2 partition 1000\n"


@pytest.mark.parametrize(
    ("swaps", "limit", "verdict"),
    [
        ("", None, Verdict.OK),
        ("Filename\tType\n/dev/zram0 partition 9\n", None, Verdict.OK),
        (SWAPS, "0", Verdict.OK),
        (SWAPS, "max", Verdict.WARN),
        (SWAPS, None, Verdict.WARN),
    ],
)
def test_swap(swaps, limit, verdict):
    assert check_swap(swaps, limit).verdict is verdict


def test_core_dumps_of_a_process():
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    for soft, verdict in ((0, Verdict.OK), (hard, Verdict.FAIL if hard else Verdict.OK)):
        code = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, ({soft}, {hard})); print('set', flush=True); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            assert check_core_dumps(process.pid).verdict is verdict
            process.communicate(b"\n")
    assert check_core_dumps(None).verdict is Verdict.OK


def test_telemetry():
    assert check_telemetry({"ORT_DISABLE_TELEMETRY": "1"}).verdict is Verdict.OK
    assert check_telemetry({}).verdict is Verdict.FAIL
    assert check_telemetry(os.environ).verdict is Verdict.OK  # the package has set it


def test_a_device_that_is_not_enrolled_only_warns(tmp_path):
    (check,) = check_way_out(tmp_path, NOW)
    assert check.verdict is Verdict.WARN
    assert "enrol" in check.advice


def test_keys_consent_and_connection_of_an_enrolled_device(tmp_path, service):
    service.device = public_of(enrolled(tmp_path, service.url).device_key)
    consented(tmp_path)
    now = datetime.now(UTC)
    found = {check.name: check for check in check_way_out(tmp_path, now)}
    assert found["keys"].verdict is Verdict.OK
    assert found["connection"].verdict is Verdict.OK
    assert "ends on" in found["consent"].said  # in a day
    consented(tmp_path, expires_at=(now + timedelta(days=99)).isoformat())
    assert {c.name: c.verdict for c in check_way_out(tmp_path, now)}["consent"] is Verdict.OK
    service.fail(problem(500, "broken"))
    found = {check.name: check for check in check_way_out(tmp_path, now + timedelta(days=100))}
    assert (found["consent"].verdict, found["connection"].verdict) == (Verdict.WARN, Verdict.FAIL)
    (tmp_path / ENROLMENT_FILE).chmod(0o644)
    (check,) = check_way_out(tmp_path, now)
    assert (check.name, check.verdict) == ("keys", Verdict.FAIL)


@pytest.mark.parametrize(("kind", "advice"), [("urn:earmark:problem:consent-required", "consent give"), ("about:blank", "send --now")])
def test_what_the_service_did_not_take_is_told_with_what_to_do(tmp_path, service, kind, advice):
    credentials = enrolled(tmp_path, service.url)
    service.device = public_of(credentials.device_key)
    consented(tmp_path)
    with closing(Spool(tmp_path / SPOOL_FILE, 1 << 20)) as spool, Uplink(credentials) as uplink:
        courier = Courier(tmp_path, credentials, spool)
        courier.accept(parcel(1))
        found = {check.name for check in check_way_out(tmp_path, NOW)}
        service.fail(*[problem(403, "No", "not so", kind=kind)] * 2)
        courier.deliver(uplink)
        refused = {check.name: check for check in check_way_out(tmp_path, NOW)}["refused"]
    assert "refused" not in found, "what only waits was not refused"
    assert refused.verdict is Verdict.WARN
    assert "did not take 1 events, which are kept" in refused.said
    assert "not so" in refused.said
    assert advice in refused.advice


def status(**changes):
    canary = CanaryStatus(3_600.0, heard=1, is_last_heard=True, last_at=NOW.isoformat(), last_heard_at=NOW.isoformat())
    stream = StreamStatus("bed", canary, State.LISTENING)
    for name, value in changes.pop("stream", {}).items():
        setattr(stream, name, value)
    for name, value in changes.pop("canary", {}).items():
        setattr(canary, name, value)
    return Status("1", os.getpid(), NOW.isoformat(), NOW.isoformat(), "a" * 64, "b" * 64, (), [stream], **changes)


@pytest.mark.parametrize(
    ("changes", "later_s", "verdict"),
    [
        ({}, 5, Verdict.OK),
        ({"is_running": False}, 5, Verdict.WARN),
        ({}, 900, Verdict.FAIL),
        ({"muted_by": ("file",)}, 5, Verdict.WARN),
        ({"stream": {"state": State.DOWN, "last_failure": "unplugged"}}, 5, Verdict.FAIL),
        ({"stream": {"problems": (Problem.CLIPPED,)}}, 5, Verdict.FAIL),
        ({"canary": {"is_last_heard": False}}, 5, Verdict.FAIL),
        ({"canary": {"missed": 2}}, 5, Verdict.WARN),
        ({"canary": {"last_heard_at": (NOW - timedelta(hours=3)).isoformat()}}, 5, Verdict.FAIL),
        ({"delivery": {"waiting": 1, "set_aside": 2}}, 5, Verdict.WARN),
    ],
)
def test_the_word_of_a_running_listener(tmp_path, changes, later_s, verdict):
    status(**changes).write(tmp_path)
    worst = [Verdict.OK, Verdict.WARN, Verdict.FAIL]
    _, checks = check_listener(tmp_path, NOW + timedelta(seconds=later_s))
    assert max((check.verdict for check in checks), key=worst.index) is verdict
    assert all(check.advice for check in checks if check.verdict is not Verdict.OK)


def test_a_clock_that_was_set_back_is_told_as_that(tmp_path):
    status().write(tmp_path)
    _, (check,) = check_listener(tmp_path, NOW - timedelta(hours=1))
    assert check.verdict is Verdict.FAIL
    assert "3600 s ahead of now: the clock was set back" in check.said


def test_a_listener_that_was_killed_or_never_ran(tmp_path):
    assert check_listener(tmp_path, NOW)[1][0].verdict is Verdict.WARN
    gone = status()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    gone.pid = process.pid
    gone.write(tmp_path)
    assert "killed or crashed" in check_listener(tmp_path, NOW)[1][0].said
    (tmp_path / "status.json").write_text("{")
    assert "cannot be read" in check_listener(tmp_path, NOW)[1][0].said


def test_a_long_name_does_not_run_into_what_is_said_of_it(capsys):
    _print(Console(width=160), ok("input kitchen-recording.wav", "2.0 s heard"), as_json=False)
    assert "kitchen-recording.wav 2.0 s heard" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_tells_all_and_its_exit_status_counts_failures(tmp_path, play, as_json):
    path = tmp_path / "room.wav"
    path.write_bytes(wav_bytes(play(("speech", 3)), RATE_HZ))
    arguments = [str(path), "--state", str(tmp_path / "state"), *(["--json"] if as_json else [])]
    command = [sys.executable, "-m", "earmark_cli.main", "edge", "doctor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    if as_json:
        names = [json.loads(line)["name"] for line in done.stdout.splitlines()]
    else:
        names = [line[6:28].strip() for line in done.stdout.splitlines() if line[:4].strip() in {"ok", "warn"}]
        assert done.stdout.splitlines()[-1].endswith("0 failed")
    machine = ["clock", "disk", "swap", "core dumps", "telemetry", "settings"]
    assert names == ["input room.wav", "level", "bundle", "thresholds", "canary", *machine, "keys", "listener"]
    broken = [*command, "--bundle", str(tmp_path)]
    assert subprocess.run(broken, capture_output=True, check=False, timeout=60).returncode == 1
    assert not [file for file in (tmp_path / "state").rglob("*") if file.is_file()]
