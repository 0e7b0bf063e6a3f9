from __future__ import annotations

import pytest
import torch

from earmark_model.contract import LABELS
from earmark_model.frontend import FrontendSpec
from earmark_model.network import Network, NetworkSpec, Tagger, parameters


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    torch.manual_seed(0)
    return Tagger(FrontendSpec(), NetworkSpec(teacher_labels=5)).eval()


@pytest.mark.parametrize(("samples", "frames"), [(32_000, 25), (32_001, 25), (33_280, 26), (160_000, 125)])
def test_every_length_gives_a_frame_per_80_ms_and_one_clip_score_per_label(tagger: Tagger, samples: int, frames: int) -> None:
    logits = tagger(torch.randn(2, samples))
    assert logits.frames.shape == (2, frames, len(LABELS))
    assert logits.clip.shape == (2, len(LABELS))
    assert logits.teacher.shape == (2, 5)


def test_the_network_stays_within_a_million_parameters() -> None:
    assert parameters(Tagger(FrontendSpec(), NetworkSpec())) < 1_000_000


def test_a_clip_score_lies_between_the_mean_and_the_maximum_of_its_frames(tagger: Tagger) -> None:
    with torch.inference_mode():
        logits = tagger(torch.randn(3, 64_000))
    assert (logits.clip >= logits.frames.mean(1) - 1e-5).all()
    assert (logits.clip <= logits.frames.amax(1) + 1e-5).all()


def test_a_short_sound_in_a_long_clip_still_counts() -> None:
    network = Network(NetworkSpec())
    frames = torch.full((1, 125, 1), -6.0)
    frames[:, 60:72] = 4.0  # one second of ten
    assert network._pool(frames).item() > 3.0
    assert frames.mean().item() < -4.0


def test_clips_of_a_batch_do_not_hear_each_other(tagger: Tagger) -> None:
    audio = torch.randn(3, 32_000) * 0.1
    with torch.inference_mode():
        together, alone = tagger(audio).clip, torch.cat([tagger(clip[None]).clip for clip in audio])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": (16, 16, 16)},
        {"channels": (0, 8, 8, 8)},
        {"channels": (8, 16, 16, 16)},
        {"dropout": 1.0},
        {"sharpness": 0.0},
        {"context": -1},
    ],
)
def test_an_impossible_size_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"channels|dropout"):
        NetworkSpec(**change)
