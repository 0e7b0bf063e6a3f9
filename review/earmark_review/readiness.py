"""Whether the service can do its work now: each thing that it needs is tried, and what does not answer is named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Lock

from sqlalchemy.exc import SQLAlchemyError

from earmark_review import audit
from earmark_review.blobs import try_store
from earmark_review.errors import DatabaseError, ReviewError
from earmark_review.service import Service
from earmark_review.store.database import newest_revision

logger = logging.getLogger(__name__)
_FRESH_S = 2.0
"""An answer is given for so long before all is tried anew: whoever asks in a loop keeps no disk busy."""
_TURN_S = 10.0


class Readiness:
    """What `GET /readyz` says. Any thread may ask; one at a time tries."""

    def __init__(self, service: Service) -> None:
        self._tries: Mapping[str, Callable[[], None]] = {
            "database": lambda: _try_database(service),
            "schema": lambda: _try_schema(service),
            "log": lambda: _try_log(service),
            "keys": service.keys.try_keeping,
            "clips": lambda: try_store(service.blobs),
        }
        self._turn, self._last, self._tried_s = Lock(), dict.fromkeys(self._tries, False), -_FRESH_S

    def ask(self) -> dict[str, bool]:
        """Each thing by name, and whether it does what the service needs; none of them where one hangs that is being tried."""
        if not self._turn.acquire(timeout=_TURN_S):
            return dict.fromkeys(self._tries, False)
        try:
            if time.monotonic() - self._tried_s >= _FRESH_S:
                self._last = {name: _does(name, attempt) for name, attempt in self._tries.items()}
                self._tried_s = time.monotonic()
            return self._last
        finally:
            self._turn.release()


def _does(name: str, attempt: Callable[[], None]) -> bool:
    """The cause goes to the log alone: whoever asks from outside learns no address and no version."""
    try:
        attempt()
    except (ReviewError, SQLAlchemyError, OSError) as error:
        logger.warning("not ready: %s: %s", name, error)
        return False
    return True


def _try_database(service: Service) -> None:
    with service.database.reading() as conn:
        conn.exec_driver_sql("SELECT 1")


def _try_schema(service: Service) -> None:
    found, expected = service.database.revision(), newest_revision()
    if found != expected:
        msg = f"the schema is {found}, this version works with {expected}; restart the service, or update it"
        raise DatabaseError(msg)


def _try_log(service: Service) -> None:
    with service.database.writing() as conn:
        audit.require_working(conn, service.now())
