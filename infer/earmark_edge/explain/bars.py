"""Live bars in the terminal: each label's score against its threshold, and the decision with its reason."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from earmark_edge.explain.trace import Point, Trace, is_flagged
from earmark_edge.report import clock

WIDTH = 40
_FULL, _EMPTY, _MARK = "█", "·", "|"


def bars(trace: Trace) -> Table:
    """The last window as a table of bars; the mark stands at the threshold."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for justify in ("right", "left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    if not trace.points:
        table.add_row("", "listening; the first two seconds are awaited", "", "")
        return table
    point = trace.points[-1]
    spec = trace.rules.spec
    order = [*trace.routed, *(label for label in spec.labels if label not in trace.routed)]
    for label in order:
        score, threshold = point.scores[spec.labels.index(label)], spec.thresholds[label].value
        style = ("bold red" if score >= threshold else "default") if label in trace.routed else "dim"
        table.add_row(
            Text(label, style=style), Text(bar(score, threshold), style=style), f"{score:.2f}", Text(f"of {threshold:.2f}", style="dim")
        )
    table.add_row("", _decision(point), "", clock(point.offset_s))
    if trace.events:
        last = trace.events[-1]
        said = f"last event: {last.label} at {clock(last.onset_s)}, {last.peak_score:.2f} ({last.reason.value})"
        table.add_row("", Text(said, style="bold"), "", f"{len(trace.events)} in all")
    return table


def bar(score: float, threshold: float, width: int = WIDTH) -> str:
    """A bar of `width` letters with a mark at the threshold.

    >>> bar(0.5, 0.8, 10)
    '█████···|·'
    """
    filled = round(score * width)
    letters = [_FULL] * filled + [_EMPTY] * (width - filled)
    letters[min(width - 1, int(threshold * width))] = _MARK
    return "".join(letters)


def _decision(point: Point) -> Text:
    return Text(
        f"{'flagged' if is_flagged(point) else 'stays here'}: {point.reason.value}", style="bold red" if is_flagged(point) else "default"
    )
