"""A whole service of a test: its data folder, its clock, and what its operator does."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from argon2 import PasswordHasher
from sqlalchemy import delete, event, insert, select
from tests.review.callers import PASSWORD, Browser, Sender
from tests.review.sendings import IDENTITY, device_key

from earmark_edge.consent import Consent
from earmark_edge.signature import public_of
from earmark_model.contract import LABELS
from earmark_review import audit
from earmark_review.accounts import Role
from earmark_review.identity import IDENTITY_FILE
from earmark_review.service import Service, open_service
from earmark_review.settings import ReviewSettings
from earmark_review.store.database import Database
from earmark_review.store.schema import consents, devices
from earmark_review.store.sessions import SignInRequest
from earmark_review.web.app import create_app

CONSENTED = {
    "tiers": (0, 1, 2, 3),
    "may_train": False,
    "may_slice": True,
    "labels": LABELS,
    "given_at": "2026-01-01T00:00:00+00:00",
    "expires_at": "2027-01-01T00:00:00+00:00",
}


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def write_identity(data: Path) -> None:
    """The tests' keys as those of the service whose data folder this is."""
    folder = data / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = {"sealing_key": IDENTITY.sealing_key, "signing_key": IDENTITY.signing_key}
    (folder / IDENTITY_FILE).write_text(json.dumps({name: base64.b64encode(key).decode() for name, key in words.items()}))
    (folder / IDENTITY_FILE).chmod(0o600)


def enrolled(service: Service, device: str = "kitchen") -> str:
    """The token of a device whose household consented to everything but training."""
    token = service.add_device(device, public_of(device_key(device)))
    consented(service.database, device)
    return token


def consented(database: Database, device: str = "kitchen", consent_id: str = "consent-1", **changes: object) -> None:
    """Keep a record of consent as `device` would have sent it, in place of the one before."""
    given = Consent(consent_id, **{**CONSENTED, **changes})
    with database.writing() as conn:
        device_id = conn.execute(select(devices.c.device_id).where(devices.c.name == device)).scalar_one()
        conn.execute(delete(consents).where(consents.c.device_id == device_id, consents.c.consent_id == consent_id))
        row = {"device_id": device_id, "consent_id": consent_id, "payload": given.to_bytes(), "signature": b"-"}
        conn.execute(insert(consents).values(**row, received_at=datetime.fromisoformat(given.given_at)))


@contextmanager
def full_disk(house: House, spare_pages: int = 0) -> Iterator[None]:
    """While the block runs, the SQLite file may grow by so many pages and no more."""
    engine = house.service.database._engine
    with house.service.database.reading() as conn:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar()

    def narrow(raw, _record):
        raw.execute(f"PRAGMA max_page_count = {pages + spare_pages}")

    engine.dispose()
    event.listen(engine, "connect", narrow)
    yield
    event.remove(engine, "connect", narrow)
    engine.dispose()


class House:
    """A service on a data folder, with its application and whoever uses it."""

    def __init__(self, data: Path, clock: Clock, engine: str = "sqlite", **knobs: object) -> None:
        self.data, self.clock, self.engine, self.knobs = data, clock, engine, knobs
        self.open()

    def open(self) -> None:
        settings = ReviewSettings(data=self.data, **{"second_review_share": 0, "golden_share": 0, **self.knobs})
        write_identity(self.data)
        # Cheap hashes: what is tested here is who gets in, not how long guessing takes.
        hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.service: Service = open_service(settings, now=self.clock, hasher=hasher)
        self.app = create_app(self.service)

    @property
    def environ(self) -> dict[str, str]:
        """Where a command finds the same stores."""
        return {f"EARMARK_REVIEW_{name.upper()}": str(self.knobs[name]) for name in ("database", "keys", "blobs") if name in self.knobs}

    def reopen(self) -> None:
        self.service.close()
        self.open()

    def device(self, name: str = "kitchen") -> Sender:
        return Sender(self.app, enrolled(self.service, name), name)

    def consent(self, device: str = "kitchen", consent_id: str = "consent-1", **changes: object) -> None:
        consented(self.service.database, device, consent_id, **changes)

    def user(self, name: str = "ada", role: Role = Role.REVIEWER) -> Browser:
        self.service.add_user(name, PASSWORD, role)
        return self.browser(name)

    def browser(self, name: str) -> Browser:
        """A browser that is signed in; the page for that has tests of its own."""
        browser = Browser(self.app)
        token = self.service.sign_in.start(SignInRequest(name, PASSWORD, "192.0.2.1"), self.clock())
        browser.client.cookies.set("earmark_session", token, domain="review.test", path="/")
        return browser

    def tamper(self, key: str, content: bytes) -> None:
        """Other bytes in a stored object's place, as whoever has the store could put there."""
        self.service.blobs.remove(key)
        with self.service.blobs.receive(len(content), key) as incoming:
            incoming.write(content)
            incoming.promote(len(content), hashlib.sha256(content).hexdigest())

    def log(self) -> list[audit.Entry]:
        with self.service.database.reading() as conn:
            return audit.read(conn)

    def actions(self) -> list[str]:
        return [entry.action for entry in self.log()]
