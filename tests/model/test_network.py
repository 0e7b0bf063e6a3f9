from __future__ import annotations

import pytest
import torch

from earmark_model.contract import LABELS
from earmark_model.frontend import FrontendSpec
from earmark_model.network import BLOCKS, OMITTED, InvertedResidual, Network, NetworkSpec, SqueezeExcitation, Tagger, parameters


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    torch.manual_seed(0)
    return Tagger(FrontendSpec(), NetworkSpec(teacher_labels=5)).eval()


@pytest.mark.parametrize(("samples", "frames"), [(32_000, 13), (32_001, 13), (33_600, 13), (34_560, 14), (160_000, 63)])
def test_every_length_gives_a_frame_per_160_ms_and_one_clip_score_per_label(tagger: Tagger, samples: int, frames: int) -> None:
    logits = tagger(torch.randn(2, samples))
    assert logits.frames.shape == (2, frames, len(LABELS))
    assert logits.clip.shape == (2, len(LABELS))
    assert logits.teacher.shape == (2, 5)


def test_coarse_frames_are_twice_as_long_and_the_last_whole_is_heard_alike() -> None:
    torch.manual_seed(1)
    fine = Network(NetworkSpec(sharpness=0.0)).eval()
    coarse = Network(NetworkSpec(sharpness=0.0, coarse=True)).eval()
    coarse.load_state_dict(fine.state_dict())
    assert (fine.spec.time_stride, coarse.spec.time_stride, NetworkSpec(blocks=10, coarse=True).time_stride) == (16, 32, 16)
    steady = torch.randn(1, 103, 1).expand(1, 103, 320)
    with torch.inference_mode():
        fine_frames, coarse_frames = fine(steady).frames, coarse(steady).frames
    assert (fine_frames.shape[1], coarse_frames.shape[1]) == (20, 10)
    torch.testing.assert_close(coarse_frames[:, 5], fine_frames[:, 10], rtol=1e-4, atol=1e-5)  # away from the padded edges


def test_a_light_network_lacks_two_blocks_and_has_the_others_weights_and_frames_of_320_ms() -> None:
    whole = Network(NetworkSpec(sharpness=0.0))
    light = Tagger(FrontendSpec(hop_samples=320), NetworkSpec(sharpness=0.0, light=True)).eval()
    own, theirs = light.network.state_dict(), whole.state_dict()
    assert {name.split(".")[1] for name in theirs.keys() - own.keys()} == {str(number) for number in OMITTED}
    assert all(own[name].shape == theirs[name].shape for name in own)
    assert light.network.spec.time_stride * light.frontend.spec.hop_samples == 5_120
    assert light(torch.randn(2, 32_000)).frames.shape == (2, 7, len(LABELS))
    with pytest.raises(ValueError, match="coarse or light"):
        NetworkSpec(coarse=True, light=True)


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
    assert network._pool(frames)[0].item() > 3.0
    assert frames.mean().item() < -4.0


def test_without_sharpness_a_clip_is_heard_as_the_mean_of_its_frames() -> None:
    """A steady sound's frames are alike, so what is heard in the mean of them is what each of them says."""
    torch.manual_seed(3)
    network = Network(NetworkSpec(sharpness=0.0, beside=8, teacher_labels=5)).eval()
    steady = torch.randn(1, 103, 1).expand(1, 103, 198 * 3)
    with torch.inference_mode():
        logits = network(steady)
        means = network.features(steady.unsqueeze(1)).mean((2, 3))[:, :, None]
        embedding = network.embedded(means)
        beside = torch.nn.functional.hardswish(network.beside(embedding))
        expected = network.head(torch.cat([embedding, beside], 2))[:, 0]
    assert logits.frames.shape == (1, 38, len(LABELS))
    assert logits.teacher.shape == (1, 5)
    torch.testing.assert_close(logits.clip, expected)


def test_clips_of_a_batch_do_not_hear_each_other(tagger: Tagger) -> None:
    audio = torch.randn(3, 32_000) * 0.1
    with torch.inference_mode():
        together, alone = tagger(audio).clip, torch.cat([tagger(clip[None]).clip for clip in audio])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": 6},
        {"blocks": 16},
        {"pooled_frames": 4},
        {"pooled_frames": 0},
        {"dropout": 1.0},
        {"sharpness": -1.0},
        {"beside": -1},
        {"embedding": 0},
    ],
)
def test_an_impossible_size_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        NetworkSpec(**change)


def test_fewer_blocks_keep_the_frames_and_shrink_the_network() -> None:
    small = Tagger(FrontendSpec(), NetworkSpec(blocks=11, embedding=64)).eval()
    assert small(torch.randn(1, 32_000)).frames.shape == (1, 13, len(LABELS))
    assert parameters(small) < parameters(Tagger(FrontendSpec(), NetworkSpec())) / 4


def test_dilation_leaves_every_other_frame_as_the_halved_network_had_it() -> None:
    """The last blocks' weights were trained at half this rate: by dilation they hear the same at every other frame."""
    torch.manual_seed(1)
    fine = InvertedResidual(48, BLOCKS[12]), InvertedResidual(64, BLOCKS[13])
    coarse = InvertedResidual(48, BLOCKS[12]._replace(stride=(2, 2))), InvertedResidual(64, BLOCKS[13]._replace(dilation=1))
    for new, old in zip(fine, coarse, strict=True):
        new.load_state_dict(old.state_dict())
        for part in (*new.modules(), *old.modules()):
            if isinstance(part, SqueezeExcitation):  # hears the mean over time, which differs at the edges
                part.forward = lambda x: x  # type: ignore[method-assign]
    x = torch.randn(1, 48, 8, 16)
    with torch.inference_mode():
        expected, found = (x, x)
        for new, old in zip(fine, coarse, strict=True):
            expected, found = old.eval()(expected), new.eval()(found)
    assert found.shape[3] == 2 * expected.shape[3]
    torch.testing.assert_close(found[..., ::2], expected)
