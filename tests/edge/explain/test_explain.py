import io
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detector
from earmark_edge.explain.bars import bar, bars
from earmark_edge.explain.page import LEFT, MOST_COLUMNS, _columns, page, timeline
from earmark_edge.explain.trace import MOST_WINDOWS, Trace
from earmark_edge.outbox import wav_bytes
from earmark_edge.scorer import Scorer

RATE_HZ = 16_000


def trace_of(scorer, samples, config=None):
    detector = Detector(scorer, config or DecideConfig())
    trace = Trace(detector.rules)
    for block in np.array_split(samples, 7):
        trace.feed(detector.feed(block))
    trace.feed(detector.flush())
    return trace


def test_it_says_why_it_fired(scorer, play):
    trace = trace_of(scorer, play(("speech", 4), ("scream", 2), ("", 6)))
    said = " ".join(trace.answer())
    assert said.startswith("One event. The clearest, at 0:00:0")
    assert "scream reached 0.98 at a threshold of 0.50 (above_threshold)" in said
    assert "windows were speech alone and stay here" in said


def test_it_says_why_it_did_not_and_what_came_nearest(scorer, play):
    trace = trace_of(scorer, np.concatenate([play(("", 3)), play(("cry", 2), amplitude=0.025), play(("", 3))]))
    (said, *_) = trace.answer()
    best = trace.nearest()[0]
    assert (best.label, best.is_routed) == ("cry", True)
    assert 0.2 < best.score < 0.5
    assert f"cry came nearest, at 0:00:0{best.at_s:.2f}, with {best.score:.2f} of the 0.50 that it needs ({best.share:.0%})" in said


def test_a_near_miss_beside_an_event_is_told(scorer, play):
    trace = trace_of(scorer, np.concatenate([play(("scream", 2), ("", 6)), play(("cry", 2), amplitude=0.026), play(("", 4))]))
    assert any(line.startswith("cry came to 0.") and line.endswith("and did not fire.") for line in trace.answer())


def test_a_shout_that_is_not_routed_names_the_setting_that_would(scorer, play):
    shout = play(("", 2), ("shout", 2), ("", 4))
    assert "EARMARK_ROUTE_ALSO=shout" in " ".join(trace_of(scorer, shout).answer())
    assert "EARMARK_ROUTE_ALSO" not in " ".join(trace_of(scorer, shout, DecideConfig(route_also=("shout",))).answer())


def test_thresholds_without_a_guarantee_are_named(write_bundle, tmp_path, play):
    scorer = Scorer(write_bundle(tmp_path, verified=("cry",)))
    assert "The thresholds of scream, baby_cry carry no guarantee" in trace_of(scorer, play(("", 3))).answer()[-1]


def test_nothing_heard_is_said(scorer):
    assert trace_of(scorer, np.zeros(0, np.float32)).answer() == ["Nothing was heard: the input gave no sample."]


def test_a_long_stream_keeps_its_last_hour(scorer):
    trace = Trace(Detector(scorer).rules)
    heard = Detector(scorer).feed(np.zeros(2 * RATE_HZ, np.float32))
    for _ in range(MOST_WINDOWS + 10):
        trace.feed(heard)
    assert len(trace.points) == MOST_WINDOWS


def test_the_page_is_whole_and_asks_for_nothing_elsewhere(scorer, play):
    trace = trace_of(scorer, play(("speech", 4), ("scream", 2), ("", 6), ("cry", 2), ("", 4)))
    text = page(trace, "<script>alert(1)</script>.wav", "now")
    assert "<script" not in text
    assert not re.findall(r"\ssrc=|href=|url\(|@import", text)
    assert "$" not in text
    for label in trace.rules.spec.labels:
        assert f">{label}</text>" in text
    assert text.count("<rect class='event'") == len(trace.events) == 2
    assert "EARMARK_HYSTERESIS_RATIO" in text
    assert "0.6" in text


def test_the_drawing_shows_each_score_at_its_place(scorer, play):
    trace = trace_of(scorer, play(("", 4), ("scream", 2), ("", 6)))
    drawing = ET.fromstring(timeline(trace))
    lines = [element for element in drawing.iter() if element.tag == "polyline"]
    assert len(lines) == len(trace.rules.spec.labels)
    places = [tuple(map(float, pair.split(","))) for pair in lines[0].get("points").split()]
    assert len(places) == len(trace.points)
    loudest = min(range(len(places)), key=lambda at: places[at][1])
    assert trace.points[loudest].scores[0] == max(point.scores[0] for point in trace.points)
    assert places[0][0] > LEFT
    strips = [element.get("class") for element in drawing.iter() if (element.get("class") or "").startswith("strip")]
    assert strips == ["strip below_threshold", "strip above_threshold", "strip below_threshold"]


def test_columns_keep_the_loudest_of_those_that_share_one():
    values = [(float(at), 0.0) for at in range(3 * MOST_COLUMNS)]
    values[7_777] = (7_777.0, 0.9)
    found = _columns(values)
    assert len(found) == MOST_COLUMNS
    assert (7_777.0, 0.9) in found


def test_a_bar_has_its_mark_at_the_threshold():
    assert bar(1.0, 1.0, 10) == "█████████|"
    assert bar(0.0, 0.0, 10) == "|·········"


def test_the_bars_name_every_label_and_the_decision(scorer, play):
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(bars(Trace(Detector(scorer).rules)))
    console.print(bars(trace_of(scorer, play(("", 4), ("scream", 3)))))
    text = console.export_text()
    assert "awaited" in text
    for label in ("scream", "speech", "flagged: above_threshold", "last event: scream"):
        assert label in text


def run(*arguments, **environment):
    command = [sys.executable, "-m", "earmark_cli.main", "edge", "explain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment})


@pytest.fixture
def recording(tmp_path, play):
    path = tmp_path / "evening.wav"
    path.write_bytes(wav_bytes(play(("speech", 4), ("scream", 2), ("", 6)), RATE_HZ))
    return path


def test_the_command_answers_and_leaves_a_page_for_its_owner_alone(recording, bundle, tmp_path):
    done = run(str(recording), "--bundle", str(bundle), "--state", str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("One event.")
    path = tmp_path / "state" / "explain.html"
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert b"RIFF" not in path.read_bytes()
    answer = json.loads(run(str(recording), "--bundle", str(bundle), "--json", "--out", str(tmp_path / "p.html"), "--seconds", "3").stdout)
    assert answer["events"] == []
    assert {each["label"] for each in answer["nearest"]} >= {"scream", "speech"}
    assert (tmp_path / "p.html").exists()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_live_input_is_explained_until_its_end_and_not_while_muted(bundle, tmp_path):
    arguments = ["lavfi:sine=3000:d=4:r=16000", "--bundle", str(bundle), "--state", str(tmp_path)]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    (tmp_path / "mute").touch()
    muted = run(*arguments)
    assert (muted.returncode, "muted by file" in muted.stderr) == (2, True)


def test_what_cannot_be_heard_is_told(tmp_path):
    assert run("nowhere.wav", "--state", str(tmp_path)).returncode == 2
    assert run("mic:no such card", "--state", str(tmp_path)).returncode == 1


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program `chromium`, which is not installed")
@pytest.mark.parametrize("width", [380, 1280])
def test_the_page_fits_a_phone_and_a_screen(scorer, play, tmp_path, width):
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - with the browser only

    path = tmp_path / "page.html"
    path.write_text(page(trace_of(scorer, play(("speech", 40), ("scream", 2), ("", 60))), "evening.wav", "now"))
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": width, "height": 800})
        problems = []
        shown.on("console", lambda message: problems.append(message.text))
        shown.goto(path.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert shown.locator("svg polyline").count() == 7
        assert shown.locator("rect.event").bounding_box()["height"] > 400
        browser.close()
    assert problems == []
