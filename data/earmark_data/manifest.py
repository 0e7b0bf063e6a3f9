"""The manifest: one validated row per labelled clip."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from earmark_data.labels import MANIFEST_LABELS
from earmark_model.consents import WITHDRAWN_FILE, MarkError, read_marks

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
REQUIRED_COLUMNS = ("path", "label", "split", "source", "group", "duration_s")
OPTIONAL_COLUMNS = (
    "original_label",
    "label_confidence",
    "alternative_label",
    "licence",
    "licence_tier",
    "consent",
    "consent_version",
)
SPAN_COLUMNS = ("onset_s", "offset_s")
_SPAN_SLACK_S = 0.01
"""Durations and spans are written rounded."""


class ManifestError(ValueError):
    """A manifest cannot be trusted; the text names the file, the row and the cause."""


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One labelled clip. `group` (a speaker, a recording, an uploader) never stands in two splits. `index` counts rows from 0.

    `span_s`: where in the clip its label holds (onset, offset), where someone marked that; None for all of it, as far as anyone knows.
    `consent` and `consent_version`: the household's record that lets the clip be trained with, by names that say nothing outside.
    """

    index: int
    path: Path
    label: str
    split: str
    source: str
    group: str
    duration_s: float
    original_label: str = ""
    label_confidence: str = ""
    alternative_label: str = ""
    licence: str = ""
    licence_tier: str = "unknown"
    consent: str = ""
    consent_version: str = ""
    span_s: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Rows in file order, without those that are labels without sound; `sha256` is the hash of the file's bytes."""

    path: Path
    rows: tuple[ClipRow, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ClipRow]:
        return iter(self.rows)

    def select(
        self,
        *,
        splits: Collection[str] = SPLITS,
        licence_tiers: Collection[str] | None = None,
        leave_out: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> Manifest:
        """The rows of these splits and licence tiers, without the sources `leave_out`, or with the sources `only`.

        Raises:
            ManifestError: a named source is not in the manifest, or no row is left.
        """
        known = {row.source for row in self.rows}
        if unknown := (set(leave_out) | set(only or ())) - known:
            msg = f"{self.path}: no source named {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
            raise ManifestError(msg)

        def wanted(row: ClipRow) -> bool:
            return (
                row.split in splits
                and (licence_tiers is None or row.licence_tier in licence_tiers)
                and row.source not in leave_out
                and (only is None or row.source in only)
            )

        rows = tuple(row for row in self.rows if wanted(row))
        if not rows:
            raise ManifestError(self._nothing_left(splits, licence_tiers, leave_out, only))
        return Manifest(self.path, rows, self.sha256)

    def _nothing_left(
        self, splits: Collection[str], tiers: Collection[str] | None, leave_out: Collection[str], only: Collection[str] | None
    ) -> str:
        """What was asked for, and what there is."""
        asked = [f"split {' or '.join(splits)}"]
        asked += [f"licence tier {' or '.join(tiers)}"] if tiers is not None else []
        asked += [f"source {' or '.join(only)}"] if only is not None else []
        wished = " and ".join(asked) + (f", without source {' and '.join(leave_out)}" if leave_out else "")
        there = {"splits": {row.split for row in self.rows}, "licence tiers": {row.licence_tier for row in self.rows}}
        held = " and ".join(f"{name} {', '.join(sorted(held))}" for name, held in there.items())
        made = "" if any(row.split in splits for row in self.rows) else "; `earmark data split` deals groups into splits"
        return f"{self.path}: no row is left of {wished}; there are {held}{made}"


def read_manifest(
    path: Path, *, progress: Callable[[int, int], None] | None = None, allow_leaks: bool = False, needs_split: bool = True
) -> Manifest:
    """Read a manifest and validate every row; clip paths are relative to the manifest's folder.

    `progress` is called with (rows done, rows in all). `allow_leaks` lets a group stand in several splits, for whoever looks
    for that. Without `needs_split` there may be no split column, or nothing in it: a corpus that is yet to be split.
    Where there is a `consent` column, a row without a path is a label whose sound nobody may train with: it is left out, and told.

    Raises:
        ManifestError: the file is missing, empty or lacks a column, or a row has an unknown label or split, a file that is
            not there, a duration that is not a positive number, a path that an earlier row has, a group of another split, or a span
            outside its clip; or no row has sound; or some of it was withdrawn or deleted since it was written.
    """
    _refuse_withdrawn(path)
    payload, raw_rows = _read_rows(path, [column for column in REQUIRED_COLUMNS if needs_split or column != "split"])
    check = _RowChecker(path, allow_leaks=allow_leaks, needs_split=needs_split)
    rows = []
    for index, (line, raw) in enumerate(raw_rows):
        if raw.get("path") or "consent" not in raw:
            rows.append(check(index, line, raw))
        if progress is not None:
            progress(index + 1, len(raw_rows))
    if silent := len(raw_rows) - len(rows):
        told = f"{silent} of {len(raw_rows)} rows are labels without sound, since nobody consented to training with it"
        if not rows:
            msg = f"{path}: {told}; there is nothing to train with or to measure on"
            raise ManifestError(msg)
        logger.warning("%s: %s; they are left out", path, told)
    return Manifest(path, tuple(rows), hashlib.sha256(payload).hexdigest())


def _refuse_withdrawn(path: Path) -> None:
    """Insist that nothing in the manifest was withdrawn or deleted by whoever it is of.

    Raises:
        ManifestError: something was, or the mark that says so cannot be read.
    """
    try:
        marks = read_marks(path.parent)
    except MarkError as error:
        raise ManifestError(str(error)) from error
    if marks:
        msg = (
            f"{path}: {len(marks)} of its rows were withdrawn by their households or deleted, last on {marks[-1].at[:10]} "
            f"({WITHDRAWN_FILE}); make a new export with `earmark review export`, and delete this folder"
        )
        raise ManifestError(msg)


def _read_rows(path: Path, required: Collection[str]) -> tuple[bytes, list[tuple[int, dict[str, str]]]]:
    """The file's bytes, and (line, fields by column) for each row."""
    try:
        payload = path.read_bytes()
        reader = csv.DictReader(io.StringIO(payload.decode("utf-8-sig"), newline=""))
        columns = reader.fieldnames or ()
        rows = [(reader.line_num, raw) for raw in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: not a readable manifest ({error})"
        raise ManifestError(msg) from error
    if missing := [column for column in required if column not in columns]:
        msg = f"{path}: column {', '.join(missing)} is missing; a manifest needs {', '.join(required)}"
        raise ManifestError(msg)
    if not rows:
        msg = f"{path}: the manifest has no rows"
        raise ManifestError(msg)
    return payload, rows


class _RowChecker:
    """Validates rows one by one, remembering the paths and the groups' splits seen so far."""

    def __init__(self, manifest: Path, *, allow_leaks: bool, needs_split: bool) -> None:
        self.manifest, self.allow_leaks, self.needs_split = manifest, allow_leaks, needs_split
        self.paths: dict[str, int] = {}
        self.splits: dict[str, tuple[str, int]] = {}

    def __call__(self, index: int, line: int, raw: dict[str, str]) -> ClipRow:
        def require(holds: object, cause: str) -> None:
            if not holds:
                msg = f"{self.manifest}, line {line}: {cause}"
                raise ManifestError(msg)

        require(None not in raw and None not in raw.values(), "another number of fields than the header has")
        name, label, split, group = raw["path"], raw["label"], raw.get("split", ""), raw["group"]
        require(label in MANIFEST_LABELS, f"unknown label {label!r}; known are {', '.join(MANIFEST_LABELS)}")
        require(split in SPLITS or not (self.needs_split or split), f"unknown split {split!r}; known are {', '.join(SPLITS)}")
        first = self.paths.setdefault(name, line)
        require(first == line, f"path {name} already stands in line {first}")
        file = self.manifest.parent / name
        require(name and file.is_file(), f"no such file {file}")
        require(group, "the group is empty; clips without one could leak between splits")
        before, seen = self.splits.setdefault(group, (split, line))
        leaks = before != split and not self.allow_leaks
        require(not leaks, f"group {group!r} is in split {split!r} here and in {before!r} in line {seen}")
        try:
            duration_s = float(raw["duration_s"])
        except ValueError:
            duration_s = float("nan")
        require(0 < duration_s < float("inf"), f"duration_s must be a positive number, got {raw['duration_s']!r}")
        optional = {key: raw[key] for key in OPTIONAL_COLUMNS if key in raw}
        span_s = self._span(line, raw, duration_s)
        return ClipRow(index, file, label, split, raw["source"], group, duration_s, **optional, span_s=span_s)

    def _span(self, line: int, raw: dict[str, str], duration_s: float) -> tuple[float, float] | None:
        words = [raw.get(column, "") for column in SPAN_COLUMNS]
        if not any(words):
            return None
        try:
            onset_s, offset_s = map(float, words)
        except ValueError:
            onset_s = offset_s = float("nan")
        if not 0 <= onset_s < offset_s <= duration_s + _SPAN_SLACK_S:
            msg = f"{self.manifest}, line {line}: onset_s and offset_s must be a span within the clip's {duration_s:g} s, got {words}"
            raise ManifestError(msg)
        return onset_s, offset_s
