"""How many sounds the ear missed, estimated from a random slice of what it did not flag; no clock, no database.

Homes that consented let each sound below the threshold be drawn with a known probability p. A drawn one that a reviewer confirms stands
for 1/p sounds (Horvitz and Thompson, 1952). The interval is the gamma interval for weighted sums of Poisson counts (Fay and Feuer, 1997),
which has an upper end also where nothing was found. Misses of one home may come together, so its variance is that between homes, by the
linearised ratio of what each missed to what was caught of it, where that is larger than what single sounds would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import gammaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Home:
    """What is known of one household.

    `flagged` of its events were flagged, a verdict tells of `told` of them what they were, and `confirmed` were what the ear took them for.
    `drawn` holds the probabilities with which its sounds below the threshold were drawn; `drawn_told` and `drawn_confirmed` those of them
    of which a verdict tells what they were, and which were a sound that should have been flagged.
    """

    flagged: int
    told: int
    confirmed: int
    drawn: Sequence[float] = ()
    drawn_told: Sequence[float] = ()
    drawn_confirmed: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Misses:
    """The estimate over `homes` households. `rate` is missed / (missed + caught); an interval is None where nothing can be said.

    `caught` and `missed` count the undecided as if they were like the decided.
    """

    homes: int
    flagged: int
    flagged_told: int
    confirmed: int
    drawn: int
    drawn_told: int
    drawn_confirmed: int
    caught: float
    missed: float
    missed_interval: tuple[float, float] | None
    rate: float | None
    rate_interval: tuple[float, float] | None


def estimate(homes: Sequence[Home], least_probability: float | None, confidence: float = CONFIDENCE) -> Misses:
    """Estimate what was missed; `least_probability` is the smallest with which anything could have been drawn, None if nothing could."""
    flagged, told, confirmed = (sum(getattr(home, name) for home in homes) for name in ("flagged", "told", "confirmed"))
    drawn, drawn_told, hits = (sum(len(getattr(home, name)) for home in homes) for name in ("drawn", "drawn_told", "drawn_confirmed"))
    caught = confirmed * flagged / told if told else 0.0
    share_told = drawn_told / drawn if drawn else 1.0
    counts = (len(homes), flagged, told, confirmed, drawn, drawn_told, hits)
    if least_probability is None or not share_told:
        return Misses(*counts, caught, 0.0, None, None, None)
    sums = [sum(1 / p for p in home.drawn_confirmed) / share_told for home in homes]
    missed = sum(sums)
    heaviest = 1 / least_probability / share_told
    variance = max(_of_sounds(homes, share_told), _between_homes(homes, sums))
    low, high = weighted_interval(missed, variance, heaviest, confidence)
    rate = missed / (missed + caught) if missed + caught else None
    rates = (low / (low + caught) if low else 0.0, high / (high + caught))
    return Misses(*counts, caught, missed, (low, high), rate, rates)


def misses_in_words(found: Misses) -> list[str]:
    """The estimate in sentences."""
    if found.rate_interval is None or found.missed_interval is None:
        return ["nothing can be said of misses: " + ("nothing drawn is decided yet" if found.drawn else "no home's sounds were drawn from")]
    low, high = found.missed_interval
    lines = [
        f"flagged: {found.flagged}, decided {found.flagged_told}, confirmed {found.confirmed}",
        f"drawn from below the threshold: {found.drawn}, decided {found.drawn_told}, confirmed {found.drawn_confirmed}",
        f"missed, estimated: {found.missed:.0f} ({100 * CONFIDENCE:.0f} %: {low:.0f} to {high:.0f})",
    ]
    if found.rate is not None:
        low, high = found.rate_interval
        lines.append(f"miss rate, estimated: {found.rate:.1%} ({100 * CONFIDENCE:.0f} %: {low:.1%} to {high:.1%})")
    return [*lines, "of sounds that come near a threshold; what stays far below is what canaries are for"]


def weighted_interval(total: float, variance: float, heaviest: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Fay and Feuer's interval for the expectation of a weighted sum of Poisson counts; `heaviest` is the largest weight there could be."""
    tail = (1 - confidence) / 2
    low = float(gammaincinv(total**2 / variance, tail)) * variance / total if total else 0.0
    above, spread = total + heaviest, variance + heaviest**2
    return low, float(gammaincinv(above**2 / spread, 1 - tail)) * spread / above


def _of_sounds(homes: Sequence[Home], share_told: float) -> float:
    """The variance of what was missed, were every sound alone."""
    return sum((1 / p / share_told) ** 2 for home in homes for p in home.drawn_confirmed)


def _between_homes(homes: Sequence[Home], sums: Sequence[float]) -> float:
    """The variance of what was missed, as homes differ in the ratio of misses to catches; 0 where there is nothing to compare."""
    caught = sum(home.confirmed for home in homes)
    if len(homes) < 2 or not caught:  # noqa: PLR2004 - a difference takes two
        return 0.0
    ratio = sum(sums) / caught
    residuals = sum((missed - ratio * home.confirmed) ** 2 for missed, home in zip(sums, homes, strict=True))
    return residuals * len(homes) / (len(homes) - 1)
