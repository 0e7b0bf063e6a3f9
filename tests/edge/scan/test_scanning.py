"""What a scan shows, counts and leaves alone."""

import json
import os
import pty
import subprocess
import sys
import threading
import wave
from pathlib import Path

import pytest
import soundfile
from tests.edge.scan.conftest import objects, of_type

from earmark_edge.report import clock
from earmark_edge.scorer import Scorer
from earmark_model.contract import LABELS

RATE_HZ = 16_000


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
