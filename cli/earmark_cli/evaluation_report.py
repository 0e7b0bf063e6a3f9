"""An evaluation as files: `evaluation.json`, pictures, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from earmark_cli.evaluation import (
    HEADINGS,
    comparison,
    estimate_text,
    markdown,
    markdown_table,
    print_figures,
    print_table,
    rows,
    triage_line,
    write_section,
)
from earmark_cli.evaluation_figures import Worst
from earmark_cli.evaluation_plots import save_pictures
from earmark_cli.evaluation_run import Result
from earmark_cli.robustness import RobustnessRow
from earmark_model.metrics import BUDGETS

JSON_FILE = "evaluation.json"
PAGE_FILE = "evaluation.html"


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG inside the page; `wide` ones take a whole row."""

    base64: str
    caption: str
    wide: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence, and a table or pictures."""

    title: str
    text: str
    headings: list[str] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    mark_first: bool = False


def write_report(result: Result, out: Path) -> None:
    """Write the evaluation into the folder `out`, which is made where there is none.

    Raises:
        OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON_FILE).write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    evaluation = result.evaluation
    paths = save_pictures(result.models, (evaluation.confusion_by_label, evaluation.confusion_by_source), result.robustness, out)
    (out / PAGE_FILE).write_text(render(result.title, _summary(result), _sections(result, paths)), encoding="utf-8")


def render(title: str, summary: str, sections: list[Section]) -> str:
    """One HTML page that needs nothing beside it."""
    environment = Environment(loader=PackageLoader("earmark_cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(PAGE_FILE).render(title=title, summary=summary, sections=sections)


def print_result(result: Result) -> None:
    """Tables on stdout: every label, the models side by side, and robustness where it was asked for."""
    print_figures(result.figures, result.title)
    print_table("triage, 95 % intervals over groups", *comparison(result.evaluation))
    if result.robustness:
        print_table("robustness, thresholds set on clean clips", ROBUSTNESS_HEADINGS, robustness_lines(result.robustness))


def write_card(result: Result) -> None:
    """The same tables on the bundle's card."""
    parts = [f"{result.figures.clips:,} clips, each by its windows, scored by the exported graph.", markdown(result.figures)]
    parts += ["Triage, with 95 % intervals over groups:", markdown_table(*comparison(result.evaluation))]
    if result.robustness:
        parts += ["Robustness, thresholds set on clean clips:", markdown_table(ROBUSTNESS_HEADINGS, robustness_lines(result.robustness))]
    write_section(result.request.bundle, result.request.split, "\n\n".join(parts))


def _summary(result: Result) -> str:
    evaluation = result.evaluation
    manifest = result.models[0].manifest.sha256[:12]
    return (
        f"{evaluation.clips:,} clips of {evaluation.groups:,} groups (a group is a voice or a recording), each by its windows, "
        f"scored by the exported graph. In brackets: 95 % intervals from resampled groups. Manifest {manifest}. "
        f"T{triage_line(result.figures)[1:]}."
    )


def _sections(result: Result, paths: list[Path]) -> list[Section]:
    caption = f"{result.evaluation.clips:,} clips, {result.request.split} split"
    pictures = {path.stem: path for path in paths}
    headings, lines = comparison(result.evaluation)
    triage = "Any scream, cry or baby cry against speech, laughter, other voices and background, by the largest sensitive score."
    sections = [
        Section("Triage", f"{triage} Thresholds let 1 % of harmless clips, or so many an hour, fire.", headings, lines, mark_first=True),
        _by_label(result),
        Section("Each label", "Against all other clips.", list(HEADINGS), [list(line) for line in rows(result.figures)]),
        _curves(pictures, caption),
    ]
    if result.robustness:
        sections.append(_robustness(result, picture(pictures["robustness"], f"Thresholds set on clean clips. {caption}")))
    reliability = picture(pictures["reliability"], f"The area of a dot is its share of the clips. {caption}", wide=True)
    confusion = [
        picture(pictures[f"confusion-{what}"], f"Clips by what they are and the label that scored highest. {caption}")
        for what in ("labels", "sources")
    ]
    return [
        *sections,
        Section("Reliability", "Dots on the line: a stated probability of 0.8 is right eight times in ten.", pictures=[reliability]),
        Section("Confusion", "What is heard as what.", pictures=confusion),
        *_by_source(result),
        _worst("Worst misses", "Sensitive clips with the lowest triage score.", result.evaluation.misses),
        _worst("Worst false alarms", "Harmless clips with the highest triage score.", result.evaluation.false_alarms),
    ]


def _curves(pictures: dict[str, Path], caption: str) -> Section:
    det = picture(pictures["det"], f"Both axes on normal-deviate scales; the line stands at 1 %. {caption}")
    curves = picture(pictures["precision-recall"], f"Left: triage; right: each label of the bundle. {caption}", wide=True)
    return Section("Curves", "Every threshold at once.", pictures=[det, curves])


def _by_label(result: Result) -> Section:
    models = result.evaluation.models
    headings = ["label", "clips", *(f"{model.name} at {budget.name}" for model in models for budget in BUDGETS)]
    lines = [
        [
            label,
            f"{models[0].labels[label].positives:,}",
            *(estimate_text(model.recall_by_label[label][budget.name]) for model in models for budget in BUDGETS),
        ]
        for label in models[0].recall_by_label
    ]
    return Section("Triage recall by label", "At thresholds set on all harmless clips.", headings, lines)


def _by_source(result: Result) -> list[Section]:
    models = result.evaluation.models
    sources = models[0].by_source
    headings = ["source", "clips", *(f"{model.name} at {budget.name}" for model in models for budget in BUDGETS)]
    found = [
        [source, f"{ours.positives:,}", *(_text(model.by_source[source].recall[budget.name]) for model in models for budget in BUDGETS)]
        for source, ours in sources.items()
        if ours.positives
    ]
    fired = [
        [source, f"{ours.negatives:,}", *(_text(model.by_source[source].fired) for model in models)]
        for source, ours in sources.items()
        if ours.negatives
    ]
    names = [model.name for model in models]
    return [
        Section("Triage by source", "Share of each source's sensitive clips that is found.", headings, found),
        Section("False alarms by source", "Share of harmless clips that fires where 1 % of all do.", ["source", "clips", *names], fired),
    ]


def _robustness(result: Result, picture: Picture) -> Section:
    headings = list(ROBUSTNESS_HEADINGS)
    text = "Recall and false positives at the clean threshold of 1 %, unchanged; then recall at each condition's own threshold of 1 %."
    return Section("Robustness", text, headings, robustness_lines(result.robustness), [picture])


ROBUSTNESS_HEADINGS = ("condition", "model", "recall, threshold kept", "fall", "false positives, threshold kept", "recall at own 1 %")


def robustness_lines(table: list[RobustnessRow]) -> list[list[str]]:
    """Rows of text, the models of a condition below each other."""
    order = list(dict.fromkeys(row.condition for row in table))
    return [
        [row.condition, row.model, _text(row.recall_unchanged), _text(row.fall), _text(row.false_positive_rate), _text(row.recall)]
        for row in sorted(table, key=lambda row: order.index(row.condition))
    ]


def _worst(title: str, text: str, clips: list[Worst]) -> Section:
    headings = ["clip", "source", "label", "triage", "heard as"]
    lines = [[clip.path, clip.source, clip.label, f"{clip.triage:.3f}", _heard(clip)] for clip in clips]
    return Section(title, text, headings, lines)


def _heard(clip: Worst) -> str:
    loudest = sorted(clip.scores, key=lambda label: -clip.scores[label])[:2]
    return ", ".join(f"{label} {clip.scores[label]:.2f}" for label in loudest)


def picture(path: Path, caption: str, *, wide: bool = False) -> Picture:
    """The PNG at `path` for a page."""
    return Picture(base64.b64encode(path.read_bytes()).decode("ascii"), caption, wide)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
