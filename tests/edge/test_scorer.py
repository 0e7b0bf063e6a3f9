import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from earmark_edge.scorer import Scorer, ScoringError
from earmark_model.contract import GRAPH_FILE, LABELS, SPEC_FILE, BundleError, BundleFileNotFoundError

WINDOW = 32_000
FRAMES = 25


def test_a_tone_reads_as_its_label_and_silence_as_nothing(scorer, play):
    scores = scorer.run(np.stack([play(("scream", 2)), play(("speech", 2)), play(("", 2))]))
    assert scores.clip.shape == (3, len(LABELS))
    assert scores.frame.shape == (3, FRAMES, len(LABELS))
    heard = [{label for label, score in zip(LABELS, row, strict=True) if score >= 0.5} for row in scores.clip]
    assert heard == [{"scream"}, {"speech"}, set()]


@pytest.mark.parametrize("length", [WINDOW, WINDOW + 1, WINDOW + 1_280, 5 * WINDOW + 17])
def test_any_length_from_one_window_up_has_the_documented_number_of_frames(scorer, length):
    assert scorer.run(np.zeros((1, length), np.float32)).frame.shape[1] == -(-(1 + (length - 400) // 160) // 8)


def test_batch_composition_changes_no_score_beyond_rounding(scorer, play):
    """1e-6 of a probability: float32 sums may run in another order in a batch of another size (one part in 2^23 each)."""
    rng = np.random.default_rng(0)
    rows = np.stack([play(("scream", 1), ("speech", 1)), *(rng.standard_normal((6, WINDOW)) * 0.1).astype(np.float32)])
    alone = [scorer.run(row[None]) for row in rows]
    for order in (np.arange(7), np.arange(7)[::-1], np.array([3, 0, 3, 6])):
        together = scorer.run(rows[order])
        for position, row in enumerate(order):
            np.testing.assert_allclose(together.clip[position], alone[row].clip[0], atol=1e-6, rtol=0)
            np.testing.assert_allclose(together.frame[position], alone[row].frame[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "audio",
    [np.zeros((1, WINDOW - 1), np.float32), np.zeros(WINDOW, np.float32), np.zeros((1, WINDOW)), np.zeros((1, 1, WINDOW), np.float32)],
    ids=["one sample short", "no batch", "float64", "three axes"],
)
def test_input_of_another_form_is_an_error_that_says_what_was_expected(scorer, audio):
    with pytest.raises(ValueError, match=r"expected float32 \[batch, at least 32000 samples\]"):
        scorer.run(audio)


def test_a_bundle_whose_graph_was_altered_is_refused(write_bundle, tmp_path):
    folder = write_bundle(tmp_path)
    graph = bytearray((folder / GRAPH_FILE).read_bytes())
    graph[-1] ^= 1
    (folder / GRAPH_FILE).write_bytes(graph)
    with pytest.raises(BundleError, match=r"model\.onnx: its SHA-256 is"):
        Scorer(folder)


@pytest.mark.parametrize("missing", [GRAPH_FILE, SPEC_FILE])
def test_a_bundle_with_a_file_missing_is_refused(write_bundle, tmp_path, missing):
    folder = write_bundle(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(BundleFileNotFoundError, match=missing):
        Scorer(folder)


def test_a_graph_that_is_none_is_refused_in_one_line(write_bundle, tmp_path):
    class Noise:
        def SerializeToString(self):  # noqa: N802 - the name that onnx gives it
            return b"not a graph"

    folder = write_bundle(tmp_path, graph=Noise())
    with pytest.raises(BundleError, match=r"onnxruntime cannot load it") as error:
        Scorer(folder)
    assert "\n" not in str(error.value)


def graph_of(clip, frame, *, names=("audio", "clip_scores", "frame_scores")):
    """A graph that answers every window with the same scores: float arrays `[1, classes]` and `[1, frames, classes]`."""
    audio, clip_name, frame_name = names
    nodes = [
        helper.make_node("ReduceMax", [audio], ["loudest"], keepdims=0),
        helper.make_node("Mul", ["loudest", "zero"], ["nothing"]),
        helper.make_node("Add", ["clip", "nothing"], [clip_name]),
        helper.make_node("Add", ["frame", "nothing"], [frame_name]),
    ]
    constants = {"clip": clip, "frame": frame, "zero": np.zeros((), np.float32)}
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(audio, TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (clip_name, frame_name)],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.01, 1.01])
@pytest.mark.parametrize("where", ["clip", "frame"])
def test_a_graph_that_gives_no_probability_raises_instead_of_staying_below_every_threshold(write_bundle, tmp_path, bad, where):
    clip, frame = np.full((1, len(LABELS)), 0.2), np.full((1, FRAMES, len(LABELS)), 0.2)
    (clip if where == "clip" else frame)[..., 0] = bad
    scorer = Scorer(write_bundle(tmp_path, graph=graph_of(clip, frame)))
    with pytest.raises(ScoringError, match=f"{where}_scores outside"):
        scorer.run(np.zeros((1, WINDOW), np.float32))


@pytest.mark.parametrize("where", ["clip", "frame"])
def test_a_certain_score_that_onnxruntime_rounds_above_one_is_one(write_bundle, tmp_path, where):
    clip, frame = np.full((1, len(LABELS)), 0.2), np.full((1, FRAMES, len(LABELS)), 0.2)
    (clip if where == "clip" else frame)[..., 0] = np.nextafter(np.float32(1), np.float32(2))  # what its sigmoid gives for large logits
    scores = Scorer(write_bundle(tmp_path, graph=graph_of(clip, frame))).run(np.zeros((1, WINDOW), np.float32))
    assert (scores.clip if where == "clip" else scores.frame)[..., 0].max() == 1


def test_a_graph_with_another_number_of_labels_raises(write_bundle, tmp_path):
    scorer = Scorer(write_bundle(tmp_path, graph=graph_of(np.full((1, 3), 0.2), np.full((1, FRAMES, 3), 0.2))))
    with pytest.raises(ScoringError, match="7 labels"):
        scorer.run(np.zeros((1, WINDOW), np.float32))


@pytest.mark.parametrize("names", [("sound", "clip_scores", "frame_scores"), ("audio", "scores", "frame_scores")])
def test_a_graph_with_other_names_is_refused(write_bundle, tmp_path, names):
    graph = graph_of(np.full((1, len(LABELS)), 0.2), np.full((1, FRAMES, len(LABELS)), 0.2), names=names)
    folder = write_bundle(tmp_path, graph=graph)
    with pytest.raises(BundleError, match="expected \\['audio'\\] to"):
        Scorer(folder)


def test_the_threads_that_are_asked_for_are_the_threads_of_the_session(bundle):
    assert Scorer(bundle)._session.get_session_options().intra_op_num_threads == 1
    assert Scorer(bundle, threads=2)._session.get_session_options().intra_op_num_threads == 2


WITHOUT = """
import sys

BLOCKED = {"torch", "torchaudio", "librosa", "soundfile", "soxr", "earmark_data", "httpx"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
"""


def run_python(script, *arguments, **environment):
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_the_whole_edge_imports_and_detects_without_torch_librosa_soundfile_or_any_decoder(bundle):
    script = (
        WITHOUT
        + """
import importlib, pkgutil
from pathlib import Path
import numpy as np
import earmark_edge
modules = [importlib.import_module(f"earmark_edge.{found.name}") for found in pkgutil.iter_modules(earmark_edge.__path__)]
assert len(modules) > 10, modules
from earmark_edge.detector import Detector
from earmark_edge.scorer import Scorer
detector = Detector(Scorer(Path(sys.argv[1])))
time_s = np.arange(80_000) / 16_000
heard = detector.feed((0.3 * np.sin(2 * np.pi * 3_000 * time_s)).astype(np.float32))
detections = heard.detections + detector.flush().detections
print([detection.label for detection in detections], sorted(BLOCKED & set(sys.modules)))
"""
    )
    told = run_python(script, bundle)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "['scream'] []\n"


def test_opening_a_file_without_the_decoder_says_what_to_install(bundle, tmp_path):
    script = WITHOUT + "from earmark_edge.cli import app\napp(sys.argv[1:])\n"
    (tmp_path / "a.wav").touch()
    told = run_python(script, "scan", tmp_path / "a.wav", "--bundle", bundle)
    assert told.returncode == 1
    assert "pip install 'earmark[edge]'" in told.stderr
    assert "Traceback" not in told.stderr


def test_telemetry_is_off_before_onnxruntime_is_imported(bundle):
    script = """
import os, sys

class Witness:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("telemetry off:", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Witness())
from pathlib import Path
from earmark_edge.scorer import Scorer
assert "onnxruntime" not in sys.modules
Scorer(Path(sys.argv[1]))
"""
    for given in ("", "0"):
        assert run_python(script, bundle, ORT_DISABLE_TELEMETRY=given).stdout == "telemetry off: 1\n"


def test_scoring_leaves_no_file_in_the_home_folder(bundle, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    script = """
import sys
from pathlib import Path
import numpy as np
from earmark_edge.detector import Detector
from earmark_edge.scorer import Scorer
detector = Detector(Scorer(Path(sys.argv[1])))
print(len(detector.feed(np.zeros(160_000, np.float32)).windows) + len(detector.flush().windows))
"""
    hidden = {name: "" for name in os.environ if name.startswith("XDG_")}
    told = run_python(script, bundle, **hidden, HOME=str(home), ORT_DISABLE_TELEMETRY="0")
    assert told.stdout == "17\n", told.stderr
    assert list(home.rglob("*")) == []
    assert Path.home() != home
