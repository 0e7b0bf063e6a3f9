"""How models hear sources that they never trained on: each left-out source, scored by the run that left it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark_cli.peers import PEERS, BundleListener, Peer, Recorded, heard, peer_of, recorded
from earmark_cli.progress import counted
from earmark_cli.scored import ROUNDED_FLOOR, Scored, label_indices
from earmark_cli.training import window_logits
from earmark_data.manifest import Manifest, ManifestError, read_manifest
from earmark_data.pcm import PcmStore
from earmark_edge.scorer import Scorer
from earmark_model.bootstrap import RESAMPLES, group_weights, interval, recalls, thresholds
from earmark_model.calibration import calibrate
from earmark_model.checkpoint import read_config
from earmark_model.contract import LABELS, SENSITIVE, SPEC_FILE, read_bundle
from earmark_model.export import HOP_SAMPLES, fused
from earmark_model.fit import load_tagger
from earmark_model.metrics import BUDGETS, auroc, of_clips

OURS = "earmark"
ALL = "all"
MIN_POSITIVES = 5
"""A source with fewer sensitive clips is listed, but its share found is too rough to be averaged with the others'."""

SHOUT = LABELS.index("shout")
ByModel = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run folder or a bundle, and the sources and licence tiers that its training left out or kept to."""

    path: Path
    leave_out: tuple[str, ...]
    licence_tiers: tuple[str, ...]
    manifest_sha256: str

    @property
    def is_bundle(self) -> bool:
        """Whether it is an exported graph instead of a checkpoint."""
        return (self.path / SPEC_FILE).is_file()


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """A left-out source with sensitive clips. `recall[model][budget]`; `by_label[label][model]` at the first budget.

    `shared` clips were left aside because their group has others in the sources that were trained on.
    """

    source: str
    heard_by: str
    positives: dict[str, int]
    shared: int
    recall: dict[str, ByModel]
    by_label: dict[str, ByModel]
    interval: tuple[float, float] | None
    """Of our recall at the first budget, 95 %, over groups."""
    averaged: bool


@dataclass(frozen=True, slots=True)
class HarmlessFigures:
    """A left-out source's harmless clips: the share that fires at the pooled threshold of the first budget, by model."""

    source: str
    heard_by: str
    clips: int
    hours: float
    share: ByModel
    per_hour: ByModel


@dataclass(frozen=True, slots=True)
class LeftOut:
    """All left-out sources together."""

    models: list[str]
    sources: list[SourceFigures]
    mean_recall: dict[str, ByModel]
    """`[model][budget]`, the mean over the averaged sources."""
    above_better_peer: ByModel
    """`[budget]`: our mean less the better peer's mean."""
    above_interval: tuple[float, float] | None
    """Of the difference at the first budget, 95 %, over groups."""
    harmless: list[HarmlessFigures]
    scream_clips: int
    crying_clips: int
    scream_against_crying: ByModel
    shout: dict[str, ByModel]
    """`[source][model]`: AUROC of clips labelled shout (or acted strong anger) against the source's other clips."""
    negatives: dict[str, dict[str, float]]
    """`[run]`: the pooled negatives, clips and hours."""


def read_candidate(path: Path, whole: Manifest) -> Candidate:
    """What a run folder or a bundle says of its training; sources without a clip of the licence tiers that it kept to were left out, too.

    Raises:
        CheckpointError, BundleError: it is neither.
    """
    if (path / SPEC_FILE).is_file():
        said = dict(read_bundle(path).provenance)
        corpus = str(said.get("corpus_sha256", ""))
    else:
        said = read_config(path)
        corpus = str(said.get("manifest_sha256", ""))
    tiers = tuple(said.get("licence_tiers", ()))
    left = set(said.get("leave_out", ()))
    if tiers:
        left |= {row.source for row in whole} - {row.source for row in whole if row.licence_tier in tiers}
    return Candidate(path, tuple(sorted(left)), tiers, corpus)


def evaluate_left_out(
    models: Sequence[Path],
    manifest: Path,
    sources: Sequence[str],
    peers: Sequence[str] | None = None,
    licence_tiers: Sequence[str] = (),
) -> LeftOut:
    """Figures on `sources` (or `all` that the models left out), beside `peers`, which hear the clips themselves.

    With `licence_tiers` only clips of these are measured; which groups a run was trained on does not depend on it.

    Without `peers` (None) they are all that the corpus has recorded scores of: at no cost, and named so.

    A left-out source brings its clips of every split, and its own harmless clips join those of the run's other left-out
    sources and the validation split of the kept ones: thresholds are set on these pooled negatives. Clips whose group
    has others in a kept source's training or validation split are left aside.

    Raises:
        ManifestError: no model, or more than one, left a source out; or there is nothing to measure.
        CheckpointError, BundleError, PeerError, AudioError: a model, a peer or a clip cannot be used.
    """
    with counted("reading the manifest") as progress:
        whole = read_manifest(manifest, progress=progress)
    candidates = [read_candidate(path, whole) for path in models]
    wanted = _assigned(candidates, sources, whole)
    taggers = _peers(peers, whole)
    used = [candidate for candidate in candidates if any(by is candidate for by in wanted.values())]
    pools = [left_out_pool(whole, candidate) for candidate in used]
    if licence_tiers:
        pools = [(pool.select(licence_tiers=licence_tiers), shared) for pool, shared in pools]
    others = [_peer_scores(each, [pool for pool, _ in pools], whole) for each in taggers]
    trials = []
    for position, (candidate, (pool, shared)) in enumerate(zip(used, pools, strict=True)):
        ours = Scored(OURS, pool, _scores(candidate, pool, whole))
        asked = [source for source, by in wanted.items() if by is candidate]
        trials.append(Trial(candidate, asked, shared, [ours, *(scored[position] for scored in others)]))
    return compare(trials)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run with its pool of clips as every model scored it, ours first."""

    candidate: Candidate
    asked: list[str]
    shared: Counter[str]
    models: list[Scored]

    def __post_init__(self) -> None:
        if not self.models[0].negative.any():
            msg = f"{self.candidate.path}: no harmless clip among the left-out sources and the validation split to set a threshold on"
            raise ManifestError(msg)


def left_out_pool(whole: Manifest, candidate: Candidate) -> tuple[Manifest, Counter[str]]:
    """Every clip of the left-out sources, then the harmless validation clips of the kept ones; and clips left aside by source."""
    out = set(candidate.leave_out)
    kept = [row for row in whole if row.source not in out and row.split != "test"]
    if candidate.licence_tiers:
        kept = [row for row in kept if row.licence_tier in candidate.licence_tiers]
    trained = {row.group for row in kept}
    shared = Counter(row.source for row in whole if row.source in out and row.group in trained)
    rows = [row for row in whole if row.source in out and row.group not in trained]
    rows += [row for row in kept if row.split == "val" and row.label not in {*SENSITIVE, "shout"}]
    if not rows:
        msg = f"{whole.path}: no clip of {', '.join(sorted(out))} is free of groups that {candidate.path} was trained on"
        raise ManifestError(msg)
    return Manifest(whole.path, tuple(rows), whole.sha256), shared


def compare(trials: Sequence[Trial], *, resamples: int = RESAMPLES, seed: int = 0) -> LeftOut:
    """The figures of every trial's left-out sources, side by side."""
    rng = np.random.default_rng(seed)
    names = [each.name for each in trials[0].models]
    sources, harmless, resampled = [], [], []
    for trial in trials:
        weights = group_weights(trial.models[0].groups, resamples, rng)
        drawn = {each.name: _drawn_thresholds(each, weights) for each in trial.models} if trial.models[0].positive.any() else {}
        for source in trial.asked:
            inside = trial.models[0].sources == source
            if (positive := inside & trial.models[0].positive).any():
                found = {each.name: recalls(each.triage[positive], weights[:, positive], drawn[each.name]) for each in trial.models}
                figures = _source_figures(trial, source, positive, interval(found[OURS]))
                sources.append(figures)
                resampled += [found] if figures.averaged else []
            if (inside & trial.models[0].negative).any():
                harmless.append(_harmless_figures(trial, source, inside & trial.models[0].negative))
    means = {
        name: {budget.name: _mean(row.recall[name][budget.name] for row in sources if row.averaged) for budget in BUDGETS} for name in names
    }
    screams, crying, against = _scream_against_crying(trials, names)
    return LeftOut(
        models=names,
        sources=sources,
        mean_recall=means,
        above_better_peer={budget.name: _above(means, budget.name, names) for budget in BUDGETS},
        above_interval=_above_interval(resampled, names),
        harmless=harmless,
        scream_clips=screams,
        crying_clips=crying,
        scream_against_crying=against,
        shout={source: by_model for trial in trials for source in trial.asked if (by_model := _shout(trial, source))},
        negatives={str(trial.candidate.path.name): _pooled(trial.models[0]) for trial in trials},
    )


def _peers(names: Sequence[str] | None, whole: Manifest) -> list[Peer]:
    """The peers that were named, live; by default those with recorded scores."""
    if names is not None:
        return [peer_of(name, whole) for name in dict.fromkeys(names)]
    folder = whole.path.parent / "teachers"
    return [recorded(name, whole) for name in PEERS if (folder / f"{name}.npz").is_file()]


def _peer_scores(peer: Peer, pools: Sequence[Manifest], whole: Manifest) -> list[Scored]:
    """A peer's scores of each pool; a clip that several pools share is heard once."""
    if isinstance(peer, Recorded):
        return [Scored(peer.name, pool, peer.clip_scores(pool), ROUNDED_FLOOR) for pool in pools]
    union = Manifest(whole.path, tuple({row.index: row for pool in pools for row in pool}.values()), whole.sha256)
    scores = dict(zip((row.index for row in union), heard(peer, union), strict=True))
    return [Scored(peer.name, pool, np.stack([scores[row.index] for row in pool])) for pool in pools]


def _assigned(candidates: Sequence[Candidate], sources: Sequence[str], whole: Manifest) -> dict[str, Candidate]:
    """Which candidate hears which source."""
    for candidate in candidates:
        if candidate.manifest_sha256 != whole.sha256:
            msg = f"{whole.path}: not the manifest that {candidate.path} was trained on, so what it left out is not known; give that one"
            raise ManifestError(msg)
    left = Counter(source for candidate in candidates for source in candidate.leave_out)
    asked = sorted(left) if ALL in sources else list(dict.fromkeys(sources))
    if not asked:
        msg = (
            f"{', '.join(str(each.path) for each in candidates)}: nothing was left out in training; train with: train.py --leave-out SOURCE"
        )
        raise ManifestError(msg)
    for source in asked:
        if left[source] != 1:
            cause = "was left out by more than one of the models; give one" if left[source] else "was left out by none of the models"
            msg = f"--leave-out {source}: it {cause}; train.py --leave-out {source} makes a run that never heard it"
            raise ManifestError(msg)
    return {source: next(each for each in candidates if source in each.leave_out) for source in asked}


def _scores(candidate: Candidate, pool: Manifest, whole: Manifest) -> NDArray[np.float64]:
    """Scores of the pool; a run is folded, rounded and calibrated on the validation split of what it kept, as its export would be."""
    if candidate.is_bundle:
        return heard(BundleListener(Scorer(candidate.path)), pool)
    tagger = fused(load_tagger(candidate.path))
    kept = whole.select(splits=["val"], licence_tiers=candidate.licence_tiers or None, leave_out=candidate.leave_out)
    with counted("decoding clips") as progress:
        pcm = PcmStore.open(whole, candidate.path.parent / ".pcm", progress=progress)
    calibration = calibrate(of_clips(window_logits(tagger, kept, pcm, HOP_SAMPLES)), label_indices(kept))
    return of_clips(map(calibration, window_logits(tagger, pool, pcm, HOP_SAMPLES))).astype(np.float64)


def _drawn_thresholds(model: Scored, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    negative = model.negative
    return thresholds(model.triage[negative], weights[:, negative], BUDGETS[0], model.hours[negative])


def _source_figures(trial: Trial, source: str, positive: NDArray[np.bool_], bounds: tuple[float, float] | None) -> SourceFigures:
    ours = trial.models[0]
    recall: dict[str, ByModel] = {
        each.name: {budget.name: float(np.mean(each.triage[positive] >= each.threshold(budget))) for budget in BUDGETS}
        for each in trial.models
    }
    counts = {label: int((positive & ours.is_label(label)).sum()) for label in SENSITIVE}
    by_label: dict[str, ByModel] = {
        label: {
            each.name: float(np.mean(each.triage[positive & ours.is_label(label)] >= each.threshold(BUDGETS[0]))) for each in trial.models
        }
        for label, count in counts.items()
        if count
    }
    averaged = int(positive.sum()) >= MIN_POSITIVES
    return SourceFigures(source, trial.candidate.path.name, counts, trial.shared[source], recall, by_label, bounds, averaged)


def _harmless_figures(trial: Trial, source: str, negative: NDArray[np.bool_]) -> HarmlessFigures:
    hours = float(trial.models[0].hours[negative].sum())
    fired = {each.name: int(np.sum(each.triage[negative] >= each.threshold(BUDGETS[0]))) for each in trial.models}
    clips = int(negative.sum())
    share: ByModel = {name: count / clips for name, count in fired.items()}
    return HarmlessFigures(source, trial.candidate.path.name, clips, hours, share, {name: count / hours for name, count in fired.items()})


def _scream_against_crying(trials: Sequence[Trial], names: Sequence[str]) -> tuple[int, int, ByModel]:
    """Left-out screams against left-out crying of all trials together, each clip by the run that never heard its source."""
    flags, margins = [], dict[str, list[NDArray[np.float64]]]({name: [] for name in names})
    for trial in trials:
        chosen = trial.models[0].positive & np.isin(trial.models[0].sources, trial.asked)
        flags.append(trial.models[0].is_label("scream")[chosen])
        for each in trial.models:
            margins[each.name].append(each.margin[chosen])
    scream = np.concatenate(flags)
    return int(scream.sum()), int((~scream).sum()), {name: auroc(np.concatenate(each), scream) for name, each in margins.items()}


def _shout(trial: Trial, source: str) -> ByModel | None:
    inside = trial.models[0].sources == source
    flags = trial.models[0].shouted[inside]
    if not flags.any() or flags.all():
        return None
    return {each.name: auroc(each.scores[inside, SHOUT], flags) for each in trial.models}


def _above(means: dict[str, ByModel], budget: str, names: Sequence[str]) -> float | None:
    ours = means[OURS][budget]
    others = [value for name in names if name != OURS and (value := means[name][budget]) is not None]
    return None if ours is None or not others else ours - max(others)


def _above_interval(resampled: Sequence[dict[str, NDArray[np.float64]]], names: Sequence[str]) -> tuple[float, float] | None:
    others = [name for name in names if name != OURS]
    if not resampled or not others:
        return None
    means = {name: _mean_over_drawn(np.stack([each[name] for each in resampled])) for name in names}
    return interval(means[OURS] - np.max([means[name] for name in others], axis=0))


def _mean_over_drawn(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over sources of `[sources, resamples]`; a source of which a resample drew no clip does not count there."""
    drawn = np.isfinite(found)
    return np.where(drawn.any(0), np.where(drawn, found, 0).sum(0) / np.maximum(drawn.sum(0), 1), np.nan)


def _pooled(model: Scored) -> dict[str, float]:
    return {"clips": int(model.negative.sum()), "hours": float(model.hours[model.negative].sum())}


def _mean(values: Iterable[float | None]) -> float | None:
    held = [value for value in values if value is not None]
    return float(np.mean(held)) if held else None
