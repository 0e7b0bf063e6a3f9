"""The records of consent that a run or a bundle rests on: counted, and a warning where some were withdrawn."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from earmark_data.manifest import ClipRow
from earmark_model.consents import WITHDRAWN_FILE, ConsentUsed, read_marks


def used(rows: Iterable[ClipRow]) -> list[ConsentUsed]:
    """The records of consent that these clips came under, each with its number of clips."""
    counts = Counter((row.consent, row.consent_version) for row in rows if row.consent)
    return sorted(ConsentUsed(consent, version, clips) for (consent, version), clips in counts.items())


def warning(folder: Path) -> str:
    """One line about a run or bundle that somebody no longer consents to; "" where all is well.

    Raises:
        MarkError: its mark cannot be read.
    """
    marks = read_marks(folder)
    if not marks:
        return ""
    consents, last = len({one.consent for one in marks}), max(one.at for one in marks)
    return (
        f"{folder}: trained on clips to which consent was withdrawn ({consents} records, last on {last[:10]}; see {WITHDRAWN_FILE}); "
        "train it anew on a new export, and do not ship it"
    )


def warn(folder: Path) -> None:
    """Say on stderr, in one line, that a bundle is marked."""
    if line := warning(folder):
        sys.stderr.write(f"warning: {line}\n")
