"""A home for benchmarks of the device: a review service that really runs, and a device enrolled with it whose household consents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from earmark_edge.consent import Consent
from earmark_edge.consent_records import write_consent
from earmark_edge.enrolling import enrol
from earmark_edge.keys import read_credentials
from earmark_model.contract import LABELS
from earmark_review.service import Service, open_service
from earmark_review.settings import read_settings
from earmark_review.web.serving import running

CONSENT_ID = "the-bench-household"


@dataclass(frozen=True, slots=True)
class Home:
    """The device's state folder, and the service with its address."""

    state: Path
    service: Service
    url: str


@contextmanager
def home(folder: Path) -> Iterator[Home]:
    """Serve on a free port of this machine while the block runs, from `folder`, where the device's state lies too."""
    data, state = folder / "service", folder / "device"
    data.mkdir()
    service = open_service(read_settings(data=data, host="127.0.0.1", port=0))
    try:
        with running(service) as server:
            enrol_device(server.url, service, "bench", state)
            yield Home(state, service, server.url)
    finally:
        service.close()


def enrol_device(url: str, service: Service, name: str, state: Path) -> None:
    """Enrol a device whose state lies in a folder and whose household consents to every tier and sound."""
    enrol(url, service.offer_enrolment(name), state)
    given = service.now()
    until = (given + timedelta(days=30)).isoformat()
    record = Consent(CONSENT_ID, (0, 1, 2, 3), may_train=False, given_at=given.isoformat(), expires_at=until, labels=LABELS)
    write_consent(state, read_credentials(state).device_key, record)
