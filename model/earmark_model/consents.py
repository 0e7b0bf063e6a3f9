"""Whose consent a corpus and a model rest on, and the mark that a withdrawal leaves beside both. Standard library only.

An export of reviewers' verdicts holds clips of households that consented to training. What is made of it keeps a list of the records
of consent; `used-by.txt` beside the manifest names the runs and bundles, and a withdrawal writes `withdrawn.json` into all of them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WITHDRAWN_FILE = "withdrawn.json"
USED_BY_FILE = "used-by.txt"
_SCHEMA = 1
_RECORDS = ("config.json", "bundle.json")
"""Where a run and a bundle tell what they rest on."""
logger = logging.getLogger(__name__)


class MarkError(ValueError):
    """A mark of withdrawal cannot be read or written; the text names the file."""


@dataclass(frozen=True, slots=True, order=True)
class ConsentUsed:
    """A household's record of consent as a corpus names it, the version of it, and how many clips it covers."""

    consent: str
    version: str
    clips: int


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """That clips under a record of consent may no longer be used: of one case, or of all where `case` is "". `at` is ISO 8601, UTC."""

    at: str
    consent: str
    case: str
    why: str


def recorded(folder: Path) -> list[ConsentUsed]:
    """What a run or a bundle says that it rests on.

    Raises:
        MarkError: the folder is neither.
    """
    for name in _RECORDS:
        path = folder / name
        if not path.is_file():
            continue
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            listed = raw.get("consents", raw.get("provenance", {}).get("consents", []))
            return [ConsentUsed(**one) for one in listed]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            msg = f"{path}: does not tell what it rests on ({error})"
            raise MarkError(msg) from error
    msg = f"{folder}: neither a run of train.py nor a bundle"
    raise MarkError(msg)


def withdraw(folder: Path, marks: Iterable[Mark]) -> int:
    """Mark a run or bundle with what was withdrawn of what it rests on; return how many of its records that concerns.

    Raises:
        MarkError: see `recorded` and `mark`.
    """
    mine = {one.consent for one in recorded(folder)}
    concerned = [one for one in marks if one.consent in mine]
    mark(folder, concerned)
    return len({one.consent for one in concerned})


def read_marks(folder: Path) -> tuple[Mark, ...]:
    """What was withdrawn of a corpus, a run or a bundle, oldest first; nothing where its folder has no mark.

    Raises:
        MarkError: there is a mark, but not of the documented form.
    """
    path = folder / WITHDRAWN_FILE
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != _SCHEMA:
            msg = f"schema {raw['schema']}"
            raise ValueError(msg)  # noqa: TRY301 - told with the others
        return tuple(sorted(Mark(**entry) for entry in raw["withdrawn"]))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        msg = f"{path}: not a readable mark of withdrawal ({error}); what lies beside it may not be used until it is clear what it says"
        raise MarkError(msg) from error


def mark(folder: Path, marks: Iterable[Mark]) -> bool:
    """Add marks to a folder, whole or not at all; say whether any was new.

    Raises:
        MarkError: it cannot be written, or the mark that is there cannot be read.
    """
    before = read_marks(folder)
    known = {(one.consent, one.case) for one in before}
    fresh = [one for one in marks if (one.consent, one.case) not in known]
    if not fresh:
        return False
    path = folder / WITHDRAWN_FILE
    partial = path.with_suffix(".partial")
    payload = {"schema": _SCHEMA, "withdrawn": [asdict(one) for one in sorted([*before, *fresh])]}
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(payload, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        msg = f"{path}: cannot be written ({error.strerror})"
        raise MarkError(msg) from error
    return True


def note_user(corpus: Path, user: Path) -> None:
    """Note beside a manifest that a run or bundle was made of it, so that a withdrawal finds it; where that cannot be, say so."""
    path, name = corpus / USED_BY_FILE, str(user.resolve())
    if Path(name) in users_of(corpus):
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(name + "\n")
    except OSError as error:
        logger.warning(
            "%s: cannot be written (%s); a withdrawal will not find %s by itself, see `earmark model withdraw`", path, error.strerror, user
        )


def users_of(corpus: Path) -> Sequence[Path]:
    """The runs and bundles that were made of a corpus."""
    path = corpus / USED_BY_FILE
    if not path.is_file():
        return ()
    return [Path(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
