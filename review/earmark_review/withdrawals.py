"""Lets withdrawals and deletions reach what was exported: clips are deleted there, and manifests and the models made of them marked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from earmark_model.consents import Mark, MarkError, mark, users_of, withdraw
from earmark_review import audit
from earmark_review.identity import ServiceIdentity
from earmark_review.store.database import Database
from earmark_review.store.exports import Gone, gone_by_export, mark_told, mark_withdrawn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reached:
    """What was marked now: folders of exports and of models; and those that are known and could not be marked, with why."""

    exports: Sequence[Path] = ()
    models: Sequence[Path] = ()
    missed: Sequence[str] = ()


def marks_of(gone: Sequence[Gone]) -> list[Mark]:
    """As they are written beside manifests and models."""
    return [Mark(one.at.isoformat(), one.consent, one.case_id, one.why) for one in gone]


def reach_exports(database: Database, identity: ServiceIdentity, now: datetime) -> Reached:
    """Bring every export and model up to date that can be reached; the rest is tried again the next time."""
    with database.writing() as conn:
        mark_withdrawn(conn, identity, now)
        found = gone_by_export(conn)
    exports: list[Path] = []
    models: list[Path] = []
    missed: list[str] = []
    for export_id, (folder, gone) in found.items():
        try:
            reached = _reach(folder, gone)
        except (MarkError, OSError) as error:
            missed.append(f"{folder}: {error}")
            continue
        exports.append(folder)
        models += reached.models
        missed += reached.missed
        with database.writing() as conn:
            mark_told(conn, export_id, [one.case_id for one in gone], now)
            detail = {"rows": len(gone), "models": len(reached.models)}
            audit.append(conn, now, audit.SERVICE, audit.Action.EXPORT_WITHDRAWN, f"export:{export_id}", detail)
    return Reached(exports, models, missed)


def _reach(folder: Path, gone: Sequence[Gone]) -> Reached:
    """Delete the clips in an export's folder and mark it, then the models made of it.

    Raises:
        MarkError, OSError: the folder is not there or cannot be changed.
    """
    if not folder.is_dir():
        msg = "not found; whoever has it, or models made of it, marks them with `earmark model withdraw`"
        raise MarkError(msg)
    mark(folder, marks_of(gone))  # first, so that nobody trains with half of it
    for one in gone:
        (folder / "audio" / f"{one.case_id}.flac").unlink(missing_ok=True)
    models, missed = [], []
    for model in users_of(folder):
        try:
            if withdraw(model, marks_of(gone)):
                models.append(model)
        except MarkError as error:
            missed.append(str(error))
            logger.warning("a model that rests on what was withdrawn could not be marked: %s", error)
    return Reached((folder,), models, missed)
