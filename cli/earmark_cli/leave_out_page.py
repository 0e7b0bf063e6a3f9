"""The leave-one-source-out figures as files: `left-out.json`, pictures, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from earmark_cli.evaluation_report import Section, picture, render
from earmark_cli.leave_out import OURS, ByModel, HarmlessFigures, LeftOut, SourceFigures
from earmark_model.metrics import BUDGETS

JSON_FILE = "left-out.json"
PAGE_FILE = "left-out.html"
HATCHES = ("", "//", "..", "xx")
"""Models are told apart by the hatch, not by colour alone."""


def write_left_out(figures: LeftOut, out: Path) -> None:
    """Write the figures into the folder `out`, which is made where there is none.

    Raises:
        OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON_FILE).write_text(json.dumps(asdict(figures), indent=1) + "\n", encoding="utf-8")
    summary = (
        "Each source is scored by the run that never heard it. Thresholds are set on harmless clips that the run never trained on: "
        + "; ".join(f"{run}: {pooled['clips']:,.0f} clips, {pooled['hours']:.2f} h" for run, pooled in figures.negatives.items())
        + f". A source in brackets has too few clips to be averaged. Ours is {OURS}."
    )
    (out / PAGE_FILE).write_text(render("Sources that training left out", summary, _sections(figures, out)), encoding="utf-8")


def draw_recall(rows: Sequence[SourceFigures], models: Sequence[str], ax: Axes) -> Axes:
    """Triage recall at the first budget, a group of bars for each source; ours with its 95 % interval over groups of clips."""
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        places = np.arange(len(rows)) + (number - (len(models) - 1) / 2) * width
        ax.barh(places, [row.recall[model][BUDGETS[0].name] or 0 for row in rows], width, hatch=HATCHES[number % 4], label=model)
        if model == OURS:
            for place, row in zip(places, rows, strict=True):
                ax.plot(row.interval or (), [place] * len(row.interval or ()), "k|-", linewidth=1)
    ax.set_yticks(range(len(rows)), [f"{_shown(row)} ({sum(row.positives.values()):,})" for row in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel=f"triage recall at {BUDGETS[0].name} false positives (share of sensitive clips)", xlim=(0, 1), title="left-out sources")
    ax.legend(fontsize=8)
    return ax


def draw_alarms(rows: Sequence[HarmlessFigures], models: Sequence[str], ax: Axes) -> Axes:
    """Share of each source's harmless clips that fires at the pooled threshold of the first budget."""
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        places = np.arange(len(rows)) + (number - (len(models) - 1) / 2) * width
        ax.barh(places, [100 * (row.share[model] or 0) for row in rows], width, hatch=HATCHES[number % 4], label=model)
    ax.set_yticks(range(len(rows)), [f"{row.source} ({row.clips:,})" for row in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="harmless clips that fire (%)", title="left-out sources")
    ax.legend(fontsize=8)
    return ax


def _sections(figures: LeftOut, out: Path) -> list[Section]:
    names = figures.models
    sections = []
    if figures.sources:
        path = out / "left-out-recall.png"
        _save(path, len(figures.sources), lambda ax: draw_recall(figures.sources, names, ax))
        shown = picture(path, f"{sum(sum(row.positives.values()) for row in figures.sources):,} sensitive clips of left-out sources")
        headings = ["source", "clips", *(f"{name} at {budget.name}" for budget in BUDGETS for name in names), "ours, 95 %"]
        lines = [_line(row, names) for row in figures.sources]
        means = [_text(figures.mean_recall[name][budget.name]) for budget in BUDGETS for name in names]
        lines.append(["mean over sources", "", *means, ""])
        sections.append(Section("Triage recall by source", _above(figures), headings, lines, [shown]))
    if figures.harmless:
        path = out / "left-out-alarms.png"
        _save(path, len(figures.harmless), lambda ax: draw_alarms(figures.harmless, names, ax))
        shown = picture(path, f"{sum(row.clips for row in figures.harmless):,} harmless clips of left-out sources")
        lines = [
            [row.source, f"{row.clips:,}", f"{row.hours:.2f}", *(_text(row.share[name]) for name in names)] for row in figures.harmless
        ]
        text = "Share of harmless clips that fires where 1 % of all do."
        sections.append(Section("False alarms by source", text, ["source", "clips", "hours", *names], lines, [shown]))
    aurocs = [
        ["scream against crying", f"{figures.scream_clips:,} against {figures.crying_clips:,}", *_row(figures.scream_against_crying, names)]
    ]
    aurocs += [[f"shout, in {source}", "", *_row(by_model, names)] for source, by_model in figures.shout.items()]
    text = "AUROC: how often the one sound scores above the other. Shout is labelled, or acted strong anger."
    return [*sections, Section("Telling sensitive sounds apart", text, ["which", "clips", *names], aurocs)]


def _line(row: SourceFigures, names: Sequence[str]) -> list[str]:
    clips = " ".join(f"{count:,} {label}" for label, count in row.positives.items() if count)
    bounds = "-" if row.interval is None else f"{row.interval[0]:.2f} to {row.interval[1]:.2f}"
    return [_shown(row), clips, *(_text(row.recall[name][budget.name]) for budget in BUDGETS for name in names), bounds]


def _above(figures: LeftOut) -> str:
    """How far our mean lies above the better peer's."""
    above = figures.above_better_peer[BUDGETS[0].name]
    if above is None:
        return "Share of each source's sensitive clips that is found; intervals from resampled groups."
    low, high = figures.above_interval or (float("nan"),) * 2
    return f"Our mean at {BUDGETS[0].name} lies {above:+.3f} from the better peer's (95 % over groups: {low:+.2f} to {high:+.2f})."


def _row(by_model: ByModel, names: Sequence[str]) -> list[str]:
    return [_text(by_model[name]) for name in names]


def _shown(row: SourceFigures) -> str:
    return row.source if row.averaged else f"({row.source})"


def _save(path: Path, rows: int, draw: object) -> None:
    figure = Figure(figsize=(7.5, 1.8 + 0.5 * rows), layout="constrained")
    assert callable(draw)
    draw(figure.subplots())
    figure.savefig(path, dpi=110)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
