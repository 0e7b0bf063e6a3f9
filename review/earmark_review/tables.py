"""Tables that people open with a spreadsheet: no cell of them is a formula."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORMULA_STARTS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)


def inert(cell: object) -> object:
    """`cell`, with an apostrophe in front where it is text that a spreadsheet would run (OWASP, CSV injection); numbers stay.

    >>> inert("=1+1"), inert(-0.5), inert("kitchen")
    ("'=1+1", -0.5, 'kitchen')
    """
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA_STARTS) else cell


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV under a header, every cell inert and quoted where it needs to be (RFC 4180)."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: inert(cell) for name, cell in row.items()} for row in rows)
