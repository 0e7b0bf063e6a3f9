"""The demo, as a stranger runs it. Corpora of tones and a bundle that hears tones make its figures exact; the shipped bundle runs too."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from click.testing import Result
from tests.edge.conftest import GUARANTEE, play, write_bundle
from typer.testing import CliRunner

from earmark_cli.main import build
from earmark_cli.outcome import COLLAR_S, Flag, compare
from earmark_data.scene import Scene, TrueEvent
from earmark_model.contract import LABELS, Threshold

RATE = 16_000
HEAVY = ("torch", "torchaudio", "matplotlib", "librosa", "sklearn", "onnx")
LIGHT = """
import signal, sys
sys.modules.update(dict.fromkeys({heavy!r}))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
from earmark_cli.main import main
main()
"""


def demo_here(*words: str | Path) -> Result:
    """`earmark demo` in this process, which spares the imports."""
    return CliRunner().invoke(build("demo"), ["demo", *map(str, words)])


def command(*words: str | Path) -> list[str]:
    """`earmark demo` on a machine that has only the extras edge and review."""
    return [sys.executable, "-c", LIGHT.format(heavy=HEAVY), "demo", *map(str, words)]


@contextmanager
def started(*words, cwd):
    """The demo while it serves; killed where a test fails on the way."""
    with subprocess.Popen(command(*words), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            yield demo
        finally:
            demo.kill()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    thresholds = {label: Threshold(0.12, None if label == "baby_cry" else GUARANTEE) for label in LABELS}  # an echo can weaken a tone
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tones", thresholds=thresholds)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Four seconds of each label's own tone; the tone of a background clip is none that matters."""
    folder = tmp_path_factory.mktemp("corpus")
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "source", "group", "duration_s"])
        for label in ("scream", "cry", "baby_cry", "speech", "background"):
            soundfile.write(folder / f"{label}.wav", play((label.replace("background", "other"), 4.0)), RATE)
            writer.writerow([f"{label}.wav", label, "test", "tones", label, 4.0])
    return folder


@pytest.fixture(scope="module")
def once(corpus, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    words = command("--once", "--corpus", corpus, "--bundle", bundle, "--minutes", "3")
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=200, check=False), folder


def test_the_demo_finds_every_event_of_a_scene_that_its_bundle_can_hear(once):
    done, _ = once
    assert done.returncode == 0, done.stderr
    assert "All sounds are recordings: the test split of" in done.stdout
    assert len(re.findall(r"\+ found", done.stdout)) == 3
    assert "Found 3 of 3, with no false alarms" in done.stdout
    assert "x missed" not in done.stdout
    for name in ("scream", "crying", "baby cry"):
        assert re.search(rf"{name}, \d\.\d s +\d:\d\d\.\d-\d:\d\d\.\d", done.stdout), name


def test_the_demo_says_how_much_talk_would_have_left(once):
    done, _ = once
    talk = float(re.search(r"([\d.]+) s +of talk in the evening", done.stdout)[1])
    out = float(re.search(r"([\d.]+) s +of that talk inside flagged spans", done.stdout)[1])
    flagged = float(re.search(r"([\d.]+) s +flagged in all, of 180 s", done.stdout)[1])
    assert talk > 60
    assert out == 0
    assert 8 < flagged < 40


def test_the_demo_delivers_what_it_flagged_and_warns_of_thresholds_without_a_guarantee(once):
    done, _ = once
    assert "3 of 3 flagged events went to a review server on this machine" in done.stdout
    assert "consent record 'demo-consent'" in done.stdout
    assert "warning: unverified thresholds for baby_cry" in done.stdout


def test_the_demo_leaves_the_evening_and_nothing_else(once):
    done, folder = once
    assert done.returncode == 0
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["demo-output", "demo-output/evening-at-home.wav"]
    assert soundfile.info(folder / "demo-output" / "evening-at-home.wav").duration == 180


def test_without_a_corpus_everything_is_synthesised_and_the_shipped_bundle_hears_the_scream(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = demo_here("--once", "--corpus", tmp_path / "none", "--minutes", "1", "--seed", "0")
    assert done.exit_code == 0, done.stderr
    assert "made by the project's own synthesiser" in done.stdout
    assert str(tmp_path / "none" / "manifest.csv") in done.stdout
    assert "Found 1 of 1" in done.stdout, done.stdout


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=lambda end: end.name)
def test_the_demo_serves_the_flagged_events_until_it_is_ended_and_then_deletes_them(corpus, bundle, tmp_path, end):
    words = ("--corpus", corpus, "--bundle", bundle, "--minutes", "1")
    with started(*words, cwd=tmp_path) as demo:
        told = ""
        for line in demo.stdout:
            told += line
            if "Ctrl-C" in line:
                break
        shown = dict(re.findall(r"^ +(address|user|password) +(\S+) *$", told, re.MULTILINE))
        assert set(shown) == {"address", "user", "password"}, told
        assert shown["address"].startswith("http://127.0.0.1:")
        assert [path.name for path in (tmp_path / "demo-output").glob("review-*")], "the server's data lie under demo-output"
        with httpx.Client(base_url=shown["address"], follow_redirects=True, trust_env=False) as browser:
            assert browser.get("/queue").status_code == 401, "nobody sees the queue without signing in"
            form = re.search(r'name="csrf" value="([^"]+)"', browser.get("/login").text)
            queue = browser.post("/login", data={"csrf": form[1], "name": shown["user"], "password": shown["password"], "next": "/queue"})
            assert queue.status_code == 200
            assert queue.url.path == "/queue"
            assert "demo-device" in queue.text
        os.kill(demo.pid, end)
        rest, stderr = demo.communicate(timeout=60)
    assert demo.returncode == 0, stderr
    assert "deleted" in rest
    assert "Traceback" not in stderr
    assert [path.name for path in (tmp_path / "demo-output").iterdir()] == ["evening-at-home.wav"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(shown["address"], trust_env=False)


def test_own_recordings_are_heard_each_and_one_that_is_damaged_stops_no_other(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    soundfile.write(mine / "a-scream.wav", play(("speech", 3), ("scream", 3), ("speech", 3)), RATE)
    (mine / "b-broken.wav").write_bytes(b"RIFF but nothing else")
    soundfile.write(mine / "c-talk.wav", play(("speech", 5)), RATE)
    done = demo_here("--once", "--audio", mine, "--bundle", bundle)
    assert done.exit_code == 1
    assert re.search(r"a-scream.wav\n +from .*\n +0:0[23]\.\d +0:0[67]\.\d +scream", done.stdout), done.stdout
    assert "c-talk.wav: nothing was flagged." in done.stdout
    assert "b-broken.wav" not in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert "b-broken.wav" in done.stderr
    assert "1 of 1 flagged event went to a review server" in done.stdout
    assert "1 file could not be heard" in done.stdout
    assert not list((tmp_path / "demo-output").iterdir())


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--audio", "nowhere.wav"), 1, "nowhere.wav: no such file or folder"),
        (("--bundle", "nowhere"), 1, "nowhere/bundle.json: no such file"),
        (("--corpus", "broken"), 1, "broken/manifest.csv"),
        (("--minutes", "0"), 2, "--minutes"),
        (("--seed", "-1"), 2, "--seed"),
        (("--spam",), 2, "--spam"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line_and_by_the_exit_status(bundle, tmp_path, monkeypatch, words, status, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.csv").write_text("path,label\nx.wav,scream\n")
    fixed = () if "--bundle" in words else ("--bundle", bundle)
    done = demo_here("--once", *fixed, *words)
    assert done.exit_code == status, done.stdout + done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("review-*"))


def test_a_setting_of_the_environment_that_is_none_is_misuse(tmp_path, bundle, monkeypatch):
    monkeypatch.setenv("EARMARK_THREADS", "many")
    monkeypatch.chdir(tmp_path)
    done = demo_here("--once", "--bundle", bundle)
    assert done.exit_code == 2
    assert "EARMARK_THREADS" in done.stderr


def evening(*events: tuple[str, float, float]) -> Scene:
    return Scene(np.zeros(60 * RATE, np.float32), tuple(TrueEvent(*event) for event in events), "a test")


def flag(onset_s: float, offset_s: float) -> Flag:
    return Flag(onset_s, offset_s, "scream", 0.9, "above_threshold")


def test_truth_and_flags_are_matched_within_the_collar():
    scene = evening(("speech", 0, 9), ("scream", 10, 12), ("cry", 20, 25), ("laughter", 30, 33))
    touching, far = flag(12 + COLLAR_S - 0.1, 14), flag(14.5, 15)
    outcome = compare(scene, [flag(10.5, 11), touching, far, flag(31, 32)])
    assert [(row.onset_s, row.is_found, len(row.flags)) for row in outcome.rows] == [
        (10, True, 2),
        (14.5, False, 1),
        (20, False, 0),
        (31, False, 1),
    ]
    assert (outcome.found, outcome.events, outcome.false_alarms) == (1, 2, 2)
    assert [row.heard for row in outcome.rows if row.event is None] == [(), ("laughter",)]


def test_talk_that_would_leave_is_counted_once():
    scene = evening(("speech", 0, 5), ("speech", 8, 10), ("scream", 9, 12))
    outcome = compare(scene, [flag(4, 6), flag(4.5, 8.5), flag(9, 12)])
    assert outcome.speech_s == 7
    assert outcome.speech_out_s == pytest.approx(1 + 0.5 + 1)
    assert outcome.flagged_s == pytest.approx(4.5 + 3)


def test_an_evening_in_which_nothing_is_flagged_keeps_everything_at_home():
    outcome = compare(evening(("speech", 0, 5), ("scream", 9, 12)), [])
    assert (outcome.found, outcome.events, outcome.false_alarms, outcome.speech_out_s, outcome.flagged_s) == (0, 1, 0, 0, 0)
