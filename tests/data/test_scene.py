from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pytest
import soundfile

from earmark_data import synth
from earmark_data.manifest import ManifestError, read_manifest
from earmark_data.room import active, at_level, impulse_response, reverberated, unsteadiness_db
from earmark_data.scene import SceneError, compose, overlap_s, union
from earmark_data.suppliers import CorpusClips, SynthesisedClips, loudest, repeated

RATE = synth.SAMPLE_RATE_HZ
MAKERS = {
    "scream": synth.scream,
    "cry": synth.cry,
    "baby_cry": synth.baby_cry,
    "laughter": synth.laughter,
    "speech": synth.babble,
    "background": synth.fan,
}


def write_corpus(folder, clips):
    """Clips of (label, split, group, seconds), made by the synthesiser."""
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "source", "group", "duration_s"])
        for index, (label, split, group, seconds) in enumerate(clips):
            name = f"{index}.wav"
            soundfile.write(folder / name, MAKERS[label](np.random.default_rng(index), seconds), RATE)
            writer.writerow([name, label, split, "ours", group, seconds])
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    kinds = ["scream", "cry", "baby_cry", "laughter", "background", "background", "speech", "speech", "speech"]
    test_clips = [(label, "test", f"{label}{index}", 2.5) for index, label in enumerate(kinds)]
    return read_manifest(write_corpus(tmp_path_factory.mktemp("home") / "corpus", [*test_clips, ("scream", "train", "t", 2.5)]))


@pytest.fixture(scope="module", params=["synthesiser", "corpus"])
def supplier(request, manifest):
    return SynthesisedClips() if request.param == "synthesiser" else CorpusClips(manifest)


@pytest.fixture(scope="module")
def scene(supplier):
    return compose(supplier, 0, 120.0)


def test_a_scene_is_as_long_as_asked_and_fits_a_microphone(scene):
    assert scene.audio.shape == (120 * RATE,)
    assert scene.duration_s == 120
    assert scene.audio.dtype == np.float32
    assert 0.05 < np.abs(scene.audio).max() <= 0.991
    assert abs(scene.audio.mean()) < 1e-3


def test_most_of_an_evening_is_ordinary_life(scene):
    speech_s = sum(offset - onset for onset, offset in scene.spans("speech"))
    assert 0.4 * 120 < speech_s < 0.6 * 120, "over four minutes in ten"
    assert scene.spans("laughter")
    assert scene.spans("other")


def test_there_is_a_sensitive_event_a_minute_with_room_around_it(scene):
    events = scene.sensitive
    assert len(events) == 2
    for event in events:
        assert 1 < event.offset_s - event.onset_s < 12
    for one, another in pairwise(events):
        assert another.onset_s - one.offset_s > 5


def test_a_ten_minute_scene_has_ten_events_of_every_sensitive_kind_and_four_minutes_of_talk():
    scene = compose(_Tones(), 3)
    assert scene.duration_s == 600
    counts = Counter(event.label for event in scene.sensitive)
    assert sorted(counts.values()) == [3, 3, 4]
    assert set(counts) == {"scream", "cry", "baby_cry"}
    assert sum(offset - onset for onset, offset in scene.spans("speech")) > 240


def test_truth_lies_inside_the_scene_in_order_and_voices_do_not_overlap(scene):
    assert [event.onset_s for event in scene.truth] == sorted(event.onset_s for event in scene.truth)
    assert all(0 <= event.onset_s < event.offset_s <= scene.duration_s for event in scene.truth)
    voices = [(event.onset_s, event.offset_s) for event in scene.truth if event.label != "other"]
    assert union(voices) == voices


def test_what_truth_names_is_heard_where_it_says():
    scene = compose(_Tones(), 1, 180.0)
    assert {event.label for event in scene.truth} == set(_Tones.HERTZ)
    for label, hertz in _Tones.HERTZ.items():
        tone = np.exp(-2j * np.pi * hertz * np.arange(len(scene.audio)) / RATE)
        strength = np.abs((scene.audio * tone).reshape(-1, 400).mean(axis=1))  # every 25 ms
        inside = np.zeros(len(strength), bool)
        for onset, offset in scene.spans(label):
            inside[round(onset * 40) : round(offset * 40)] = True
        echo = np.convolve(inside, np.ones(20), "full")[: len(inside)] > 0
        assert strength[inside].mean() > 20 * strength[~echo].mean(), label


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(manifest):
    for make in (SynthesisedClips, lambda: CorpusClips(manifest)):
        one, again, other = (compose(make(), seed, 20.0) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one.audio, again.audio)
        assert one.truth == again.truth
        assert one.truth != other.truth


def test_a_scream_is_louder_than_talk_and_the_bed_is_faint():
    scene = compose(_Noise(), 1, 180.0)

    def levels_db(label):
        return [20 * np.log10(scene.audio[round(a * RATE) : round(b * RATE)].std()) for a, b in scene.spans(label)]

    assert min(levels_db("scream")) > max(levels_db("speech"))
    free = np.ones(len(scene.audio), bool)
    for event in scene.truth:
        free[round(event.onset_s * RATE) : round((event.offset_s + 0.6) * RATE)] = False
    assert 20 * np.log10(scene.audio[free].std()) < min(levels_db("speech")) - 15


def test_progress_ends_at_the_whole(manifest):
    seen = []
    compose(CorpusClips(manifest), 0, 120.0, progress=seen.append)
    assert seen == [60, 120]


def test_a_corpus_gives_its_test_split_only_and_says_so(manifest, monkeypatch):
    read = []
    real = soundfile.SoundFile

    def spy(path, *rest, **more):
        read.append(str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(soundfile, "SoundFile", spy)
    scene = compose(CorpusClips(manifest), 0, 60.0)
    assert "test split" in scene.supplier
    assert read
    train = [str(row.path) for row in manifest if row.split == "train"]
    assert train
    assert not set(read) & set(train)


def test_every_clip_of_a_label_is_heard_before_one_is_heard_twice(tmp_path):
    clips = [("scream", "test", f"s{index}", 1.0 + index / 4) for index in range(4)]
    supplier = CorpusClips(
        read_manifest(write_corpus(tmp_path / "c", [*clips, ("speech", "test", "p", 2.0), ("background", "test", "b", 2.0)]))
    )
    rng = np.random.default_rng(0)
    lengths = [len(supplier.clip(rng, "scream")) for _ in range(8)]
    assert len(set(lengths[:4])) == 4
    assert sorted(lengths[4:]) == sorted(lengths[:4])


@pytest.mark.parametrize("duration_s", [0.0, 19.9, -1.0, float("nan"), float("inf")])
def test_a_scene_that_cannot_hold_an_evening_is_refused(duration_s):
    with pytest.raises(SceneError, match="expected 20 s or more"):
        compose(SynthesisedClips(), 0, duration_s)


def test_a_corpus_without_anything_sensitive_is_refused(tmp_path):
    path = write_corpus(tmp_path / "c", [("speech", "test", "a", 2.0), ("background", "test", "b", 2.0)])
    with pytest.raises(SceneError, match="no clip of scream, cry, baby_cry"):
        compose(CorpusClips(read_manifest(path)), 0, 30.0)


def test_a_corpus_without_talk_or_without_a_test_split_is_refused(tmp_path):
    path = write_corpus(tmp_path / "quiet", [("scream", "test", "a", 2.0), ("background", "test", "b", 2.0)])
    with pytest.raises(SceneError, match="needs speech and background"):
        CorpusClips(read_manifest(path))
    path = write_corpus(tmp_path / "train", [("scream", "train", "a", 2.0)])
    with pytest.raises(ManifestError, match="no row is left"):
        CorpusClips(read_manifest(path))


def test_an_echo_follows_the_sound_and_dies_away_in_the_time_given():
    response = impulse_response(np.random.default_rng(0), 0.4, -6.0)
    assert response[0] == 1
    assert (response[1:].astype(float) ** 2).sum() == pytest.approx(10**-0.6, rel=0.01)
    click = np.zeros(100, np.float32)
    click[10] = 1
    heard = reverberated(click, response)
    np.testing.assert_allclose(heard[10 : 10 + len(response)], response, atol=1e-5)
    remaining = np.cumsum(response[:0:-1].astype(float) ** 2)[::-1]
    tenth, third = remaining[round(0.04 * RATE)], remaining[round(0.14 * RATE)]
    assert 10 * np.log10(tenth / third) > 15 * 0.9, "60 dB in 0.4 s is 15 dB in 0.1 s, more at high frequencies"


def test_levels_are_measured_where_there_is_sound():
    burst = np.concatenate([np.zeros(RATE), np.full(RATE, 0.5), np.zeros(RATE)]).astype(np.float32)
    scaled = at_level(burst, -20.0)
    assert scaled[RATE : 2 * RATE].std() == pytest.approx(0, abs=1e-6)
    assert scaled.max() == pytest.approx(0.1)
    assert len(active(burst)) == RATE
    assert active(np.zeros(100, np.float32)).size == 0
    np.testing.assert_array_equal(at_level(np.zeros(100, np.float32), -20.0), np.zeros(100))


def test_a_hum_is_steadier_than_knocks():
    rng = np.random.default_rng(0)
    assert unsteadiness_db(synth.fan(rng, 4.0)) < 3 < unsteadiness_db(synth.door_knock(rng, 4.0))


def test_repetition_keeps_the_level_through_its_crossfades():
    noise = np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32)
    bed = repeated(noise, 20 * RATE)
    assert bed.shape == (20 * RATE,)
    powers = (bed.reshape(-1, RATE // 4) ** 2).mean(axis=1)
    assert powers.min() > 0.7
    assert powers.max() < 1.4


def test_the_loudest_part_is_kept():
    sound = np.zeros(1_000, np.float32)
    sound[600:700] = 1
    assert loudest(sound, 200).sum() == 100
    assert loudest(sound, 2_000) is sound


def test_spans_overlap_as_sets_of_seconds():
    assert union([(0, 1), (1, 2), (5, 6)]) == [(0, 2), (5, 6)]
    assert overlap_s([(0, 10)], [(2, 3), (2, 4), (9, 12)]) == 3
    assert overlap_s([(0, 1)], [(1, 2)]) == 0
    assert overlap_s([], [(1, 2)]) == 0


class _Tones:
    """A supplier of pure tones, one frequency for each label, so that a test can see where a label is heard."""

    HERTZ = MappingProxyType({"scream": 3_000, "cry": 500, "baby_cry": 1_000, "laughter": 1_500, "speech": 200, "other": 6_000})
    name = "tones"
    labels = frozenset(HERTZ)

    def clip(self, rng, label):
        time_s = np.arange(int(rng.uniform(2, 4) * RATE)) / RATE
        return np.sin(2 * np.pi * self.HERTZ[label] * time_s).astype(np.float32)

    def speaker(self, rng):
        return lambda utterance_rng: self.clip(utterance_rng, "speech")

    def bed(self, rng, duration_s):
        return rng.normal(size=round(duration_s * RATE)).astype(np.float32)


class _Noise(_Tones):
    """The same, of noise, which a room makes louder by as much everywhere."""

    def clip(self, rng, label):
        return rng.normal(size=int(rng.uniform(2, 4) * RATE)).astype(np.float32)
