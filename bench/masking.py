"""Regenerate bench/MASKING.md and its curve: what is left of words, and of screams and cries, in masked audio and in the picture."""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from bench.attacks import ATTACKS, RATE_HZ, Floats
from bench.masking_report import Curve, Heard, Recalls, draw, markdown
from bench.recogniser import Recogniser, aligned

from earmark_cli.yamnet import Yamnet
from earmark_data.audio import read_audio
from earmark_edge.mask import MASK, MaskSpec, mask, rng_for
from earmark_edge.picture import third_octave_picture
from earmark_edge.scorer import Scorer
from earmark_edge.window import Windower

ROOT = Path(__file__).resolve().parents[1]
SENSITIVE = ("scream", "baby_cry", "cry")
YAMNET_LABELS = ("Screaming", "Crying, sobbing", "Baby cry, infant cry")
YAMNET_THRESHOLD = 0.1
REACHES_S = (0.0, 0.1, 0.2, 0.6)
"""Beside the one in use."""
_SENTENCES = ("kids are talking by the door", "dogs are sitting by the door")
"""All that the actors of ravdess say (Livingstone and Russo, 2018)."""
_LEAST_WORDS = 2


@dataclass(frozen=True, slots=True)
class Spoken:
    """A clip of speech and the words in it."""

    audio: Floats
    words: Sequence[str]


def main() -> None:
    """Measure, print, and write the table and the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--bundle", type=Path, default=ROOT / "model" / "bundles" / "earmark")
    parser.add_argument("--split", default="test", help="the corpus's split that the clips are of")
    parser.add_argument("--speech-clips", type=int, default=16, help="of each of the two sources of speech")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "MASKING.md", help="the page to write; its curve goes beside it")
    options = parser.parse_args()
    if options.out.is_dir():
        parser.error(f"--out {options.out}: a folder; name the page in it, such as {options.out / 'MASKING.md'}")
    warnings.filterwarnings("ignore", message="Not enough STFT frames", module="pystoi")
    began = time.perf_counter()
    rows = _rows(options.corpus, options.split)
    recogniser = Recogniser()
    spoken = _spoken(options.corpus, rows, options.speech_clips, recogniser)
    words = _words(spoken, recogniser)
    curve, recalls = _curve(options.corpus, rows, options.bundle, spoken, recogniser)
    text = markdown(words, recalls, curve, time.perf_counter() - began, options.split)
    options.out.write_text(text, encoding="utf-8")
    draw(curve, options.out.with_suffix(".png"), options.split)
    print(text)


def _rows(corpus: Path, split: str) -> list[dict[str, str]]:
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return sorted((row for row in csv.DictReader(file) if row["split"] == split), key=lambda row: row["path"])


def _spoken(corpus: Path, rows: list[dict[str, str]], clips: int, recogniser: Recogniser) -> list[Spoken]:
    """Acted speech with its known words, and read speech with what the recogniser makes of the clean clip."""
    chosen: list[Spoken] = []
    for row in [row for row in rows if row["source"] == "ravdess" and row["original_label"].endswith("normal")][:clips]:
        audio = read_audio(corpus / row["path"])
        read = recogniser.words(audio)
        distances = {sentence: aligned(sentence.split(), read).edits for sentence in _SENTENCES}
        chosen.append(Spoken(audio, min(_SENTENCES, key=lambda sentence: distances[sentence]).split()))
    found = 0
    for row in [row for row in rows if row["source"] == "speechocean762_half"]:
        audio = read_audio(corpus / row["path"])
        words = recogniser.words(audio)
        if found < clips and len(words) >= _LEAST_WORDS:
            chosen.append(Spoken(audio, words))
            found += 1
    return chosen


def _masked(audio: Floats, spec: MaskSpec = MASK) -> Floats:
    return mask(audio, RATE_HZ, rng_for(audio), spec)


def _words(spoken: list[Spoken], recogniser: Recogniser) -> dict[str, Heard]:
    """Words left in clean clips, in masked ones, in masked ones under attack, and in what can be rebuilt from the picture."""
    masks = [_masked(each.audio) for each in spoken]
    heard = {"unmasked": _heard(spoken, [each.audio for each in spoken], recogniser), "masked": _heard(spoken, masks, recogniser)}
    for name, attack in ATTACKS.items():
        guesses = [attack(each.audio, masked) for each, masked in zip(spoken, masks, strict=True)]
        heard[f"masked, {name}"] = _heard(spoken, guesses, recogniser)
    heard["noise shaped by the picture"] = _heard(spoken, [from_picture(each.audio) for each in spoken], recogniser)
    heard["chance: another clip, masked"] = _heard(spoken, [*masks[1:], masks[0]], recogniser)
    return heard


def _heard(spoken: list[Spoken], guesses: Sequence[Floats], recogniser: Recogniser) -> Heard:
    from pystoi import stoi  # noqa: PLC0415 - brings scipy, which takes a second

    found = [aligned(each.words, recogniser.words(guess)) for each, guess in zip(spoken, guesses, strict=True)]
    pairs = [(each.audio, np.resize(guess, len(each.audio))) for each, guess in zip(spoken, guesses, strict=True)]
    indices = [float(stoi(audio.astype(float), guess.astype(float), RATE_HZ)) for audio, guess in pairs]
    total = sum(len(each.words) for each in spoken)
    return Heard(sum(each.edits for each in found) / total, sum(each.right for each in found), total, float(np.mean(indices)))


def from_picture(audio: Floats) -> Floats:
    """What the third-octave picture lets one rebuild: noise with the picture's levels in its bands, moved smoothly between columns."""
    picture = third_octave_picture(audio, RATE_HZ, 0.0)
    noise = np.random.default_rng(0).standard_normal(len(audio))
    spectrum, hertz = np.fft.rfft(noise), np.fft.rfftfreq(len(audio), 1 / RATE_HZ)
    middles = (np.arange(len(picture.levels_db)) + 0.5) * picture.column_s * RATE_HZ
    made = np.zeros(len(audio))
    for band, midband in enumerate(picture.bands_hz):
        inside = np.abs(np.log2(np.maximum(hertz, 1) / midband)) < 1 / 6
        carrier = np.fft.irfft(spectrum * inside, len(audio))
        levels = np.interp(np.arange(len(audio)), middles, [column[band] for column in picture.levels_db])
        made += carrier / (np.sqrt(np.mean(carrier**2)) + 1e-12) * 10 ** (levels / 20)
    return (made / max(1.0, float(np.abs(made).max()))).astype(np.float32)


class _Ears:
    """The shipped bundle at its thresholds, and YAMNet at 0.1: whether either flags a clip, by any of its sensitive labels."""

    def __init__(self, bundle: Path) -> None:
        self._scorer, self._yamnet = Scorer(bundle), Yamnet()
        spec = self._scorer.spec
        self._at = [spec.labels.index(label) for label in spec.sensitive]
        self._thresholds = np.array([spec.thresholds[label].value for label in spec.sensitive])
        self._yamnet_at = [self._yamnet.labels.index(label) for label in YAMNET_LABELS]

    def flags(self, audio: Floats) -> tuple[bool, bool]:
        """By the bundle, by YAMNet."""
        spec = self._scorer.spec
        windower = Windower(spec.window_samples, spec.hop_samples)
        windows = np.stack([window.samples for window in (*windower.feed(audio), *windower.flush())])
        ours = bool((self._scorer.run(windows).clip[:, self._at] >= self._thresholds).any())
        return ours, bool(self._yamnet.run(audio)[:, self._yamnet_at].max() >= YAMNET_THRESHOLD)


def _curve(
    corpus: Path, rows: list[dict[str, str]], bundle: Path, spoken: list[Spoken], recogniser: Recogniser
) -> tuple[list[Curve], Mapping[str, Recalls]]:
    """Words left against sounds lost, by how far grains may come from; and the recalls of the mask in use, in full."""
    ears = _Ears(bundle)
    clips = {label: [read_audio(corpus / row["path"]) for row in rows if row["label"] == label] for label in SENSITIVE}
    clips["speech"] = [each.audio for each in spoken]
    before = {label: np.array([ears.flags(audio) for audio in heard]) for label, heard in clips.items()}
    points: list[Curve] = []
    recalls: Mapping[str, Recalls] = {}
    for reach_s in sorted({*REACHES_S, MASK.reach_s}):
        made = partial(_masked, spec=replace(MASK, reach_s=reach_s))
        found = {
            label: Recalls(len(heard), before[label].sum(axis=0), np.sum([ears.flags(made(audio)) for audio in heard], axis=0))
            for label, heard in clips.items()
        }
        left = _heard(spoken, [made(each.audio) for each in spoken], recogniser)
        points.append(Curve(reach_s, left, Recalls.over([found[label] for label in SENSITIVE]), in_use=reach_s == MASK.reach_s))
        recalls = found if reach_s == MASK.reach_s else recalls
    return points, recalls


if __name__ == "__main__":
    main()
