from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.model.lively import lively_tagger

from earmark_edge.scorer import EMPTY, Scorer
from earmark_model.calibration import Calibration
from earmark_model.contract import LABELS, Threshold, read_bundle
from earmark_model.deployed import Deployed
from earmark_model.export import CalibratedTagger, ExportError, check_parity, fused, write_bundle
from earmark_model.graph import quantised
from earmark_model.network import NetworkSpec, Tagger

CALIBRATION = Calibration((1.5,) * 7, (-0.5, 0.1, 0.2, 0.0, 0.0, 0.3, 0.0), LABELS)
THRESHOLDS = {label: Threshold(0.4) for label in LABELS}
CLIPS = [np.random.default_rng(5).normal(0, 0.1, samples).astype(np.float32) for samples in (8_000, 32_000, 50_001)]


def trained_tagger() -> Tagger:
    """Weights and batch statistics that are not the initial ones, as after training."""
    return lively_tagger(NetworkSpec(teacher_labels=3))


@pytest.fixture(scope="module")
def model() -> CalibratedTagger:
    return CalibratedTagger(fused(trained_tagger()), CALIBRATION).eval()


@pytest.fixture(scope="module")
def bundle(model: CalibratedTagger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "bundle"
    write_bundle(model, THRESHOLDS, {"commit": "abc"}, "# Card\n", CLIPS, out)
    return out


def test_the_bundle_has_the_documented_form_and_size(bundle: Path) -> None:
    spec = read_bundle(bundle)
    assert (spec.labels, spec.window_samples, spec.hop_samples, spec.frame_hop_samples) == (LABELS, 32_000, 8_000, 2_560)
    assert sorted(path.name for path in bundle.iterdir()) == ["CARD.md", "bundle.json", "model.onnx"]
    assert sum(path.stat().st_size for path in bundle.iterdir()) < 1_000_000
    graph = onnx.load(bundle / "model.onnx").graph
    assert [each.name for each in graph.input] == ["audio", "held"]
    assert [each.name for each in graph.output] == ["clip_scores", "frame_scores", "mel_power"]
    assert (spec.schema, spec.mel_hop_samples) == (2, 160)
    assert not {node.op_type for node in graph.node} & {"STFT", "DFT", "BatchNormalization"}


def test_torch_and_onnxruntime_agree_on_clips_and_on_every_length(model: CalibratedTagger, bundle: Path) -> None:
    report = check_parity(model, bundle, CLIPS)
    assert report.lengths > 25
    assert max(report.clip_difference, report.frame_difference) < 1e-4


def test_fusing_and_rounding_change_no_probability_by_more_than_a_hundredth(model: CalibratedTagger) -> None:
    audio = torch.from_numpy(CLIPS[1])[None]
    with torch.inference_mode():
        before = CalibratedTagger(trained_tagger(), CALIBRATION).eval()(audio)[0]
        after = model(audio)[0]
    torch.testing.assert_close(before, after, atol=1e-2, rtol=0)
    assert not torch.equal(before, after)  # weights were rounded: the comparison can fail


def test_a_graph_that_differs_is_refused_and_leaves_the_earlier_bundle(model: CalibratedTagger, bundle: Path) -> None:
    kept = (bundle / "model.onnx").read_bytes()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.bias += 0.01
    with pytest.raises(ExportError, match="differ by"):
        check_parity(other, bundle, CLIPS)

    class Unfaithful(CalibratedTagger):
        def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            clip, frames = super().forward(audio)
            return (clip if torch.onnx.is_in_onnx_export() else clip * 0.9), frames

    with pytest.raises(ExportError, match="no bundle was written"):
        write_bundle(Unfaithful(model.tagger, CALIBRATION).eval(), THRESHOLDS, {}, "# Card\n", CLIPS, bundle)
    assert (bundle / "model.onnx").read_bytes() == kept
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_folder_that_is_no_bundle_is_never_replaced(model: CalibratedTagger, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="is not a bundle"):
        write_bundle(model, THRESHOLDS, {}, "# Card\n", CLIPS, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_parity_without_a_clip_is_refused(model: CalibratedTagger, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at least one real clip"):
        write_bundle(model, THRESHOLDS, {}, "# Card\n", [], tmp_path / "b")


def test_scores_are_probabilities_even_for_wild_input(bundle: Path) -> None:
    scorer = Scorer(bundle)
    for audio in (np.zeros(32_000), np.ones(32_000), np.full(32_000, 1e4), np.random.default_rng(0).normal(size=32_000) * 100):
        scores = scorer.run(audio[None].astype(np.float32))
        assert scores.clip.shape == (1, 7)
        assert scores.frame.shape == (1, 13, 7)


def test_rounding_twice_is_rounding_once_and_errs_by_half_a_step_at_most() -> None:
    weight = np.random.default_rng(3).normal(size=(24, 8, 3, 3)).astype(np.float32)
    weight[5] = 0
    steps, scale = quantised(weight)
    again, same_scale = quantised(steps * scale)
    assert np.array_equal(steps * scale, again * same_scale)
    assert (np.abs(steps * scale - weight) <= scale / 2 * 1.0001).all()
    assert steps.max() == 127  # the largest weight of a channel uses the whole range


def test_held_mel_power_of_the_first_frames_changes_no_score(model: CalibratedTagger, bundle: Path) -> None:
    """None, one, all but one and all frames; 1e-6 since products of another size may sum in another order."""
    scorer, audio = Scorer(bundle), CLIPS[1][None]
    whole, power = scorer.run_on(audio, EMPTY)
    assert power.shape == (1, 103, 198)
    for held in (1, 50, 197):
        scores, further = scorer.run_on(audio, power[:, :, :held])
        np.testing.assert_allclose(scores.clip, whole.clip, atol=1e-6, rtol=0)
        np.testing.assert_allclose(scores.frame, whole.frame, atol=1e-6, rtol=0)
        np.testing.assert_allclose(further, power[:, :, held:], rtol=1e-5)
    other, _ = scorer.run_on(audio, power[:, :, :148] * 100)
    assert np.abs(other.frame - whole.frame).max() > 1e-6  # it is heard


@pytest.mark.parametrize("spec", [NetworkSpec(), NetworkSpec(blocks=8, embedding=64, sharpness=0.0, beside=8, pooled_frames=3)])
def test_what_is_deployed_scores_as_the_network_does(spec: NetworkSpec) -> None:
    model = CalibratedTagger(fused(lively_tagger(spec)), CALIBRATION).eval()
    deployed = Deployed(model).eval()
    audio = torch.from_numpy(np.stack([CLIPS[2], CLIPS[2] * 1e-4]))
    with torch.inference_mode():
        clip, frames, power = deployed(audio, torch.zeros(1, 103, 0))
        torch.testing.assert_close((clip, frames), model(audio), atol=1e-5, rtol=0)
        again = deployed(audio[:1], power[:1, :, :100])
    torch.testing.assert_close(again[:2], (clip[:1], frames[:1]), atol=1e-5, rtol=0)
    assert frames.std(1).max() > 1e-3  # frames differ: the comparison can fail
