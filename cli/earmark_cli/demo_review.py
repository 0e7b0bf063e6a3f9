"""A review server that lives as long as the demo: an account, a device that enrols with a code, and a folder that is deleted at the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from earmark_edge.consent import Consent
from earmark_edge.consent_records import write_consent
from earmark_edge.courier import Courier
from earmark_edge.enrolling import enrol
from earmark_edge.keys import read_credentials
from earmark_edge.outbox import Parcel
from earmark_edge.settings import DEFAULT_OUTBOX_BYTES
from earmark_edge.spool import SPOOL_FILE, Spool
from earmark_edge.uplink import Uplink
from earmark_model.contract import LABELS
from earmark_review.accounts import Role
from earmark_review.service import open_service
from earmark_review.settings import read_settings
from earmark_review.web.serving import running

USER = "demo"
DEVICE = "demo-device"
CONSENT_ID = "demo-consent"


@dataclass(frozen=True, slots=True)
class DemoReview:
    """A running server: where it is, how to sign in, and the device's way to it."""

    url: str
    user: str
    password: str = field(repr=False)
    courier: Courier
    uplink: Uplink

    def deliver(self, parcel: Parcel) -> str:
        """Seal a parcel, put it into the outbox, and empty that; says why where it was not delivered, else "".

        Raises:
            ConsentError, SpoolError, WireError: it cannot even be put into the outbox.
        """
        self.courier.accept(parcel)
        done = self.courier.deliver(self.uplink)
        waiting = self.courier.spool.counts().events
        return "" if not waiting else done.trouble or "the review server refused it"


@contextmanager
def demo_review(folder: Path) -> Iterator[DemoReview]:
    """Serve on a free port of this machine while the block runs; its data lie in a folder below `folder` and go with it.

    Raises:
        ReviewError: the server cannot start.
        OSError: the folder cannot be made.
    """
    with TemporaryDirectory(prefix="review-", dir=folder) as data:
        service = open_service(read_settings(data=Path(data), host="127.0.0.1", port=0))
        try:
            password = secrets.token_urlsafe(9)
            service.add_user(USER, password, Role.SUPERVISOR)
            code = service.offer_enrolment(DEVICE)
            with running(service) as server, _device(server.url, code, Path(data) / "device") as (courier, uplink):
                yield DemoReview(server.url, USER, password, courier, uplink)
        finally:
            service.close()


@contextmanager
def _device(url: str, code: str, state: Path) -> Iterator[tuple[Courier, Uplink]]:
    """A device that enrols, is given the household's consent, and holds an outbox, all in `state`."""
    enrol(url, code, state)
    credentials = read_credentials(state)
    now = datetime.now(UTC)
    expires = now + timedelta(days=1)
    write_consent(state, credentials.device_key, Consent(CONSENT_ID, (0, 1, 2, 3), False, now.isoformat(), expires.isoformat(), LABELS))
    spool = Spool(state / SPOOL_FILE, DEFAULT_OUTBOX_BYTES)
    try:
        with Uplink(credentials) as uplink:
            yield Courier(state, credentials, spool), uplink
    finally:
        spool.close()
