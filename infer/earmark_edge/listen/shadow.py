"""A new bundle on trial: it hears what the running one hears, and nothing comes of it but whether it may take over.

Canaries are played to both over the same live samples. The new bundle fails where it misses one that the running bundle hears; a canary
that both miss says something about the input and counts for neither. It fails too where it flags much more than the running bundle
does: a bundle that flags everything would pass every canary and send a home's talk away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earmark_edge.decide import DecideConfig, DecideConfigError
from earmark_edge.detector import Detector, Heard
from earmark_edge.listen.canary import Canary, CanaryResult
from earmark_edge.scorer import Scorer, ScoringError
from earmark_model.contract import BundleError

Samples = npt.NDArray[np.float32]

PASSED = "passed"
MOST_MORE_FLAGGED = 0.1
"""So much more of the sound than the running bundle may the new one flag."""
_SLACK_S = 10.0


class UnfitError(RuntimeError):
    """The bundle cannot take over from the one that runs, whatever it hears."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a trial is: `canaries` that must be heard, one every `every_s` seconds of sound."""

    canaries: int = 3
    every_s: float = 300.0


def check_fits(new: Scorer, running: Scorer, config: DecideConfig) -> None:
    """Insist that the new bundle can stand in for the running one.

    Raises:
        UnfitError: another sample rate, sounds called sensitive that the running bundle does not call so, or it does not fit `config`.
    """
    if new.spec.sample_rate_hz != running.spec.sample_rate_hz:
        msg = f"it hears at {new.spec.sample_rate_hz} Hz, and the inputs are open at {running.spec.sample_rate_hz} Hz"
        raise UnfitError(msg)
    if more := sorted(set(new.spec.sensitive) - set(running.spec.sensitive)):
        msg = f"it calls {', '.join(more)} sensitive, which the running bundle does not: that would let more leave than before"
        raise UnfitError(msg)
    try:
        Detector(new, config)
    except (BundleError, DecideConfigError) as error:
        raise UnfitError(str(error)) from error


class Shadow:
    """The trial of `scorer` beside `running` on one stream; fed with that stream's samples until it gives an outcome.

    `sound`: what canaries play, float32 `[samples]`.

    Raises:
        UnfitError: see `check_fits`.
    """

    def __init__(self, scorer: Scorer, running: Scorer, config: DecideConfig, terms: Terms, sound: Samples | None = None) -> None:
        check_fits(scorer, running, config)
        self.scorer, self._terms = scorer, terms
        self._hop_s = scorer.spec.hop_s
        self._detector = Detector(scorer, config)
        self._canaries = tuple(Canary(each, config, terms.every_s, sound) for each in (scorer, running))
        self._results: tuple[list[CanaryResult], list[CanaryResult]] = ([], [])
        self._rate_hz, self._running_hop_s = running.spec.sample_rate_hz, running.spec.hop_s
        self.heard_canaries = 0
        self.heard_s = self.flagged_s = self.running_flagged_s = 0.0

    def feed(self, samples: Samples, heard: Heard, *, is_busy: bool) -> str:
        """`samples` that the running bundle has just `heard`; PASSED, a reason from `TRIAL_WORDS`, or "" while the trial goes on.

        `is_busy`: the running bundle has an event open, for which canaries wait.
        """
        try:
            mine = self._detector.feed(samples)
            is_busy = is_busy or self._detector.has_open_event
            results = [canary.feed(samples, is_busy=is_busy) for canary in self._canaries]
        except ScoringError:
            return "unfit"
        self.heard_s += len(samples) / self._rate_hz
        self.flagged_s += self._hop_s * sum(window.decision.is_flagged for window in mine.windows)
        self.running_flagged_s += self._running_hop_s * sum(window.decision.is_flagged for window in heard.windows)
        for kept, result in zip(self._results, results, strict=True):
            kept.extend([result] if result else [])
        return self._outcome()

    def reset(self) -> None:
        """The stream was cut off or muted: forget the sound, keep the score."""
        self._detector.reset()
        for canary in self._canaries:
            canary.reset()
        for kept in self._results:
            kept.clear()

    def _outcome(self) -> str:
        if self.flagged_s - self.running_flagged_s > max(_SLACK_S, MOST_MORE_FLAGGED * self.heard_s):
            return "flags_too_much"
        new, running = self._results
        while new and running:
            mine, other = new.pop(0), running.pop(0)
            if mine.is_heard:
                self.heard_canaries += 1
            elif other.is_heard:
                return "canary_missed"
        return PASSED if self.heard_canaries >= self._terms.canaries else ""
