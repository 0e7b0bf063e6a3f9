"""What was exported and of whose: so that a withdrawal, an erasure or a deletion finds every manifest that it concerns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, insert, select, update

from earmark_edge.consent import Consent
from earmark_review.identity import ServiceIdentity
from earmark_review.keyed_names import consent_name
from earmark_review.store.schema import cases, consents, export_rows, exports


@dataclass(frozen=True, slots=True)
class Gone:
    """A row of an export that may no longer be used, since when, and why."""

    case_id: str
    consent: str
    at: datetime
    why: str


def record_export(conn: Connection, folder: Path, rows: Mapping[str, str], now: datetime) -> None:
    """Keep which cases an export holds, each with the name of the record of consent that its sound came under, "" without sound."""
    made = insert(exports).values(folder=str(folder.resolve()), made_at=now).returning(exports.c.export_id)
    export_id = int(conn.execute(made).scalar_one())
    if rows:
        conn.execute(insert(export_rows), [{"export_id": export_id, "case_id": case_id, "consent": name} for case_id, name in rows.items()])


def mark_withdrawn(conn: Connection, identity: ServiceIdentity, now: datetime) -> None:
    """Mark the exported rows of records of consent that no longer let anything be trained with.

    One that merely expired stood when the export was made, and what was made of it then stays.
    """
    ended = [
        consent_name(identity, row.device_id, row.consent_id)
        for row in conn.execute(select(consents.c.device_id, consents.c.consent_id, consents.c.payload))
        if _is_ended(Consent.from_bytes(row.payload))
    ]
    for name in ended:
        _mark(conn, export_rows.c.consent == name, "consent withdrawn", now)


def _is_ended(consent: Consent) -> bool:
    return bool(consent.withdrawn_at) or not consent.may_train


def mark_deleted(conn: Connection, event_row: int, now: datetime) -> None:
    """Mark the exported rows of an event that is about to be deleted."""
    _mark(conn, export_rows.c.case_id.in_(select(cases.c.case_id).where(cases.c.event_row == event_row)), "deleted", now)


def _mark(conn: Connection, which: ColumnElement[bool], why: str, now: datetime) -> None:
    conn.execute(update(export_rows).where(which, export_rows.c.gone_at.is_(None)).values(gone_at=now, why=why))


def gone_by_export(conn: Connection) -> Mapping[int, tuple[Path, Sequence[Gone]]]:
    """Of each export that is concerned and whose folder was not brought up to date yet: the folder, and all that is gone."""
    open_ones = select(export_rows.c.export_id).where(export_rows.c.gone_at.is_not(None), export_rows.c.told_at.is_(None))
    query = (
        select(
            exports.c.export_id, exports.c.folder, export_rows.c.case_id, export_rows.c.consent, export_rows.c.gone_at, export_rows.c.why
        )
        .join(export_rows, export_rows.c.export_id == exports.c.export_id)
        .where(exports.c.export_id.in_(open_ones), export_rows.c.gone_at.is_not(None))
    )
    folders: dict[int, Path] = {}
    gone: defaultdict[int, list[Gone]] = defaultdict(list)
    for row in conn.execute(query.order_by(exports.c.export_id)):
        folders[row.export_id] = Path(row.folder)
        gone[row.export_id].append(Gone(row.case_id, row.consent, row.gone_at, row.why))
    return {export_id: (folder, gone[export_id]) for export_id, folder in folders.items()}


def all_gone(conn: Connection) -> Sequence[Gone]:
    """Everything that was ever exported and may no longer be used."""
    query = select(export_rows.c.case_id, export_rows.c.consent, export_rows.c.gone_at, export_rows.c.why)
    return [Gone(*row) for row in conn.execute(query.where(export_rows.c.gone_at.is_not(None)).order_by(export_rows.c.gone_at))]


def mark_told(conn: Connection, export_id: int, case_ids: Collection[str], now: datetime) -> None:
    """Note that an export's folder now says what is gone."""
    told = (export_rows.c.export_id == export_id, export_rows.c.case_id.in_(list(case_ids)))
    conn.execute(update(export_rows).where(*told).values(told_at=now))
