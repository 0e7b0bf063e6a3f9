from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model.conftest import CORPUS

from earmark_model.contract import LABELS
from earmark_model.frontend import FrontendSpec
from earmark_model.network import Network, NetworkSpec, Tagger
from earmark_model.pretrained import MEANS, ROWS, TAGGER, Blend, PretrainedError, begin_with, blended

WEIGHTS = CORPUS / "teachers" / TAGGER
TEACHER_LABELS = ("mn04/Screaming", "yamnet/Screaming", "mn04/Music")
SCREAM, SPEECH = LABELS.index("scream"), LABELS.index("speech")


@pytest.fixture(scope="module")
def weights() -> Path:
    if not WEIGHTS.is_file():
        pytest.skip("no corpus at ../shared/corpus: the tagger's weights are compared only where it is")
    return WEIGHTS


def network(teacher_labels: int = len(TEACHER_LABELS), **size: int) -> Network:
    torch.manual_seed(0)
    return Network(NetworkSpec(teacher_labels=teacher_labels, **size)).eval()


def test_all_of_the_tagger_loads_and_the_heads_begin_as_its_classes(weights: Path) -> None:
    begun = network()
    missing = {name for name in begun.state_dict() if not name.startswith(("head", "teacher_head"))}
    assert begin_with(begun, weights, TEACHER_LABELS) == len(missing)
    held = torch.load(weights, weights_only=True)["classifier.5.weight"]
    torch.testing.assert_close(begun.head.weight[SCREAM], held[ROWS["Screaming"]])
    assert begun.teacher_head is not None
    torch.testing.assert_close(begun.teacher_head.weight, held[[ROWS[name.partition("/")[2]] for name in TEACHER_LABELS]])
    assert not begun.head.weight[LABELS.index("other")].any()


def test_before_any_training_it_scores_the_corpus_as_the_tagger_did(weights: Path, real_clips: list[np.ndarray]) -> None:
    """A right port: our front end at 16 kHz, our pooling and its weights follow the scores recorded beside the corpus."""
    tagger = Tagger(FrontendSpec(), NetworkSpec(teacher_labels=81)).eval()
    recorded = np.load(CORPUS / "teachers" / "mn04.npz")
    names = [str(name) for name in recorded["labels"]]
    begin_with(tagger.network, weights, [f"mn04/{name}" for name in names])
    folders = sorted((CORPUS / "audio").glob("*"))[::4]
    paths = [str(path) for path in recorded["path"]]
    rows = [paths.index(str(min(folder.iterdir()).relative_to(CORPUS))) for folder in folders]
    theirs = np.stack([recorded["scores"][recorded["offsets"][row]] for row in rows]).astype(float)
    with torch.inference_mode():
        ours = torch.sigmoid(tagger(torch.from_numpy(np.stack(real_clips)).float()).teacher).numpy()
    assert len(rows) >= 5
    assert np.abs(ours - theirs).mean() < 0.03
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.8


def test_a_smaller_network_takes_the_blocks_that_it_has(weights: Path) -> None:
    small = network(blocks=11, embedding=64)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    loaded = begin_with(small, weights, TEACHER_LABELS)
    changed = {name for name, value in small.state_dict().items() if not torch.equal(value, before[name])}
    assert loaded > 150
    assert "features.11.block.3.0.weight" in changed
    assert not {"embed.weight", "head.weight", "features.12.0.weight"} & changed


@pytest.mark.parametrize("content", [b"", b"not weights", "other"])
def test_what_is_no_such_weights_is_told_in_one_line(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, str):
        torch.save({"something": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(PretrainedError, match=r"weights\.pt: not") as told:
        begin_with(network(), path)
    assert "\n" not in str(told.value)


def test_missing_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match="--begin-with none"):
        begin_with(network(), tmp_path / "none.pt")


def test_blending_keeps_a_share_of_the_beginning_and_leaves_the_trained_network_alone() -> None:
    began, trained = network(0).state_dict(), network(0)
    with torch.no_grad():
        for weight in trained.parameters():
            weight.add_(1.0)
    settled = blended(trained, began, (), Blend(0.25, 0.5))
    for name, weight in settled.named_parameters():
        torch.testing.assert_close(weight, began[name] + 0.75)
    for name, weight in trained.named_parameters():
        torch.testing.assert_close(weight, began[name] + 1.0)


def test_the_blended_head_says_what_both_heads_say_together() -> None:
    trained = network()
    x = torch.randn(2, 103, 198)
    settled = blended(trained, None, TEACHER_LABELS, Blend(0.5, 0.4))
    with torch.inference_mode():
        embedding = torch.nn.functional.hardswish(trained.embed(trained.pool(trained.features(x.unsqueeze(1)).mean(2)).transpose(1, 2)))
        own, teachers = trained.head(embedding), trained.teacher_head(embedding)  # type: ignore[misc]  # it has one
        found = settled(x)
    assert settled.teacher_head is None
    torch.testing.assert_close(found.frames[..., SCREAM], 0.6 * own[..., SCREAM] + 0.4 * teachers[..., :2].mean(-1))
    torch.testing.assert_close(found.frames[..., SPEECH], own[..., SPEECH])


def test_what_the_taggers_say_of_animals_is_taken_off_and_a_label_can_be_theirs_alone() -> None:
    trained, names = network(), ("mn04/Screaming", "mn04/Crying, sobbing", "mn04/Animal")
    cry = LABELS.index("cry")
    settled = blended(trained, None, names, Blend(keep=0.5, teacher_share=0.4, taggers_alone=("cry",), animals=0.25))
    assert trained.teacher_head is not None
    own, (scream, crying, animal) = trained.head.weight, trained.teacher_head.weight
    torch.testing.assert_close(settled.head.weight[SCREAM], 0.6 * own[SCREAM] + 0.4 * (scream - 0.25 * animal))
    torch.testing.assert_close(settled.head.weight[cry], 0.4 * (crying - 0.25 * animal))
    torch.testing.assert_close(settled.head.weight[SPEECH], own[SPEECH])


@pytest.mark.parametrize("wrong", [{"keep": 1.1}, {"teacher_share": -0.1}, {"animals": 2.0}, {"taggers_alone": ("speech",)}])
def test_a_blend_refuses_what_is_no_share_or_no_sensitive_label(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        Blend(**{"keep": 0.5, "teacher_share": 0.5, **wrong})  # type: ignore[arg-type]


def test_every_class_that_a_label_begins_with_has_a_row() -> None:
    assert set(MEANS) == set(LABELS) - {"other"}
    assert {name for names in MEANS.values() for name in names} <= set(ROWS)
