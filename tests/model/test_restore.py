"""A bundle of schema 1 is written again in the form of schema 2. The old form is made here as the exporter made it then."""

from __future__ import annotations

import copy
import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.model.lively import lively_tagger
from torch import nn

from earmark_edge.scorer import Scorer
from earmark_model.calibration import OTHER, Calibration
from earmark_model.contract import GRAPH_FILE, LABELS, SPEC_FILE, BundleError, Threshold, sha256_file
from earmark_model.export import CalibratedTagger, fused
from earmark_model.graph import OPSET, _shorten_names, _store_in_8_bits
from earmark_model.network import NetworkSpec
from earmark_model.restore import renewed

onnx = pytest.importorskip("onnx")
SPEC = NetworkSpec(blocks=8, embedding=64)
CALIBRATION = Calibration((1.5, 1.4, 1.3, 1.2, 1.1, 1.0, 0.9), (-0.5, 0.1, 0.2, 0.0, 0.0, 0.3, 0.0), LABELS, rest=0.4)


def widened(model: CalibratedTagger) -> CalibratedTagger:
    """The stem's 8 channels filled up to 16 with zeros, as graphs of schema 1 have them."""
    model = copy.deepcopy(model)
    stem, first, second = (cast("Any", model.tagger.network.features[number]) for number in range(3))
    for parent, inputs, outputs in ((stem, 1, 16), (first.block[0], 16, 16), (first.block[1], 16, 16), (second.block[0], 16, 24)):
        narrow = parent[0]
        groups = outputs if narrow.groups > 1 else 1
        wide = nn.Conv2d(inputs, outputs, narrow.kernel_size, narrow.stride, narrow.padding, groups=groups)
        with torch.no_grad():
            rows, columns = narrow.weight.shape[:2]
            wide.weight.zero_()[:rows, :columns] = narrow.weight
            cast("torch.Tensor", wide.bias).zero_()[:rows] = narrow.bias
        parent[0] = wide
    return model


def calibrated_in_schema_1(model: CalibratedTagger, logits: torch.Tensor) -> torch.Tensor:
    sure = torch.logsumexp(logits[..., :OTHER], dim=-1, keepdim=True)
    return torch.sigmoid(logits * model.scale + model.bias + model.rest * sure)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    model = widened(CalibratedTagger(fused(lively_tagger(SPEC)), CALIBRATION).eval())
    model._calibrated = partial(calibrated_in_schema_1, model)  # type: ignore[method-assign]
    folder = tmp_path / "old"
    folder.mkdir()
    path = folder / GRAPH_FILE
    axes = {"audio": {0: "batch", 1: "samples"}, "clip_scores": {0: "batch"}, "frame_scores": {0: "batch", 1: "frames"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the exporter does
        torch.onnx.export(
            model,
            (torch.zeros(2, 32_000),),
            str(path),
            input_names=["audio"],
            output_names=["clip_scores", "frame_scores"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    _store_in_8_bits(graph)
    _shorten_names(graph)
    onnx.save(graph, path)
    described = {
        "schema": 1,
        "labels": LABELS,
        "sensitive": ["scream", "cry", "baby_cry"],
        "sample_rate_hz": 16_000,
        "window_samples": 32_000,
        "hop_samples": 8_000,
        "frame_hop_samples": 2_560,
        "thresholds": {label: {"value": 0.3, "guarantee": None} for label in LABELS},
        "triage": {"value": 0.3, "guarantee": None},
        "graph_sha256": sha256_file(path),
        "provenance": {"train": {"frontend": {}, "network": {"blocks": 8, "embedding": 64, "teacher_labels": 4}}},
    }
    (folder / SPEC_FILE).write_text(json.dumps(described))
    (folder / "CARD.md").write_text("# Card\n")
    return folder


def test_a_renewed_bundle_scores_and_says_what_the_old_one_did(old: Path, tmp_path: Path) -> None:
    before = Scorer(old)
    report = renewed(old, tmp_path / "new")
    after = Scorer(tmp_path / "new")
    assert max(report.clip_difference, report.frame_difference) < 1e-5
    audio = (np.random.default_rng(1).standard_normal((3, 40_000)) * [[0.3], [0.01], [0.0]]).astype(np.float32)
    for one, other in zip(before.run(audio), after.run(audio), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)
    assert before.run(audio).clip.std() > 1e-3  # scores differ between sounds: the comparison can fail
    assert (after.spec.schema, after.spec.mel_hop_samples) == (2, 160)
    assert (after.spec.thresholds, after.spec.triage) == (before.spec.thresholds, Threshold(0.3))
    assert after.spec.provenance == before.spec.provenance
    assert (tmp_path / "new" / "CARD.md").read_text() == "# Card\n"


def test_a_bundle_that_is_new_already_or_does_not_say_how_it_was_built_is_refused(old: Path, tmp_path: Path) -> None:
    renewed(old, tmp_path / "new")
    with pytest.raises(BundleError, match="its schema is 2 already"):
        renewed(tmp_path / "new", tmp_path / "newer")
    described = json.loads((old / SPEC_FILE).read_text())
    (old / SPEC_FILE).write_text(json.dumps({**described, "provenance": {}}))
    with pytest.raises(BundleError, match="does not say how the network is built"):
        renewed(old, tmp_path / "newer")


def test_a_graph_of_another_network_than_described_is_refused(old: Path, tmp_path: Path) -> None:
    described = json.loads((old / SPEC_FILE).read_text())
    described["provenance"]["train"]["network"]["blocks"] = 9
    (old / SPEC_FILE).write_text(json.dumps(described))
    with pytest.raises(BundleError, match="does not hold the network that its provenance describes"):
        renewed(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()
