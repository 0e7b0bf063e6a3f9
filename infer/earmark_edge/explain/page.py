"""The trace as one HTML page that needs nothing else: a timeline of scores, thresholds, decisions and events, drawn as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from string import Template

from earmark_edge.explain.trace import Point, Trace
from earmark_edge.report import clock
from earmark_model.contract import Reason

LEFT, RIGHT, LANE, GAP, HEAD, STRIP = 92, 32, 64, 10, 26, 18
LEAST_WIDTH, MOST_WIDTH, SECOND = 880, 20_000, 10.0
"""Pixels: the drawing's width grows by `SECOND` with each second, within bounds."""
MOST_COLUMNS = 4_000
Place = Callable[[float], float]
"""From seconds to pixels."""
_STEPS_S = (1, 2, 5, 10, 30, 60, 300, 600, 1_800, 3_600)
_TICK_PIXELS, _WORD_PIXELS = 90, 112
REASONS = {
    Reason.ABOVE_THRESHOLD: "flagged: a routed label reached its threshold",
    Reason.ROUTED_UNVERIFIED: "flagged: a routed label reached its threshold, which carries no guarantee",
    Reason.HELD_BY_HYSTERESIS: "flagged: below the threshold, but above the lower one that closes an event",
    Reason.SPEECH_ONLY: "stays here: speech, and nothing that is routed",
    Reason.BELOW_THRESHOLD: "stays here: no routed label reached its threshold",
}


def page(trace: Trace, name: str, at: str) -> str:
    """The whole page; `name` is the input's, `at` says when it was heard."""
    template = Template(files("earmark_edge.explain").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=escape(name),
        at=escape(at),
        length=clock(trace.heard_s),
        answer="".join(f"<p class='answer'>{escape(line)}</p>" for line in trace.answer()),
        timeline=timeline(trace) if trace.points else "",
        legend="".join(
            f"<li><span class='key {reason.value}'></span><b>{reason.value}</b> {text}</li>" for reason, text in REASONS.items()
        ),
        events=_table(("onset", "offset", "label", "peak", "threshold", "reason", "incident"), _event_rows(trace)),
        nearest=_table(("label", "best score", "threshold", "closes below", "of threshold", "at", "opens an event"), _nearest_rows(trace)),
        settings=_table(("setting", "value"), _setting_rows(trace)),
    )


def timeline(trace: Trace) -> str:
    """The drawing: a lane for each label, the routed ones first, then the decisions."""
    points = list(trace.points)
    first_s, last_s = points[0].onset_s, max(points[-1].offset_s, points[0].onset_s + 1)
    width = min(MOST_WIDTH, max(LEAST_WIDTH, (last_s - first_s) * SECOND + LEFT + RIGHT))
    scale = (width - LEFT - RIGHT) / (last_s - first_s)

    def x(second: float) -> float:
        return LEFT + (second - first_s) * scale

    order = [*trace.routed, *(label for label in trace.rules.spec.labels if label not in trace.routed)]
    height = HEAD + len(order) * (LANE + GAP) + STRIP + 8
    parts = [_axis(first_s, last_s, scale, height)]
    bottom = HEAD + len(order) * (LANE + GAP)
    for event in trace.events:
        if event.offset_s > first_s:
            left, right = x(max(event.onset_s, first_s)), x(min(event.offset_s, last_s))
            span = f"{clock(event.onset_s)} to {clock(event.offset_s)}"
            title = f"event: {event.label}, {span}, peak {event.peak_score:.2f}, {event.reason.value}"
            shape = f"x='{left:.1f}' y='{HEAD}' width='{max(2.0, right - left):.1f}' height='{bottom - HEAD - GAP}'"
            parts.append(f"<rect class='event' {shape}><title>{escape(title)}</title></rect>")
    for lane, label in enumerate(order):
        parts.append(_lane(trace, points, label, HEAD + lane * (LANE + GAP), width, x))
    parts.append(_strip(points, bottom, x, scale))
    words = f"role='img' aria-label='Scores of {len(points)} windows over {clock(last_s - first_s)}'"
    return f"<svg {words} width='{width:.0f}' height='{height}' viewBox='0 0 {width:.0f} {height}'>{''.join(parts)}</svg>"


def _axis(first_s: float, last_s: float, scale: float, height: int) -> str:
    step = next((step for step in _STEPS_S if step * scale >= _TICK_PIXELS), _STEPS_S[-1])
    marks = []
    second = step * -(-first_s // step)
    while second <= last_s:
        at = LEFT + (second - first_s) * scale
        marks.append(f"<line class='grid' x1='{at:.1f}' x2='{at:.1f}' y1='{HEAD - 4}' y2='{height - 6}'/>")
        marks.append(f"<text class='tick' x='{at:.1f}' y='14'>{clock(second)[:-3]}</text>")
        second += step
    return "".join(marks)


def _lane(trace: Trace, points: list[Point], label: str, top: float, width: float, x: Place) -> str:
    at = trace.rules.spec.labels.index(label)
    upper = trace.rules.spec.thresholds[label].value
    lower = upper * trace.rules.config.hysteresis_ratio

    def y(score: float) -> float:
        return top + LANE * (1 - score)

    columns = _columns([((point.onset_s + point.offset_s) / 2, point.scores[at]) for point in points])
    line = " ".join(f"{x(second):.1f},{y(score):.1f}" for second, score in columns)
    area = f"{x(columns[0][0]):.1f},{y(0):.1f} {line} {x(columns[-1][0]):.1f},{y(0):.1f}"
    routed = label in trace.routed
    kind = "routed" if routed else "other"
    parts = [
        f"<rect class='lane' x='{LEFT}' y='{top}' width='{width - LEFT - RIGHT:.1f}' height='{LANE}'/>",
        f"<polygon class='area {kind}' points='{area}'/><polyline class='line {kind}' points='{line}'/>",
        f"<line class='upper' x1='{LEFT}' x2='{width - RIGHT:.1f}' y1='{y(upper):.1f}' y2='{y(upper):.1f}'/>",
        f"<text class='name {kind}' x='{LEFT - 8}' y='{top + LANE / 2 - 2:.1f}'>{label}</text>",
        f"<text class='limit' x='{LEFT - 8}' y='{top + LANE / 2 + 13:.1f}'>from {upper:.2f}</text>",
    ]
    if routed:
        parts.append(f"<line class='lower' x1='{LEFT}' x2='{width - RIGHT:.1f}' y1='{y(lower):.1f}' y2='{y(lower):.1f}'/>")
    return "".join(parts)


def _columns(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_COLUMNS` of them; of those that share one the highest stands, or a scream would vanish between two pixels."""
    each = -(-len(values) // MOST_COLUMNS)
    return [max(values[at : at + each], key=lambda value: value[1]) for at in range(0, len(values), each)]


def _strip(points: list[Point], top: float, x: Place, scale: float) -> str:
    """The decisions, a run of equal reasons as one piece."""
    parts = [f"<text class='name' x='{LEFT - 8}' y='{top + 13}'>decision</text>"]
    begin = 0
    for at in range(1, len(points) + 1):
        if at < len(points) and points[at].reason is points[begin].reason:
            continue
        left = points[begin].onset_s
        right = points[at].onset_s if at < len(points) else points[-1].offset_s
        reason = points[begin].reason
        title = f"{clock(left)} to {clock(right)}: {reason.value}"
        shape = f"x='{x(left):.1f}' y='{top}' width='{max(1.0, (right - left) * scale):.1f}' height='{STRIP}'"
        parts.append(f"<rect class='strip {reason.value}' {shape}><title>{title}</title></rect>")
        if (right - left) * scale > _WORD_PIXELS:
            middle = x(left) + (right - left) * scale / 2
            parts.append(f"<text class='word {reason.value}-word' x='{middle:.1f}' y='{top + 13}'>{reason.value}</text>")
        begin = at
    return "".join(parts)


def _event_rows(trace: Trace) -> Iterable[tuple[str, ...]]:
    for each in trace.events:
        times = (clock(each.onset_s), clock(each.offset_s))
        yield (*times, each.label, f"{each.peak_score:.2f}", f"{each.threshold:.2f}", each.reason.value, str(each.incident))


def _nearest_rows(trace: Trace) -> Iterable[tuple[str, ...]]:
    for each in trace.nearest():
        lower = f"{each.lower:.2f}" if each.is_routed else ""
        share = f"{each.share:.0%}"
        yield each.label, f"{each.score:.2f}", f"{each.threshold:.2f}", lower, share, clock(each.at_s), "yes" if each.is_routed else "no"


def _setting_rows(trace: Trace) -> Iterable[tuple[str, ...]]:
    for name, value in asdict(trace.rules.config).items():
        shown = ", ".join(value) or "none" if isinstance(value, (tuple, list)) else f"{value:g}"
        yield f"EARMARK_{name.upper()}", shown
    yield "bundle", trace.rules.spec.graph_sha256[:12]
    yield "configuration", trace.rules.sha256[:12]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return "<p>None.</p>"
    head = "".join(f"<th scope='col'>{heading}</th>" for heading in headings)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
