"""Does the guarantee hold? Thresholds are tested on part of a set, again and again, where the miss rate that they meet is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom

from earmark_model.guarantee import TooFewPositivesError, fixed_sequence, misses_allowed

Scores = NDArray[np.floating]
MIN_ROUNDS = 500


@dataclass(frozen=True, slots=True)
class Trials:
    """Miss rates that thresholds met, one for each round, and the share of rounds in which theory lets them exceed `alpha`."""

    miss_rates: NDArray[np.float64]
    alpha: float
    expected: float
    calibrated_on: int

    @property
    def exceeding(self) -> int:
        """Rounds whose miss rate is above alpha."""
        return int(np.count_nonzero(self.miss_rates > self.alpha + 1e-12))  # above alpha, and not by rounding

    @property
    def share(self) -> float:
        """Part of the rounds whose miss rate is above alpha."""
        return self.exceeding / len(self.miss_rates)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided Clopper-Pearson interval of that share: the sampling error of so many rounds."""
        rounds, count, tail = len(self.miss_rates), self.exceeding, (1 - confidence) / 2
        low = 0.0 if count == 0 else float(beta.ppf(tail, count, rounds - count + 1))
        high = 1.0 if count == rounds else float(beta.ppf(1 - tail, count + 1, rounds - count))
        return low, high

    @property
    def holds(self) -> bool:
        """Whether the share is at most what is expected, within sampling error."""
        return self.interval()[0] <= self.expected


def resampled(groups: Sequence[Scores], alpha: float, delta: float, rng: np.random.Generator, rounds: int = MIN_ROUNDS) -> Trials:
    """The set as the whole population: as many groups drawn from it with replacement, one clip of each, set the threshold.

    `groups`: the scores of each group's clips. The true miss rate, of a random clip of a random group of the set, is known exactly, so
    the share of rounds in which it exceeds alpha is to be at most `delta`.

    Raises:
        TooFewPositivesError: so many groups cannot support alpha.
    """
    drawn = _Draws(groups, rng)

    def round_() -> float:
        chosen = rng.integers(len(groups), size=len(groups))
        tested = fixed_sequence(drawn.clip_of(chosen), alpha, delta)
        return drawn.miss_rate(tested.threshold)

    return Trials(_repeat(round_, rounds), alpha, delta, len(groups))


def resplit(groups: Sequence[Scores], alpha: float, delta: float, rng: np.random.Generator, rounds: int = MIN_ROUNDS) -> Trials:
    """Random halves of the groups, one clip of each: the first sets the threshold, the second measures its miss rate.

    Half a set measures with an error of its own, so its miss rate exceeds alpha more often than the true one does. How often is known
    from ranks alone: the misses of the second half are beta-binomial (the count of its scores below an order statistic of the first).

    Raises:
        TooFewPositivesError: half of the groups cannot support alpha.
    """
    drawn, first = _Draws(groups, rng), -(-len(groups) // 2)
    second, allowed = len(groups) - first, misses_allowed(first, alpha, delta)
    if allowed < 0:
        msg = f"half of {len(groups)} groups cannot support a miss rate of {alpha:g} at {delta:g}; show validity on more groups"
        raise TooFewPositivesError(msg)

    def round_() -> float:
        order = rng.permutation(len(groups))
        scores = drawn.clip_of(order)
        tested = fixed_sequence(scores[:first], alpha, delta)
        return float(np.mean(scores[first:] < tested.threshold))

    expected = float(betabinom.sf(np.floor(alpha * second + 1e-9), second, allowed + 1, first - allowed))
    return Trials(_repeat(round_, rounds), alpha, expected, first)


def plot_trials(trials: Trials, ax: Any, *, caption: str) -> Any:
    """Histogram of the miss rates on a matplotlib `ax`, those above alpha in another colour and hatched; returns the `ax`."""
    rates = 100 * trials.miss_rates
    edges = np.linspace(0, max(float(rates.max()), 100 * trials.alpha) * 1.05 + 1e-9, 30)
    above = rates > 100 * trials.alpha + 1e-9
    for chosen, colour, hatch, name in ((~above, "tab:blue", "", "at most alpha"), (above, "tab:orange", "///", "above alpha")):
        ax.hist(rates[chosen], bins=edges, color=colour, hatch=hatch, label=name)
    ax.axvline(100 * trials.alpha, color="black", linestyle="--", linewidth=1)
    low, high = trials.interval()
    told = f"above alpha in {trials.share:.1%} [{low:.1%}, {high:.1%}] of {len(rates):,} rounds; expected: at most {trials.expected:.1%}"
    ax.set_title(f"{caption}\n{told}", fontsize=9)
    ax.set(xlabel="miss rate of the threshold (%)", ylabel="rounds")
    ax.legend(loc="upper right", fontsize=8)
    return ax


class _Draws:
    """Scores of groups of unequal sizes in one array, so that a clip of each is drawn at once."""

    def __init__(self, groups: Sequence[Scores], rng: np.random.Generator) -> None:
        self._scores = np.concatenate([np.asarray(each, dtype=np.float64) for each in groups])
        self._sizes = np.array([len(each) for each in groups])
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._weights = np.repeat(1 / (self._sizes * len(groups)), self._sizes)  # a random clip of a random group
        self._rng = rng

    def clip_of(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """The score of a random clip of each chosen group."""
        places = self._starts[chosen] + (self._rng.random(chosen.size) * self._sizes[chosen]).astype(np.int64)
        scores: NDArray[np.float64] = self._scores[places]
        return scores

    def miss_rate(self, threshold: float) -> float:
        """Probability that a random clip of a random group is below the threshold."""
        return float(self._weights[self._scores < threshold].sum())


def _repeat(once: Callable[[], float], rounds: int) -> NDArray[np.float64]:
    return np.array([once() for _ in range(rounds)])
