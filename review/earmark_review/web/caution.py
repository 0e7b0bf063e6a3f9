"""Whether every page has to warn of thresholds without a guarantee: looked through once, then only what came since is asked about."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from earmark_model.contract import Reason
from earmark_review.store.caseload import runs_unverified
from earmark_review.store.schema import events

_LOOKED_FOR = timedelta(minutes=1)
"""What else could call for the warning, such as a golden case that is opened anew, is found within this."""


class Caution:
    """Looking through every open case costs more than most pages do, and where nothing was unverified only a new event can be."""

    def __init__(self) -> None:
        self._looked_at: datetime | None = None
        self._clear_to = 0

    def is_due(self, conn: Connection, now: datetime) -> bool:
        """Whether some live device, or an open case, runs without a guarantee."""
        newest = conn.execute(select(func.max(events.c.event_row))).scalar() or 0
        if not self._is_clear(conn, now):
            if runs_unverified(conn):
                return True
            self._looked_at = now
        self._clear_to = newest
        return False

    def _is_clear(self, conn: Connection, now: datetime) -> bool:
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at < _LOOKED_FOR:
            return False
        is_new = (events.c.event_row > self._clear_to, events.c.reason == str(Reason.ROUTED_UNVERIFIED))
        return conn.execute(select(events.c.event_row).where(*is_new).limit(1)).first() is None
