"""The same example again, as another room, device and noise make of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.data.corpora import write_corpus

from earmark_data.augment import rms
from earmark_data.dataset import ClipDataset
from earmark_data.degraded import CLEAN, Degraded, DegradedConfig
from earmark_data.manifest import read_manifest
from earmark_data.pcm import PcmStore

COUNT = 6
NOTHING = DegradedConfig(plain=0.0, room=0.0, noise=0.0, babble=0.0, far=0.0, gain_db=(0.0, 0.0))


@pytest.fixture
def examples(tmp_path: Path) -> ClipDataset:
    write_corpus(tmp_path, clips_per_label=2, seconds=1.0)
    manifest = read_manifest(tmp_path / "manifest.csv")
    room = np.zeros(4_000, np.float32)
    room[[0, 900, 2_500]] = (1.0, 0.6, 0.3)
    return ClipDataset(manifest, PcmStore.open(manifest, tmp_path / ".pcm"), CLEAN, seed=3, rooms=[room])


def degraded(examples: ClipDataset, config: DegradedConfig, seed: int = 1) -> Degraded:
    numbers = np.arange(COUNT, dtype=np.float32)[:, None]
    return Degraded(examples, [numbers, numbers + 10, numbers + 20, numbers + 30], seed=seed, config=config)


def test_an_example_comes_back_with_what_was_noted_of_it_and_is_the_same_in_every_run(examples: ClipDataset) -> None:
    source = degraded(examples, DegradedConfig())
    for index in (0, 4, COUNT + 4):
        again = source[index]
        number = index % COUNT
        assert [float(part[0]) for part in again[1:]] == [number, number + 10, number + 20, number + 30]
        np.testing.assert_array_equal(again.audio, degraded(examples, DegradedConfig())[index].audio)
    assert not np.array_equal(source[4].audio, source[COUNT + 4].audio), "each round degrades it in another way"
    assert not np.array_equal(source[4].audio, degraded(examples, DegradedConfig(), seed=2)[4].audio)


def test_a_plain_example_and_one_to_which_nothing_happens_are_the_clean_one(examples: ClipDataset) -> None:
    for config in (DegradedConfig(plain=1.0), NOTHING):
        for index in range(COUNT):
            np.testing.assert_allclose(degraded(examples, config)[index].audio, examples[index].audio, atol=1e-6)


@pytest.mark.parametrize("change", [{"noise": 1.0, "noise_snr_db": (6.0, 6.0)}, {"babble": 1.0, "babble_snr_db": (6.0, 6.0)}])
def test_noise_and_babble_stand_as_far_below_the_sound_as_drawn(examples: ClipDataset, change: dict[str, object]) -> None:
    source = degraded(examples, dataclasses.replace(NOTHING, **change))
    for index in range(COUNT):
        clean = examples[index].audio
        added = source[index].audio - clean
        if np.abs(source[index].audio).max() < 1.0 and rms(added):
            assert 20 * np.log10(rms(clean) / rms(added)) == pytest.approx(6.0, abs=0.2)


def test_a_room_and_a_level_are_heard(examples: ClipDataset) -> None:
    echoed = degraded(examples, dataclasses.replace(NOTHING, room=1.0))[1].audio
    assert np.abs(echoed - examples[1].audio).max() > 0.01
    far = degraded(examples, dataclasses.replace(NOTHING, far=1.0, far_gain_db=(-40.0, -40.0)))[1].audio
    np.testing.assert_allclose(far, examples[1].audio / 100, atol=1e-6)
