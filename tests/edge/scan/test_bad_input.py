"""Files, bundles and settings that cannot be used: a line for each, and nothing is lost."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.edge.review_double import TOKEN
from tests.edge.scan.conftest import of_type
from typer.testing import CliRunner

from earmark_edge import scan as scan_module
from earmark_edge.capture import CaptureError
from earmark_edge.cli import app
from earmark_edge.detector import Detector
from earmark_model.contract import SPEC_FILE

RATE_HZ = 16_000


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
