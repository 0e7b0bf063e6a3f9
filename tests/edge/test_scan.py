import json
import os
import pty
import struct
import subprocess
import sys
import threading
import wave
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.edge.device import asked, consented, enrolled
from tests.edge.review_double import TOKEN, Answer, problem
from typer.testing import CliRunner

from earmark_edge import delivery_cli
from earmark_edge import scan as scan_module
from earmark_edge.capture import CaptureError
from earmark_edge.cli import app
from earmark_edge.detector import Detector
from earmark_edge.event import Event, ScoreTrack
from earmark_edge.picture import ThirdOctavePicture
from earmark_edge.report import clock
from earmark_edge.scorer import Scorer
from earmark_edge.signature import public_of
from earmark_edge.uplink import Uplink
from earmark_model.contract import LABELS, SPEC_FILE

RATE_HZ = 16_000
CONSENT = "consent-7"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("EARMARK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def scan(bundle):
    """Run `earmark edge scan` with the tone bundle; what comes back has exit_code, stdout and stderr."""

    def run(*arguments, **environment):
        given = [] if "--bundle" in arguments else ["--bundle", bundle]
        result = CliRunner().invoke(app, ["scan", *map(str, (*arguments, *given))], env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def objects(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def of_type(result, kind):
    return [entry for entry in objects(result) if entry["type"] == kind]


@pytest.fixture
def evening(tmp_path, play):
    """Talk, a scream, talk, crying: 20 s, of which 4 are sensitive."""
    path = tmp_path / "evening.wav"
    sound = play(("speech", 5), ("scream", 1.5), ("speech", 6), ("cry", 2.5), ("speech", 5))
    soundfile.write(path, sound, RATE_HZ, subtype="PCM_16")
    return path


@pytest.fixture
def quiet(tmp_path, play):
    path = tmp_path / "quiet.wav"
    soundfile.write(path, play(("speech", 4), ("laughter", 2)), RATE_HZ, subtype="PCM_16")
    return path


def test_events_are_shown_with_onset_offset_label_peak_decision_and_reason(scan, evening):
    result = scan(evening)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if "flagged" in line and "0:00" in line]
    assert [row[2] for row in rows] == ["scream", "cry"]
    for row, (onset_s, offset_s) in zip(rows, [(5, 6.5), (12.5, 15)], strict=True):
        assert float(row[0].rpartition(":")[2]) == pytest.approx(onset_s, abs=0.3)
        assert float(row[1].rpartition(":")[2]) == pytest.approx(offset_s, abs=0.3)
        assert 0.9 <= float(row[3]) <= 1
        assert row[4:] == ["flagged", "above_threshold"]
    assert str(evening) in result.stdout
    assert result.stderr == ""


def test_the_summary_says_what_was_heard_what_was_flagged_and_how_fast(scan, evening, quiet):
    summary = scan(evening, quiet).stdout.splitlines()[-4:]
    assert summary[0] == "files    2, of which 0 failed"
    assert summary[1].startswith("heard    26.0 s, real-time factor 0.")
    assert "times faster than real time" in summary[1]
    assert summary[2].startswith("flagged  4.")
    assert summary[2].endswith("in 2 events of 2 incidents")
    assert summary[3].startswith("stayed   at home")
    assert "speech" in summary[3]


def test_json_lines_hold_every_event_file_and_the_summary(scan, evening, quiet):
    result = scan(evening, quiet, "--json")
    assert result.exit_code == 0
    assert [entry["type"] for entry in objects(result)] == ["event", "event", "file", "file", "summary"]
    scream = of_type(result, "event")[0]
    assert scream["path"] == str(evening)
    assert (scream["label"], scream["decision"], scream["reason"]) == ("scream", "flagged", "above_threshold")
    assert scream["onset_s"] == pytest.approx(5, abs=0.3)
    assert scream["offset_s"] == pytest.approx(6.5, abs=0.3)
    assert scream["peak_score"] == scream["scores"]["scream"] >= scream["threshold"] == 0.5
    assert set(scream["scores"]) == set(LABELS)
    assert scream["delivery"] is None
    (summary,) = of_type(result, "summary")
    assert (summary["files"], summary["failed"], summary["events"], summary["complete"], summary["unverified"]) == (2, 0, 2, True, [])
    assert summary["heard_s"] == pytest.approx(26)
    assert summary["flagged_s"] == pytest.approx(sum(event["offset_s"] - event["onset_s"] for event in of_type(result, "event")))
    assert summary["real_time_factor"] == pytest.approx(summary["scoring_s"] / summary["heard_s"])


def test_seconds_per_label_count_no_second_twice(scan, tmp_path, play):
    soundfile.write(tmp_path / "a.wav", play(("shout", 20)), RATE_HZ)
    (summary,) = of_type(scan(tmp_path / "a.wav", "--json"), "summary")
    assert summary["label_s"] == {"shout": pytest.approx(20)}
    assert summary["events"] == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_unverified_thresholds_are_told_on_every_screen(scan, write_bundle, tmp_path, quiet, options):
    result = scan(quiet, "--bundle", write_bundle(tmp_path / "b", verified=("cry",)), *options)
    assert "warning: unverified thresholds for scream, baby_cry" in (result.stderr if options else result.stdout)
    if options:
        assert of_type(result, "summary")[0]["unverified"] == ["scream", "baby_cry"]


def test_a_folder_is_searched_and_other_files_in_it_are_left_alone(scan, evening, quiet):
    (evening.parent / "notes.txt").write_text("not audio")
    files = of_type(scan(evening.parent, "--json"), "file")
    assert [entry["path"] for entry in files] == [str(evening), str(quiet)]


def damaged_flac(path, play):
    """A scream, then four minutes of noise, with a hole in the last."""
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, 240 * RATE_HZ).astype(np.float32)
    noise[: 5 * RATE_HZ] += play(("speech", 2), ("scream", 3))
    soundfile.write(path, noise, RATE_HZ)
    body = bytearray(path.read_bytes())
    at = len(body) * 9 // 10
    body[at : at + 2_000] = bytes(2_000)
    path.write_bytes(body)


def write_bad(kind, path):
    """Put something bad at `path`."""
    soundfile.write(path, np.zeros(RATE_HZ, np.float32), RATE_HZ, format="WAV", subtype="FLOAT")
    whole = path.read_bytes()
    at = whole.index(b"data")
    match kind:
        case "empty file":
            path.write_bytes(b"")
        case "header without samples":
            path.write_bytes(whole[: at + 4] + struct.pack("<I", 0))
        case "truncated":
            path.write_bytes(whole[:-1_000])
        case "not audio":
            path.write_text("a letter, not a sound " * 100)
        case "not a finite number at 0.500 s":
            path.write_bytes(whole[: at + 8 + 32_000] + struct.pack("<f", float("nan")) + whole[at + 8 + 32_004 :])
        case "zero channels":
            path.write_bytes(whole[:22] + b"\0\0" + whole[24:])
        case "no such file":
            path.unlink()
        case "a folder without audio":
            path.unlink()
            path.mkdir()


BAD = [
    "empty file",
    "header without samples",
    "truncated",
    "not audio",
    "not a finite number at 0.500 s",
    "zero channels",
    "no such file",
    "a folder without audio",
]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_each_bad_input_gives_one_line_with_file_and_cause_and_the_others_go_on(scan, tmp_path, evening, quiet, kind, options):
    bad = tmp_path / "bad.wav"
    write_bad(kind, bad)
    result = scan(quiet, bad, evening, *options)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {bad}: ")
    assert kind in line
    if options:
        assert [entry["path"] for entry in of_type(result, "event")] == [str(evening)] * 2
        told = {entry["path"]: entry["error"] for entry in of_type(result, "file")}
        assert told == {str(quiet): None, str(evening): None, str(bad): line.removeprefix("error: ")}
        assert of_type(result, "summary")[0]["failed"] == 1
    else:
        assert "files    3, of which 1 failed" in result.stdout


def test_all_bad_inputs_together_give_a_line_each(scan, tmp_path):
    paths = [tmp_path / f"{number}.wav" for number in range(len(BAD))]
    for kind, path in zip(BAD, paths, strict=True):
        write_bad(kind, path)
    result = scan(*paths)
    assert result.exit_code == 1
    assert sorted(line.split(": ")[1] for line in result.stderr.splitlines()) == [str(path) for path in paths]
    assert "heard    0.0 s" in result.stdout


def test_192_khz_and_7_1_channels_are_heard(scan, tmp_path):
    time_s = np.arange(192_000 * 3) / 192_000
    channels = np.repeat(0.3 * np.sin(2 * np.pi * 3_000 * time_s)[:, None], 8, axis=1)
    soundfile.write(tmp_path / "a.wav", channels, 192_000, subtype="PCM_24")
    assert [event["label"] for event in of_type(scan(tmp_path / "a.wav", "--json"), "event")] == ["scream"]


def test_what_was_found_before_the_damage_is_kept_and_how_far_was_heard_is_told(scan, tmp_path, play):
    damaged_flac(tmp_path / "a.flac", play)
    result = scan(tmp_path / "a.flac", "--json")
    assert result.exit_code == 1
    assert [event["label"] for event in of_type(result, "event")] == ["scream"]
    (line,) = result.stderr.splitlines()
    assert "damaged from about" in line
    (file,) = of_type(result, "file")
    assert f"heard until {file['heard_s']:.1f} s" in line
    assert 150 < file["heard_s"] < 240


def test_an_event_that_is_open_where_the_damage_begins_is_closed_and_kept(scorer, play, monkeypatch):
    def blocks(path, sample_rate_hz):
        yield play(("speech", 3), ("scream", 3))
        raise CaptureError(path)

    monkeypatch.setattr(scan_module, "blocks", blocks)
    found = []
    with pytest.raises(CaptureError):  # noqa: PT012 - what came before the error is the point
        for _, heard in scan_module.hear(Path("a.flac"), Detector(scorer)):
            found += heard.detections
    (detection,) = found
    assert (detection.label, detection.offset_s) == ("scream", 6.0)


@pytest.mark.parametrize("name", ["a\nb\x1b[31m.wav", "[bold]x.wav", "\udcff\udcfe.wav"])
def test_no_file_name_breaks_a_line_or_drives_the_terminal(scan, tmp_path, evening, name):
    good, bad = tmp_path / "good" / name, tmp_path / "bad" / name
    for path in (good, bad):
        path.parent.mkdir()
    good.write_bytes(evening.read_bytes())
    bad.write_bytes(b"")
    result = scan(good, bad)
    assert len(result.stderr.splitlines()) == 1
    assert "\x1b" not in result.stdout + result.stderr
    assert sum("good" in line for line in result.stdout.splitlines()) == 1
    assert of_type(scan(good, "--json"), "event")[0]["path"] == str(good)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "its SHA-256 is"),
        (lambda folder: (folder / SPEC_FILE).unlink(), "no such file"),
        (lambda folder: (folder / SPEC_FILE).write_text('{"schema": 99}'), "schema 99 is newer"),
        (lambda folder: (folder / SPEC_FILE).write_text("{"), "not valid JSON"),
    ],
    ids=["wrong hash", "missing", "newer schema", "not JSON"],
)
def test_a_bundle_that_cannot_be_run_gives_one_line_and_status_1(scan, write_bundle, tmp_path, quiet, damage, cause):
    folder = write_bundle(tmp_path / "b")
    damage(folder)
    result = scan(quiet, "--bundle", folder)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert str(folder) in line
    assert cause in line


def test_the_bundle_of_the_environment_is_run_and_the_option_comes_first(scan, write_bundle, tmp_path, bundle, quiet):
    other = write_bundle(tmp_path / "b", verified=("cry",))
    assert of_type(CliResult(quiet, EARMARK_BUNDLE=str(other)), "summary")[0]["unverified"] == [
        "scream",
        "baby_cry",
    ]
    assert of_type(scan(quiet, "--json", "--bundle", bundle, EARMARK_BUNDLE=str(other)), "summary")[0]["unverified"] == []


def CliResult(path, **environment):  # noqa: N802 - reads as the result that it gives
    return CliRunner().invoke(app, ["scan", str(path), "--json"], env=environment)


def test_the_knobs_of_the_environment_reach_the_events(scan, tmp_path, play):
    soundfile.write(tmp_path / "a.wav", play(("", 3), ("shout", 2), ("", 3)), RATE_HZ)
    assert of_type(scan(tmp_path / "a.wav", "--json"), "event") == []
    (event,) = of_type(scan(tmp_path / "a.wav", "--json", EARMARK_ROUTE_ALSO="shout"), "event")
    (wide,) = of_type(scan(tmp_path / "a.wav", "--json", EARMARK_ROUTE_ALSO="shout", EARMARK_MARGIN_S="0.8"), "event")
    assert wide["onset_s"] < event["onset_s"] - 0.4


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        ([], {"EARMARK_THREADS": "none"}, "EARMARK_THREADS"),
        ([], {"EARMARK_ROUTE_ALSO": "thunder"}, "thunder"),
    ],
)
def test_misuse_gives_one_line_and_status_2_before_anything_is_heard(scan, evening, options, environment, told):
    result = scan(evening, *options, **environment)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert told in line
    assert TOKEN not in line


def test_no_path_is_misuse(scan):
    assert scan().exit_code == 2


@pytest.fixture
def state(tmp_path, service):
    """An enrolled device, without consent so far."""
    service.device = public_of(enrolled(tmp_path / "state", service.url).device_key)
    return tmp_path / "state"


@pytest.fixture
def send(scan, state, monkeypatch):
    monkeypatch.setattr(delivery_cli, "Uplink", partial(Uplink, sleep=lambda _: None))
    consented(state, CONSENT)
    return lambda *arguments, **environment: scan(*arguments, "--send", EARMARK_STATE=str(state), **environment)


def test_without_enrolment_or_consent_a_scan_that_is_to_send_hears_nothing(scan, state, evening, tmp_path):
    for folder, told in ((tmp_path / "new", "earmark edge enrol"), (state, "earmark edge consent give")):
        result = scan(evening, "--send", EARMARK_STATE=str(folder))
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert told in line


def test_flagged_events_are_delivered_sealed_with_every_tier_that_is_allowed_and_nothing_else_is(send, service, state, evening, quiet):
    asked(state, (0, 1, 2, 3))
    result = send(evening, quiet, "--json")
    assert result.exit_code == 0, result.stderr
    events = [Event.from_bytes(body) for body in service.events.values()]
    told = of_type(result, "event")
    assert [(event.seq, event.label, event.onset_s, event.offset_s) for event in events] == [
        (number, entry["label"], entry["onset_s"], entry["offset_s"]) for number, entry in enumerate(told)
    ]
    assert {event.consent_id for event in events} == {CONSENT}
    assert [entry["delivery"] for entry in told] == ["sealed", "sealed"]
    with wave.open(str(evening)) as file:
        whole = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)
    sent_samples = 0
    for event in events:
        audio = np.frombuffer(service.opened(event.event_id, 3)[44:], "<i2").astype(int)
        span = whole[round(event.onset_s * RATE_HZ) : round(event.offset_s * RATE_HZ)]
        assert np.abs(audio - span).max() <= 1  # 16 bits to float32 and back
        sent_samples += len(audio)
        assert len(service.opened(event.event_id, 2)) == len(service.opened(event.event_id, 3))
        assert ThirdOctavePicture.from_bytes(service.opened(event.event_id, 1)).start_s == event.onset_s
        assert ScoreTrack.from_bytes(service.opened(event.event_id, 0)).start_s == event.onset_s
    assert sent_samples / RATE_HZ == pytest.approx(of_type(result, "summary")[0]["flagged_s"])
    assert of_type(result, "summary")[0]["sent"] == 2
    assert len(service.paths()) == sum(1 + len(event.clips) for event in events)
    assert service.paths()[:2] == ["POST /api/v1/events"] * 2, "metadata goes first"


def test_scanning_and_sending_again_delivers_nothing_twice(send, service, evening):
    assert "sent     2 events, 0 not delivered" in send(evening).stdout
    before, service.heard = dict(service.events), []
    assert send(evening).exit_code == 0
    assert service.events == before
    assert service.paths() == []


def test_without_a_policy_that_asks_for_them_originals_stay_even_where_the_household_consents(send, service, state, evening):
    assert send(evening).exit_code == 0
    assert {tuple(clip.tier for clip in Event.from_bytes(body).clips) for body in service.events.values()} == {(0, 1, 2)}
    assert {tier for held in service.clips.values() for tier in held} == {0, 1, 2}


def test_a_policy_alone_does_not_make_originals_leave(send, service, state, evening):
    consented(state, tiers=(0, 1, 2))
    asked(state, (0, 1, 2, 3))
    assert send(evening).exit_code == 0
    assert {tier for held in service.clips.values() for tier in held} == {0, 1, 2}


def test_only_the_tiers_that_the_household_consents_to_leave(send, service, state, evening):
    consented(state, tiers=(0,))
    assert send(evening).exit_code == 0
    assert {tuple(clips) for clips in service.clips.values()} == {(0,)}


def test_a_sound_that_the_household_does_not_consent_to_stays(send, service, state, evening):
    consented(state, labels=("baby_cry",))
    result = send(evening)
    assert result.exit_code == 1
    assert service.events == {}
    assert "not among the sounds that may leave" in result.stderr


def test_a_muted_device_hears_but_sends_nothing(send, service, state, evening):
    (state / "mute").touch()
    result = send(evening)
    assert result.exit_code == 1
    assert "muted" in result.stderr
    assert service.heard == []


def test_a_refused_event_is_told_in_one_line_and_the_others_are_still_sent(send, service, evening):
    service.fail(problem(422, "Consent withdrawn", "ask again"))
    result = send(evening)
    assert result.exit_code == 1
    line, waiting = result.stderr.splitlines()
    assert "answered 422, Consent withdrawn: ask again" in line
    assert "1 events wait in the outbox" in waiting
    assert len(service.events) == 1
    assert "sent     1 events, 1 not delivered" in result.stdout


def test_with_the_service_down_the_scan_keeps_everything_and_send_delivers_it_later(send, service, state, evening, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(evening.read_bytes())
    os.utime(copy, (1e9, 1e9))
    service.fail(*[Answer(503)] * 5)
    result = send(evening, copy, "--json")
    assert result.exit_code == 1
    assert len(service.paths()) == 5
    assert len(result.stderr.splitlines()) == 2
    assert [event["delivery"] for event in of_type(result, "event")] == ["sealed"] * 4
    assert of_type(result, "summary")[0]["unsent"] == 4
    later = CliRunner().invoke(app, ["send", "--state", str(state)])
    assert later.exit_code == 0, later.output
    assert "sent 4 events; 0 wait" in later.stdout
    assert len(service.events) == 4


def test_a_scan_writes_no_file_anywhere_near(scan, evening, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    scan(evening, TMPDIR=str(tmp_path / "empty"))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupt_keeps_what_was_found(scan, evening, quiet, monkeypatch):
    whole, calls = Scorer.run, []

    def run(self, audio):
        calls.append(len(audio))
        if len(calls) > 30:
            raise KeyboardInterrupt
        return whole(self, audio)

    monkeypatch.setattr(Scorer, "run", run)
    result = scan(*[quiet, evening] * 3, "--json")
    assert result.exit_code == 130
    assert len(of_type(result, "event")) >= 2
    assert of_type(result, "summary")[0]["complete"] is False
    assert "interrupted" in result.stderr


def test_on_a_terminal_the_progress_bar_stays_on_stderr_and_results_on_stdout(bundle, evening):
    master, slave = pty.openpty()
    drawn = bytearray()

    def watch():
        while True:
            try:
                part = os.read(master, 4_096)
            except OSError:  # the other end is closed
                return
            drawn.extend(part)

    watcher = threading.Thread(target=watch)
    script = "import sys\nfrom earmark_edge.cli import app\napp(sys.argv[1:])\n"
    command = [sys.executable, "-c", script, "scan", *[str(evening)] * 40, "--json", "--bundle", str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(slave)
        watcher.start()
        stdout = process.stdout.read()
    watcher.join()
    os.close(master)
    assert process.returncode == 0
    assert len([json.loads(line) for line in stdout.splitlines()]) == 40 * 3 + 1
    bar = drawn.decode()
    assert "evening.wav" in bar
    assert "0:13:20" in bar
    assert "real time" in bar
    assert '"type"' not in bar


def peak_mb(bundle, path):
    """Peak resident memory of a scan of `path` in a process of its own."""
    script = (
        "import sys\nfrom earmark_edge.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "status = open('/proc/self/status').read()\n"  # getrusage would count the test process that this one was forked from
        "sys.stderr.write(status.partition('VmHWM:')[2].split()[0])\n"
    )
    told = subprocess.run([sys.executable, "-c", script, "scan", path, "--bundle", bundle], capture_output=True, text=True, check=True)
    return int(told.stderr) / 1024


def test_memory_does_not_grow_with_the_length_of_a_file(bundle, tmp_path, play):
    minute = (play(("speech", 30), ("cry", 20), ("", 10)) * 32_767).astype("<i2").tobytes()

    def written(minutes) -> Path:
        path = tmp_path / f"{minutes}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            for _ in range(minutes):
                file.writeframes(minute)
        return path

    short, long = peak_mb(bundle, written(2)), peak_mb(bundle, written(20))
    assert long < 150
    assert long - short < 8  # twenty minutes of samples alone would be 77 MB


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00:00.00"), (59.999, "0:01:00.00"), (3_599.994, "0:59:59.99"), (36_000, "10:00:00.00")]
)
def test_the_clock_carries_over(seconds, shown):
    assert clock(seconds) == shown
