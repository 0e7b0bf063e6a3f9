"""From a window's score vector to a decision with a reason. Pure: numbers in, decisions out."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from earmark_model.contract import LABELS, BundleError, BundleSpec, Reason

Floats = npt.NDArray[np.float32]
FLAGGING = frozenset({Reason.ABOVE_THRESHOLD, Reason.ROUTED_UNVERIFIED, Reason.HELD_BY_HYSTERESIS})
"""The reasons for which a window belongs to an event."""
_SPEECH = "speech"
_LEAST_THRESHOLD = 1e-6
"""Stands in for a threshold of 0 where a score is divided by its threshold."""


class DecideConfigError(ValueError):
    """A configuration breaks an invariant or does not fit the bundle."""


@dataclass(frozen=True, slots=True)
class DecideConfig:
    """How scores become events; the thresholds themselves belong to the bundle.

    `hysteresis_ratio`: an open event closes when every routed score is below this part of its threshold.
    `margin_s`: exported on each side of what the frames locate, where it was scored and holds no speech of its own.
    `min_event_s`: shorter events are widened up to this, under the same condition; none is dropped.
    `max_event_s`: longer events are cut into parts of one incident, and bounds the audio held in RAM.
    `merge_gap_s`: events this near are one incident, and one event where the gap holds no speech to speak of.
    `speech_cut_s`: so much speech without a sensitive sound in a gap keeps the gap at home.
    `route_also`: labels that are treated as sensitive beside the bundle's own, such as shout.
    """

    hysteresis_ratio: float = 0.6
    margin_s: float = 0.2
    min_event_s: float = 1.0
    max_event_s: float = 60.0
    merge_gap_s: float = 2.0
    speech_cut_s: float = 0.5
    route_also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.hysteresis_ratio <= 1:
            msg = f"hysteresis_ratio must be in (0, 1], got {self.hysteresis_ratio}"
            raise DecideConfigError(msg)
        for name in ("margin_s", "min_event_s", "merge_gap_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                msg = f"{name} must be 0 or more seconds, got {getattr(self, name)}"
                raise DecideConfigError(msg)
        if not (math.isfinite(self.speech_cut_s) and self.speech_cut_s > 0):
            msg = f"speech_cut_s must be more than 0 seconds, got {self.speech_cut_s}"
            raise DecideConfigError(msg)
        if not (math.isfinite(self.max_event_s) and self.max_event_s >= max(self.min_event_s, 1.0)):
            msg = f"max_event_s must be 1 second or more and not below min_event_s ({self.min_event_s}), got {self.max_event_s}"
            raise DecideConfigError(msg)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on one window, and why: the `label` that decided, its `score`, and the `threshold` it was held against."""

    reason: Reason
    label: str
    score: float
    threshold: float

    @property
    def is_flagged(self) -> bool:
        """Whether the window belongs to an event."""
        return self.reason in FLAGGING


class Rules:
    """A bundle's thresholds under a configuration: everything that turns scores into decisions.

    Raises:
        BundleError: the bundle's labels are not the ones that events are made of.
        DecideConfigError: the configuration routes a label that the bundle does not score.
    """

    def __init__(self, spec: BundleSpec, config: DecideConfig) -> None:
        if set(spec.labels) != set(LABELS):
            msg = f"the bundle's labels are {list(spec.labels)}; this version decides on {list(LABELS)}"
            raise BundleError(msg)
        if unknown := set(config.route_also) - set(spec.labels):
            msg = f"route_also names {sorted(unknown)}; the bundle's labels are {list(spec.labels)}"
            raise DecideConfigError(msg)
        self.spec = spec
        self.config = config
        routed = {*spec.sensitive, *config.route_also}
        self._routed = [at for at, label in enumerate(spec.labels) if label in routed]
        self._upper = [spec.thresholds[label].value for label in spec.labels]
        self._lower = np.array(self._upper)[self._routed] * config.hysteresis_ratio  # [routed]
        self._speech = spec.labels.index(_SPEECH)

    @property
    def sha256(self) -> str:
        """Hash of everything that decides: configuration, labels, thresholds with their guarantees, window geometry and graph."""
        spec = {name: value for name, value in asdict(self.spec).items() if name not in {"provenance", "mel_hop_samples"}}
        text = json.dumps({"config": asdict(self.config), "spec": spec}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def opens(self, scores: Floats) -> bool:
        """Whether any routed label of `scores` `[classes]` reaches its threshold."""
        found = scores.tolist()  # on so few numbers numpy takes several times as long as Python
        return any(found[at] >= self._upper[at] for at in self._routed)

    def holds(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Where any routed label of `scores` `[..., classes]` reaches its lower threshold: `[...]`."""
        return np.asarray((scores[..., self._routed] >= self._lower).any(axis=-1))

    def hears_speech(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Where speech reaches its own threshold in `scores` `[..., classes]`: `[...]`."""
        return np.asarray(scores[..., self._speech] >= np.float64(self._upper[self._speech]))

    def strongest(self, scores: Floats) -> tuple[str, float, float]:
        """Of the routed labels, the one whose score is largest relative to its threshold: label, score, threshold."""
        found = scores.tolist()

        def relative(at: int) -> float:
            share: float = found[at] / max(self._upper[at], _LEAST_THRESHOLD)
            return max(share, 1.0) if found[at] >= self._upper[at] else share  # a score of 0 reaches a threshold of 0

        at = max(self._routed, key=relative)
        return self.spec.labels[at], found[at], self._upper[at]

    def reason_above(self, label: str) -> Reason:
        """What a score of `label` at or above its threshold is worth."""
        verified = self.spec.thresholds[label].guarantee is not None
        return Reason.ABOVE_THRESHOLD if verified else Reason.ROUTED_UNVERIFIED


class Decider:
    """Hysteresis over successive windows: opens at a threshold, closes below the lower one."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether the last window belonged to an event."""
        return self._is_open

    def decide(self, scores: Floats) -> Decision:
        """Decide on the next window from its whole score vector, `[classes]`."""
        rules = self._rules
        label, score, threshold = rules.strongest(scores)
        if rules.opens(scores):
            self._is_open = True
            return Decision(rules.reason_above(label), label, score, threshold)
        if self._is_open and rules.holds(scores):
            return Decision(Reason.HELD_BY_HYSTERESIS, label, score, threshold)
        self._is_open = False
        if rules.hears_speech(scores):
            at = rules.spec.labels.index(_SPEECH)
            return Decision(Reason.SPEECH_ONLY, _SPEECH, float(scores[at]), rules.spec.thresholds[_SPEECH].value)
        return Decision(Reason.BELOW_THRESHOLD, label, score, threshold)

    def reset(self) -> None:
        """As new."""
        self._is_open = False
