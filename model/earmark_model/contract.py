"""The vocabulary and the bundle that every part of Earmark agrees on; standard library only.

A bundle is a folder: `model.onnx`, `bundle.json` and `CARD.md`. This module reads and checks `bundle.json`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

LABELS = ("scream", "cry", "baby_cry", "shout", "laughter", "speech", "other")
SENSITIVE = ("scream", "cry", "baby_cry")
SAMPLE_RATE_HZ = 16_000
BUNDLE_SCHEMAS = (1, 2)
"""Those that this version reads. From 2 on, a graph takes over what an overlapping window before computed: `mel_hop_samples`."""
GRAPH_FILE = "model.onnx"
SPEC_FILE = "bundle.json"
CARD_FILE = "CARD.md"
_MOST_UNITS = 1_000_000
"""A guarantee of more units than anyone could label would only keep a device busy with checking it."""


class Reason(StrEnum):
    """Why a decision came out as it did."""

    ABOVE_THRESHOLD = "above_threshold"
    """A sensitive score reached its threshold, and the threshold carries a guarantee."""
    HELD_BY_HYSTERESIS = "held_by_hysteresis"
    """The score fell below the threshold but stays above the lower one that closes an open event."""
    BELOW_THRESHOLD = "below_threshold"
    SPEECH_ONLY = "speech_only"
    """Nothing sensitive reached its threshold, and speech is what was heard."""
    ROUTED_UNVERIFIED = "routed_unverified"
    """A sensitive score reached its threshold, but no guarantee stands behind that threshold."""


class BundleError(ValueError):
    """A bundle is missing, damaged, or not of a kind that this version reads."""


class BundleFileNotFoundError(BundleError, FileNotFoundError):
    """A file that every bundle has is not there."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """P(miss rate > `alpha`) <= `delta`, from `positives` calibration units of which `misses` fell below the threshold.

    A claim that its own counts do not support is refused: so many misses or fewer must have a probability of at most `delta` at a miss
    rate of `alpha`. `bound`: the miss rate that the counts exclude at `delta`. `unit`, `split`: which clips the units were, and whence.
    """

    alpha: float
    delta: float
    positives: int
    misses: int
    calibration_sha256: str
    bound: float | None = None
    unit: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.delta < 1):
            msg = f"a guarantee needs alpha and delta inside (0, 1), got alpha={self.alpha}, delta={self.delta}"
            raise BundleError(msg)
        is_count = all(isinstance(count, int) for count in (self.misses, self.positives))
        if not is_count or not 0 <= self.misses <= self.positives <= _MOST_UNITS:
            msg = f"a guarantee needs 0 <= misses <= positives <= {_MOST_UNITS}, got {self.misses} misses of {self.positives}"
            raise BundleError(msg)
        if (chance := binomial_tail(self.misses, self.positives, self.alpha)) > self.delta:
            msg = (
                f"{self.misses} misses of {self.positives} do not support a miss rate of {self.alpha} at {self.delta}: "
                f"so few would come with probability {chance:.3f}; run `earmark model guarantee`"
            )
            raise BundleError(msg)
        if self.bound is not None and not 0 <= self.bound <= self.alpha:
            msg = f"a guarantee's bound lies between 0 and its alpha {self.alpha}, got {self.bound}"
            raise BundleError(msg)


@dataclass(frozen=True, slots=True)
class Threshold:
    """The calibrated probability, in [0, 1], from which a label counts as heard."""

    value: float
    guarantee: Guarantee | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and 0 <= self.value <= 1):
            msg = f"a threshold is a probability in [0, 1], got {self.value}"
            raise BundleError(msg)


@dataclass(frozen=True, slots=True)
class BundleSpec:
    """What `bundle.json` says: everything that a device needs to run the graph and to decide.

    `window_samples` is the shortest input of the graph and the length that a device scores at once, every `hop_samples`.
    Frame `i` of `frame_scores` starts `i * frame_hop_samples` after the first sample of the input.
    `mel_hop_samples`, in schema 2 alone: the graph has a further input `held`, float32 `[1, mels, held]`, the mel power of the audio's
    first frames, which may be left out, and a further output `mel_power`, `[batch, mels, frames - held]`, that of the others.
    Mel frame `i` starts `i * mel_hop_samples` after the first sample.
    `triage` is a threshold that no sensitive label's lies above, with what it guarantees of sensitive sounds as a whole, whichever
    sensitive label they reach: weaker than a guarantee of each label's own sounds, which stands in `thresholds`.
    """

    labels: tuple[str, ...]
    sensitive: tuple[str, ...]
    sample_rate_hz: int
    window_samples: int
    hop_samples: int
    frame_hop_samples: int
    thresholds: Mapping[str, Threshold]
    graph_sha256: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema: int = 1
    triage: Threshold | None = None
    mel_hop_samples: int | None = None

    def __post_init__(self) -> None:
        _require_readable(self.schema)
        if (self.schema == 1) != (self.mel_hop_samples is None):
            msg = f"mel_hop_samples belongs to schema 2 and to no other, got {self.mel_hop_samples} in schema {self.schema}"
            raise BundleError(msg)
        if not self.labels or len(set(self.labels)) != len(self.labels):
            msg = f"labels must be distinct and at least one, got {list(self.labels)}"
            raise BundleError(msg)
        if not self.sensitive or not set(self.sensitive) <= set(self.labels):
            msg = f"sensitive labels {list(self.sensitive)} must be some of the labels {list(self.labels)}"
            raise BundleError(msg)
        if set(self.thresholds) != set(self.labels):
            msg = f"thresholds must cover exactly the labels {list(self.labels)}, got {sorted(self.thresholds)}"
            raise BundleError(msg)
        if self.triage and (above := [label for label in self.sensitive if self.thresholds[label].value > self.triage.value]):
            msg = f"the threshold of {', '.join(above)} lies above triage's {self.triage.value}, which would break what triage guarantees"
            raise BundleError(msg)
        for name in ("sample_rate_hz", "window_samples", "hop_samples", "frame_hop_samples", "mel_hop_samples"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise BundleError(msg)
        if self.hop_samples > self.window_samples:
            msg = f"hop_samples {self.hop_samples} would leave gaps between windows of {self.window_samples}"
            raise BundleError(msg)

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.window_samples / self.sample_rate_hz

    @property
    def hop_s(self) -> float:
        """Distance between windows in seconds."""
        return self.hop_samples / self.sample_rate_hz

    @property
    def unverified(self) -> tuple[str, ...]:
        """Sensitive labels whose threshold carries no guarantee of that label's own sounds."""
        return tuple(label for label in self.sensitive if self.thresholds[label].guarantee is None)

    def to_json(self) -> str:
        """The text of `bundle.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BundleSpec:
        """Parse and validate the text of `bundle.json`.

        Raises:
            BundleError: not JSON, a field is missing or of the wrong kind, or a value breaks an invariant.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            msg = f"not valid JSON ({error}); copy the bundle again"
            raise BundleError(msg) from error
        if not isinstance(raw, dict) or not isinstance(raw.get("schema"), int):
            msg = "not a bundle description: it has no integer field 'schema'"
            raise BundleError(msg)
        _require_readable(raw["schema"])  # before the fields, which another schema may name otherwise
        try:
            return cls(
                labels=tuple(str(label) for label in raw["labels"]),
                sensitive=tuple(str(label) for label in raw["sensitive"]),
                sample_rate_hz=int(raw["sample_rate_hz"]),
                window_samples=int(raw["window_samples"]),
                hop_samples=int(raw["hop_samples"]),
                frame_hop_samples=int(raw["frame_hop_samples"]),
                thresholds={str(label): _threshold(entry) for label, entry in raw["thresholds"].items()},
                graph_sha256=str(raw["graph_sha256"]),
                provenance=dict(raw.get("provenance", {})),
                schema=raw["schema"],
                triage=None if raw.get("triage") is None else _threshold(raw["triage"]),
                mel_hop_samples=None if raw.get("mel_hop_samples") is None else int(raw["mel_hop_samples"]),
            )
        except KeyError as error:
            msg = f"field {error} is missing"
            raise BundleError(msg) from error
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            if isinstance(error, BundleError):
                raise
            msg = f"a field is of the wrong kind ({error})"
            raise BundleError(msg) from error


def _require_readable(schema: int) -> None:
    if schema not in BUNDLE_SCHEMAS:
        newer = "newer" if schema > BUNDLE_SCHEMAS[-1] else "older"
        readable = " and ".join(map(str, BUNDLE_SCHEMAS))
        msg = f"schema {schema} is {newer} than {readable}, which this version reads; update earmark or the bundle"
        raise BundleError(msg)


def _threshold(entry: Mapping[str, Any]) -> Threshold:
    guarantee = entry.get("guarantee")
    return Threshold(float(entry["value"]), None if guarantee is None else Guarantee(**guarantee))


def binomial_tail(misses: int, positives: int, rate: float) -> float:
    """Probability of at most `misses` among `positives` independent units that are each missed with probability `rate` in (0, 1).

    >>> round(binomial_tail(0, 59, 0.05), 4)
    0.0485
    """
    if misses >= positives:
        return 1.0
    logs = [
        math.lgamma(positives + 1)
        - math.lgamma(k + 1)
        - math.lgamma(positives - k + 1)
        + k * math.log(rate)
        + (positives - k) * math.log1p(-rate)
        for k in range(misses + 1)
    ]
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bundle(folder: Path) -> BundleSpec:
    """Read `folder/bundle.json` and verify that `folder/model.onnx` is the graph it was written for.

    Raises:
        BundleFileNotFoundError: the folder, the graph or the description is missing.
        BundleError: the description is invalid, or the graph's hash is not the one described.
    """
    spec_path, graph_path = folder / SPEC_FILE, folder / GRAPH_FILE
    for path in (spec_path, graph_path):
        if not path.is_file():
            msg = f"{path}: no such file; a bundle is a folder with {GRAPH_FILE}, {SPEC_FILE} and {CARD_FILE}"
            raise BundleFileNotFoundError(msg)
    try:
        spec = BundleSpec.from_json(spec_path.read_text(encoding="utf-8"))
    except (BundleError, UnicodeDecodeError) as error:
        msg = f"{spec_path}: {error}"
        raise BundleError(msg) from error
    found = sha256_file(graph_path)
    if found != spec.graph_sha256:
        msg = f"{graph_path}: its SHA-256 is {found[:12]}..., but {SPEC_FILE} describes {spec.graph_sha256[:12]}...; copy the bundle again"
        raise BundleError(msg)
    return spec
