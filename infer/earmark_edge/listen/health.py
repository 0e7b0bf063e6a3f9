"""Is what arrives sound at all? Notices silence, clipping, DC, values that are not numbers and wrong rates; decides nothing else. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

CLIPPED_LEVEL = 0.999
COMMON_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)


class Problem(StrEnum):
    """What can be wrong with a signal."""

    SILENT = "silent"
    """The very same value for a long time, which no microphone in a room gives: muted, unplugged or broken."""
    CLIPPED = "clipped"
    DC = "dc"
    NOT_FINITE = "not_finite"
    WRONG_RATE = "wrong_rate"
    GAPS = "gaps"
    """Fewer samples arrive than time passes."""


ADVICE = {
    Problem.SILENT: "nothing but digital silence arrives; check the microphone's own switch, its cable and the mixer",
    Problem.CLIPPED: "the signal is clipped; lower the input gain",
    Problem.DC: "the signal has a large constant offset; the input is probably defective or misconfigured",
    Problem.NOT_FINITE: "samples that are no numbers arrived and were taken as silence; check the encoding (s16le or f32le?)",
    Problem.WRONG_RATE: "samples arrive at another rate than was stated; every pitch is wrong, and sounds may be missed",
    Problem.GAPS: "samples are missing; the network, the USB bus or the processor is too slow",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A problem began or ended; `detail` is a figure or two."""

    problem: Problem
    is_on: bool
    detail: str = ""

    def __str__(self) -> str:
        if not self.is_on:
            return f"no longer {self.problem.value.replace('_', ' ')}"
        return ADVICE[self.problem] + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """From when on a signal counts as ill.

    `silent_s`: seconds of one unchanging value. `span_s`: seconds over which clipping, offset and numbers are judged.
    `clipped_share`: part of the samples at full scale. `dc_level`: mean over the span.
    `rate_span_s`: over which the pace is measured, once `rate_after_s` has passed: what waited while the device started comes at once.
    """

    silent_s: float = 60.0
    span_s: float = 10.0
    clipped_share: float = 0.01
    dc_level: float = 0.1
    rate_span_s: float = 60.0
    rate_after_s: float = 5.0


@dataclass(slots=True)
class SignalHealth:
    """Takes the blocks of one source at `sample_rate_hz` and says what changed."""

    sample_rate_hz: int
    config: HealthConfig = field(default_factory=HealthConfig)
    problems: set[Problem] = field(default_factory=set)
    _value: float | None = None
    _same_samples: int = 0
    _span: list[tuple[int, int, float, int]] = field(default_factory=list)
    _first_s: float | None = None
    _began_s: float | None = None
    _paced_samples: int = 0

    def feed(self, samples: Samples, now_s: float) -> tuple[Samples, list[Change]]:
        """The block fit to be scored (what is not a number became silence), and what began or ended with it; `now_s` is monotonic."""
        if not samples.size:
            return samples, []
        bad, peak = 0, max(-float(samples.min()), float(samples.max()))  # NaN where any sample is
        if not peak <= 1:
            finite = np.isfinite(samples)
            bad = int(samples.size - np.count_nonzero(finite))
            samples = np.clip(np.where(finite, samples, np.float32(0)), -1.0, 1.0)
        clipped = int(np.count_nonzero(np.abs(samples) >= CLIPPED_LEVEL)) if not peak < CLIPPED_LEVEL else 0
        return samples, [*self._silence(samples), *self._level(samples, bad, clipped), *self._pace(samples.size, now_s)]

    def restart(self) -> None:
        """The source was opened again: pace and silence are measured anew; what was wrong stays so until it is seen to be right."""
        self._value, self._same_samples = None, 0
        self._first_s = self._began_s = None
        self._span.clear()

    def _silence(self, samples: Samples) -> list[Change]:
        if samples[0] == samples[-1] and bool((samples == samples[0]).all()):
            value = float(samples[0])
            self._same_samples = samples.size + (self._same_samples if value == self._value else 0)
            self._value = value
        else:
            self._same_samples, self._value = 0, None
        same_s = self._same_samples / self.sample_rate_hz
        if self._same_samples and same_s < self.config.silent_s:
            return []  # not long enough to say either
        return self._set(Problem.SILENT, is_on=same_s >= self.config.silent_s, detail=f"for {same_s:.0f} s")

    def _level(self, samples: Samples, bad: int, clipped: int) -> list[Change]:
        self._span.append((samples.size, clipped, float(samples.sum(dtype=np.float64)), bad))
        count, clips, total, no_numbers = (sum(column) for column in zip(*self._span, strict=True))
        if count < self.config.span_s * self.sample_rate_hz:
            return self._set(Problem.NOT_FINITE, is_on=True, detail=f"{no_numbers} samples") if bad else []
        self._span.clear()
        share, mean = clips / count, total / count
        return [
            *self._set(Problem.CLIPPED, is_on=share >= self.config.clipped_share and abs(mean) < CLIPPED_LEVEL, detail=f"{share:.1%}"),
            *self._set(Problem.DC, is_on=abs(mean) >= self.config.dc_level, detail=f"mean {mean:+.2f} of full scale"),
            *self._set(Problem.NOT_FINITE, is_on=no_numbers > 0, detail=f"{no_numbers} samples"),
        ]

    def _pace(self, count: int, now_s: float) -> list[Change]:
        """Samples against the clock: a constant factor that two common rates have to each other is a wrong rate."""
        if self._first_s is None:
            self._first_s = now_s
        if self._began_s is None:
            if now_s - self._first_s >= self.config.rate_after_s:
                self._began_s, self._paced_samples = now_s, 0
            return []
        self._paced_samples += count
        passed_s = now_s - self._began_s
        if passed_s < self.config.rate_span_s:
            return []
        pace = self._paced_samples / self.sample_rate_hz / passed_s
        self._began_s, self._paced_samples = now_s, 0
        likely = _rate_of(pace, self.sample_rate_hz)
        return [
            *self._set(Problem.WRONG_RATE, is_on=likely is not None, detail=f"{pace:.2f} seconds a second, as if it were {likely} Hz"),
            *self._set(Problem.GAPS, is_on=likely is None and pace < 0.95, detail=f"{1 - pace:.0%} missing"),  # noqa: PLR2004 - a twentieth
        ]

    def _set(self, problem: Problem, *, is_on: bool, detail: str) -> list[Change]:
        if is_on == (problem in self.problems):
            return []
        (self.problems.add if is_on else self.problems.discard)(problem)
        return [Change(problem, is_on, detail if is_on else "")]


def _rate_of(pace: float, sample_rate_hz: int) -> int | None:
    """The common rate that a stream of this pace probably has, if not the stated one.

    >>> _rate_of(44_100 / 16_000 * 1.003, 16_000), _rate_of(1.0, 16_000), _rate_of(7.3, 16_000)
    (44100, None, None)
    """
    for rate in COMMON_RATES_HZ:
        if rate != sample_rate_hz and abs(pace / (rate / sample_rate_hz) - 1) < 0.02:  # noqa: PLR2004 - a clock's error and a block
            return rate
    return None
