from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.data.corpora import COLUMNS, row, write_corpus, write_rows

from earmark_data.dataset import ClipDataset, SamplingConfig
from earmark_data.labels import MANIFEST_LABELS, TAGGER_LABELS, target_vector
from earmark_data.manifest import Manifest, ManifestError, read_manifest
from earmark_data.pcm import PcmStore
from earmark_data.teachers import TeacherError, Teachers
from earmark_model.contract import LABELS

PLAIN = SamplingConfig(mix=0.0, mixup=0.0, room=0.0, noise=0.0, gain_db=(0.0, 0.0))
SCREAM, SPEECH, SHOUT = (LABELS.index(label) for label in ("scream", "speech", "shout"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def pcm(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> PcmStore:
    return PcmStore.open(manifest, tmp_path_factory.mktemp("cache"), workers=1)


def write_teachers(folder: Path, manifest: Manifest, heard: dict[int, list[float]]) -> Path:
    """Two taggers with the same two labels; clip `i` is heard as `Screaming` with `heard[i]` in its windows, else 0.1."""
    folder.mkdir(exist_ok=True)
    scores = [[[value, 0.3] for value in heard.get(each.index, [0.1, 0.1])] for each in manifest]
    offsets = np.cumsum([0, *map(len, scores)])
    paths = np.array([str(each.path.relative_to(manifest.path.parent)) for each in manifest])
    for name in ("yamnet", "mn04"):
        np.savez(
            folder / f"{name}.npz", labels=np.array(["Screaming", "Shout"]), path=paths, offsets=offsets,
            scores=np.concatenate(scores).astype(np.float16), hop_s=1.0, window_s=2.0,
        )  # fmt: skip
    return folder


def test_every_manifest_label_means_one_label_of_the_model() -> None:
    assert set(MANIFEST_LABELS.values()) == set(LABELS)
    assert set(TAGGER_LABELS) == set(LABELS) - {"other"}
    assert target_vector("background").tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_the_store_holds_every_clip_as_decoded_and_is_opened_again_without_decoding(manifest: Manifest, tmp_path: Path) -> None:
    first = PcmStore.open(manifest, tmp_path, workers=1)
    again = PcmStore.open(manifest, tmp_path, workers=1, progress=lambda *_: pytest.fail("decoded a second time"))
    for each in manifest:
        assert first.length(each.index) == 40_000
        np.testing.assert_array_equal(first.read(each.index), again.read(each.index))
    assert 0.25 < np.abs(first.read(0)).max() < 0.4
    assert first.read(0, 39_990, 100).size == 10


def test_a_damaged_clip_is_named_and_leaves_no_store(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"not audio")
    broken = read_manifest(write_rows(tmp_path, [row("a.wav")]))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.wav"):
            PcmStore.open(broken, tmp_path / "cache", workers=1)


def test_an_example_is_the_same_in_every_run_and_differs_from_the_next(manifest: Manifest, pcm: PcmStore) -> None:
    one, two = (ClipDataset(manifest, pcm, SamplingConfig(), seed=0) for _ in range(2))
    np.testing.assert_array_equal(one[5].audio, two[5].audio)
    assert not np.array_equal(one[5].audio, one[6].audio)
    assert not np.array_equal(one[5].audio, ClipDataset(manifest, pcm, SamplingConfig(), seed=1)[5].audio)


def test_examples_have_one_window_targets_in_range_and_no_overload(manifest: Manifest, pcm: PcmStore) -> None:
    dataset = ClipDataset(manifest, pcm, SamplingConfig(), seed=3, rooms=[np.eye(1, 800, dtype=np.float32)[0]])
    for index in range(200):
        example = dataset[index]
        assert example.audio.shape == (32_000,)
        assert example.audio.dtype == np.float32
        assert np.isfinite(example.audio).all()
        assert np.abs(example.audio).max() <= 1.0
        assert ((example.target >= 0) & (example.target <= 1)).all()
        assert example.target.max() > 0


def test_classes_are_drawn_in_their_shares_and_sources_evenly(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / f"{name}.wav").touch()
    rows = [
        row("a.wav", source="rare"),
        *(row(f"{name}.wav", source="common") for name in "bcd"),
        row("e.wav", label="speech", source="rare"),
    ]
    manifest = read_manifest(write_rows(tmp_path, rows))

    class Fixed(PcmStore):
        def __init__(self) -> None:
            self.drawn: list[int] = []

        def length(self, row: int) -> int:
            return 32_000

        def read(self, row: int, start: int = 0, samples: int | None = None) -> np.ndarray:
            self.drawn.append(row)
            return np.full(32_000, 0.1, np.float32)

    pcm = Fixed()
    shares = {"scream": 0.25, "speech": 0.75}
    dataset = ClipDataset(manifest, pcm, dataclasses.replace(PLAIN, shares=shares, source_power=0.0), seed=0)
    targets = np.stack([dataset[index].target for index in range(2_000)])
    assert targets[:, SCREAM].mean() == pytest.approx(0.25, abs=0.03)
    screams = [drawn for drawn in pcm.drawn if drawn < 4]
    assert np.mean(np.array(screams) == 0) == pytest.approx(0.5, abs=0.07)  # one clip of the rare source, three of the other


def test_a_mixed_example_holds_the_labels_of_both_sounds(manifest: Manifest, pcm: PcmStore) -> None:
    config = dataclasses.replace(PLAIN, mix=1.0, snr_db=(0.0, 0.0), shares={"scream": 1.0})
    targets = [ClipDataset(manifest, pcm, config, seed=0)[index].target for index in range(30)]
    assert all(target[SCREAM] == 1.0 and target.sum() >= 2.0 for target in targets)


def test_a_sound_far_below_another_is_no_longer_a_label(manifest: Manifest, pcm: PcmStore) -> None:
    config = dataclasses.replace(PLAIN, mix=1.0, snr_db=(30.0, 30.0), shares={"scream": 1.0})
    assert ClipDataset(manifest, pcm, config, seed=0)[0].target.tolist() == target_vector("scream").tolist()


def test_a_long_clip_is_cropped_where_the_teachers_hear_its_label(tmp_path: Path) -> None:
    manifest = read_manifest(write_corpus(tmp_path, clips_per_label=1, seconds=10.0)).select(splits=["train"])
    scream = next(each for each in manifest if each.label == "scream")
    folder = write_teachers(tmp_path / "teachers", manifest, {scream.index: [0.0] * 6 + [0.9] * 3})
    teachers = Teachers.read(folder, manifest)
    pcm = PcmStore.open(manifest, tmp_path / "cache", workers=1)
    dataset = ClipDataset(manifest, pcm, dataclasses.replace(PLAIN, shares={"scream": 1.0}), seed=0, teachers=teachers)
    heard = [dataset[index].teacher[0] for index in range(100)]
    assert np.mean(np.array(heard) > 0.5) > 0.6  # a blind crop would meet those windows in a third of the draws


@pytest.mark.parametrize(("span_s", "share"), [((6.0, 6.5), 0.25), ((3.0, 9.0), 1.0), ((0.0, 0.4), 0.2), ((9.5, 10.0), 0.25)])
def test_crops_come_from_the_marked_span(tmp_path: Path, span_s: tuple[float, float], share: float) -> None:
    """The clip is silent but for the span, so a crop holds as much of it as it can: all of a short one, nothing else of a long one."""
    onset, offset = (round(16_000 * at) for at in span_s)
    samples = np.zeros(160_000)
    samples[onset:offset] = 0.5
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    marked = row(duration_s="10", onset_s=str(span_s[0]), offset_s=str(span_s[1]))
    manifest = read_manifest(write_rows(tmp_path, [marked], (*COLUMNS, "onset_s", "offset_s")))
    pcm = PcmStore.open(manifest, tmp_path / "cache", workers=1)
    dataset = ClipDataset(manifest, pcm, dataclasses.replace(PLAIN, shares={"scream": 1.0}), seed=0)
    crops = [dataset[index].audio for index in range(40)]
    assert [np.mean(crop > 0.4) for crop in crops] == pytest.approx([share] * 40, abs=1e-3)
    starts = {int(np.argmax(crop > 0.4)) for crop in crops}
    assert len(starts) == 1 if span_s[0] == 0.0 or span_s[1] == 10.0 or share == 1.0 else len(starts) > 20


def test_a_clip_that_no_teacher_scored_has_no_score_of_its_neighbour(tmp_path: Path) -> None:
    manifest = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    teachers = Teachers.read(write_teachers(tmp_path / "teachers", manifest, {0: [0.9, 0.9]}), manifest)
    for teacher in teachers.teachers:
        teacher.offsets[2:] -= teacher.offsets[2] - teacher.offsets[1]  # the second clip has no window
    assert teachers.scores(1, 0.0, 2.0).tolist() == [0.0] * 4
    assert teachers.scores(0, 0.0, 2.0)[0] == pytest.approx(0.9, abs=1e-3)


def test_teachers_give_soft_shouts_and_never_a_sensitive_label(tmp_path: Path) -> None:
    manifest = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    teachers = Teachers.read(write_teachers(tmp_path / "teachers", manifest, {each.index: [0.9, 0.9] for each in manifest}), manifest)
    dataset = ClipDataset(manifest, PcmStore.open(manifest, tmp_path / "cache", workers=1), PLAIN, seed=0, teachers=teachers)
    speech = next(each for each in manifest if each.label == "speech")
    target, weight = dataset._target(speech, 0)
    assert target[SHOUT] == pytest.approx(0.3, abs=1e-3)
    assert (target[SPEECH], target[SCREAM]) == (1.0, 0.0)
    assert weight.tolist() == [1.0] * 7
    unsure, unsure_weight = dataset._target(dataclasses.replace(speech, alternative_label="shout/scream?"), 0)
    assert (unsure_weight[SHOUT], unsure_weight[SCREAM]) == (0.0, 0.0)
    shouted, shouted_weight = dataset._target(dataclasses.replace(speech, alternative_label="shout"), 0)
    assert (shouted[SHOUT], shouted_weight[SHOUT]) == (0.5, 1.0)
    assert unsure[SPEECH] == shouted[SPEECH] == 1.0


def test_teacher_scores_of_another_manifest_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    own = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    folder = write_teachers(tmp_path / "teachers", own, {})
    with pytest.raises(TeacherError, match="its clips are not those of"):
        Teachers.read(folder, manifest)
    with pytest.raises(TeacherError, match="no such file"):
        Teachers.read(tmp_path / "none", own)


@pytest.mark.parametrize(
    "change", [{"mix": 1.5}, {"noise": -0.1}, {"snr_db": (10.0, 0.0)}, {"gain_db": (3.0, -3.0)}, {"shares": {"yodel": 1.0}}]
)
def test_an_impossible_sampling_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SamplingConfig(**change)


def test_a_manifest_without_any_label_to_draw_is_refused(manifest: Manifest, pcm: PcmStore) -> None:
    with pytest.raises(ManifestError, match="none of the labels to draw"):
        ClipDataset(manifest, pcm, dataclasses.replace(PLAIN, shares={"shout": 1.0}), seed=0)
