"""Where data and model meet for exporting: a run becomes a calibrated, checked bundle with a card."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from earmark_cli.consent_record import warning
from earmark_cli.evaluation import figures_of, markdown
from earmark_cli.progress import counted
from earmark_cli.scored import label_indices
from earmark_cli.training import manifest_path, window_logits
from earmark_data.audio import read_audio
from earmark_data.manifest import Manifest, read_manifest
from earmark_data.pcm import PcmStore
from earmark_model.calibration import Calibration, calibrate, working_thresholds
from earmark_model.checkpoint import CheckpointError, read_config
from earmark_model.consents import WITHDRAWN_FILE, note_user
from earmark_model.contract import Threshold
from earmark_model.export import HOP_SAMPLES, TOLERANCE, CalibratedTagger, ParityReport, fused, write_bundle
from earmark_model.fit import load_tagger
from earmark_model.metrics import Figures, of_clips
from earmark_model.network import parameters

__all__ = ["TOLERANCE", "export_run"]

PARITY_CLIPS = 40


def export_run(run: Path, out: Path, corpus: Path | None, *, keep: float | None = None, teacher_share: float | None = None) -> ParityReport:
    """Calibrate the best checkpoint of `run` on the validation split and write the bundle; `keep` and `teacher_share` as in `load_tagger`.

    Raises:
        CheckpointError: the run is missing, was trained on another manifest than the one given, or on clips to which consent was withdrawn.
        ExportError: torch and onnxruntime differ; nothing is written.
    """
    config = read_config(run)
    if line := warning(run):
        raise CheckpointError(line)
    for name, value in (("keep_began", keep), ("teacher_share", teacher_share)):
        if value is not None:
            config["train"][name] = value
    tagger = fused(load_tagger(run, keep=keep, teacher_share=teacher_share))
    whole = read_manifest(manifest_path(corpus or Path(config["corpus"])))
    if whole.sha256 != config["manifest_sha256"]:
        msg = f"{whole.path}: not the manifest that {run} was trained on; give that one with --corpus"
        raise CheckpointError(msg)
    chosen = whole.select(licence_tiers=config["licence_tiers"], leave_out=config["leave_out"])
    validation = chosen.select(splits=["val"])
    with counted("decoding clips") as progress:
        pcm = PcmStore.open(whole, run.parent / ".pcm", progress=progress)
    windows, labels = window_logits(tagger, validation, pcm, HOP_SAMPLES), label_indices(validation)
    calibration = calibrate(of_clips(windows), labels)
    scores = of_clips(map(calibration, windows))
    figures = figures_of(scores, validation)
    thresholds = working_thresholds(scores, labels)
    parity_rows = validation.rows[:: max(1, len(validation) // PARITY_CLIPS)]
    clips = [read_audio(row.path) for row in parity_rows]
    model = CalibratedTagger(tagger, calibration)
    card = _card(config, chosen.select(splits=["train"]), figures, thresholds, calibration, parameters(tagger))
    report = write_bundle(model, thresholds, _provenance(config, calibration), card, clips, out)
    if config.get("consents"):
        note_user(whole.path.parent, out)
    return report


def _provenance(config: dict[str, Any], calibration: Calibration) -> dict[str, Any]:
    return {
        "commit": config["environment"]["commit"],
        "corpus_sha256": config["manifest_sha256"],
        "licence_tiers": config["licence_tiers"],
        "leave_out": config["leave_out"],
        "consents": config.get("consents", []),
        "calibrated": list(calibration.fitted),
        "train": config["train"],
        "sampling": config["sampling"],
        "versions": {name: value for name, value in config["environment"].items() if name not in {"commit", "uncommitted"}},
    }


def _beginning(config: dict[str, Any]) -> str:
    begun = config.get("begin_with")
    if not begun:
        return "Its training began with random weights."
    kept = f"keeps {config['train']['keep_began']:.0%} of each" if config["train"]["keep_began"] else "went on from there"
    if config.get("taught_by"):
        kept += f". It\nfollowed what the bundle `{config['taught_by']['name']}` says of clean sound, and heard it degraded"
    if config["train"].get("heads"):
        kept = (
            "asked of them to hear\n"
            "in noise, rooms and other devices what they hear without. What is read from them was learned from our labels\n"
            "and from YAMNet, which heard the same sounds clean" + _settled(config["train"])
        )
    return (
        "Its training began with the weights of EfficientAT's mn04_as (MIT licence; Schmid et al., ICASSP 2023), which were\n"
        f"trained on AudioSet's labelled excerpts of public videos, and {kept}."
    )


def _settled(train: dict[str, Any]) -> str:
    """What of a sensitive label's score is the two taggers', as the card tells it."""
    told = ""
    if alone := train.get("taggers_alone"):
        told += f".\nThe score of {', '.join(alone)} is the taggers' alone: its clips come from one source, whose recorder would be learned"
    if animals := train.get("animals"):
        told += f".\n{animals:.0%} of what the taggers say of animals, which cry and scream too, is taken off each sensitive label"
    return told


def _consents(config: dict[str, Any]) -> str:
    """The records of consent behind the clips, for the card; a withdrawal is looked for under these names."""
    if not config.get("consents"):
        return ""
    listed = "\n".join(f"| {one['consent']} | {one['version']} | {one['clips']:,} |" for one in config["consents"])
    return f"""
Households consented to training with their clips. What one of them withdraws marks this bundle, under these names (`{WITHDRAWN_FILE}`).

| record of consent | version | clips, of train and val |
|---|---|---|
{listed}
"""


def _card(
    config: dict[str, Any],
    train: Manifest,
    figures: Figures,
    thresholds: dict[str, Threshold],
    calibration: Calibration,
    size: int,
) -> str:
    sources = Counter((row.source, row.licence_tier) for row in train)
    minutes = Counter[str]()
    for row in train:
        minutes[row.source] += row.duration_s / 60  # type: ignore[assignment]  # Counter adds any numbers
    listed = "\n".join(f"| {source} | {tier} | {count:,} | {minutes[source]:.0f} |" for (source, tier), count in sorted(sources.items()))
    open_only = config["licence_tiers"] == ["open"]
    use = "Trained on clips of open licences only."
    if not open_only:
        use = "Trained on clips of all licence tiers, noncommercial and unknown ones among them: **for research, not for business.**"
    values = ", ".join(f"{label} {threshold.value:.3f}" for label, threshold in thresholds.items())
    left = ", ".join(label for label in thresholds if label not in calibration.fitted)
    uncalibrated = f"; too few positives for {left}, whose scores are uncalibrated" if left else ""
    return f"""# Model card: Earmark sound triage

A mobile CNN ({size:,} parameters) on a log-mel front end that is part of the graph. It hears screams, adult
crying, baby cries, shouts, laughter, speech and everything else, in windows of two seconds.
{_beginning(config)}

## Use

For routing short clips to human review on the device where they were heard. {use}
Not for identifying people, not for judging guilt or health, and not as the only safeguard of anyone.
**The thresholds carry no guarantee**: none was tested against a stated miss rate.
Every flagged event says so: its reason is `routed_unverified`.

## Training data

{len(train):,} clips, {sum(row.duration_s for row in train) / 3600:.1f} hours; recordings of these collections.
None of the recordings is in the repository.
Soft labels: the scores of YAMNet and EfficientAT mn04_as on the same clips{"" if config["teachers"] else " were not used"}.

| source | licence tier | clips | minutes |
|---|---|---|---|
{listed}
{_consents(config)}
## Calibration and thresholds

Platt scaling on the validation split, for {", ".join(calibration.fitted)}{uncalibrated}.
The three sensitive labels share one scale and one bias, since triage compares them: one of them alone may be off by what the others need.
Thresholds: {values}. Those of scream, cry and baby_cry let through at most 0.5 % of the harmless validation clips each; the others are 0.5.

## Known limits

The splits share sources, which flatters every figure here: expect less from microphones and rooms that the corpus does not hold.
Shout has almost no labelled clip and was learned from the two taggers. Adult crying comes almost wholly from acted vocal bursts.
Labels of acted emotion are what the speaker meant. Voices of children are rare outside the baby cries.

## Figures on the val split

{figures.clips:,} clips, each by its windows of two seconds.

{markdown(figures)}
"""
