"""A review server that lives as long as the demo: an account, an enrolled device, and a folder that is deleted at the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from earmark_edge.uplink import Uplink
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
    uplink: Uplink


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
            token = service.add_device(DEVICE)
            with running(service) as server, Uplink(server.url, token) as uplink:
                yield DemoReview(server.url, USER, password, uplink)
        finally:
            service.close()
