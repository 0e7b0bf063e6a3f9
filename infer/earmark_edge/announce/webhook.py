"""Posts announcements to an address of the household's, signed as Standard Webhooks lays down (standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from earmark_edge.announce.announcement import Announcement, Pulse
from earmark_edge.announce.destination import DestinationDownError, DestinationRefusedError
from earmark_edge.announce.settings import WebhookSettings
from earmark_edge.oneline import one_line
from earmark_edge.uplink import import_httpx

_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_DONE, _REDIRECTS, _REFUSALS = range(200, 300), range(300, 400), range(400, 500)


def signature_of(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`: HMAC-SHA256 over id, time and body.

    A secret that begins with `whsec_` is the base64 of the key; any other is the key itself, in UTF-8.
    """
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhook:
    """A `Destination`. Redirects are refused: the address that the household set is the only one that is told."""

    name = "webhook"

    def __init__(
        self, settings: WebhookSettings, *, timeout_s: float = 10.0, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.address, self._settings, self._timeout_s, self._now = settings.address, settings, timeout_s, now
        self._client: Any = None

    def open(self) -> None:
        """See `Destination.open`."""
        try:
            httpx = import_httpx()  # a device without a webhook does without
        except ImportError as error:
            msg = f"a webhook needs httpx, which is not installed ({error}); get it with: pip install 'earmark[edge]'"
            raise DestinationDownError(msg) from error
        is_remote = self._settings.url.startswith("https:")
        self._request_error = (httpx.RequestError, httpx.InvalidURL)
        self._client = httpx.Client(timeout=self._timeout_s, follow_redirects=False, trust_env=is_remote)

    def send(self, announcement: Announcement) -> None:
        """See `Destination.send`."""
        body, sent_at = announcement.to_bytes(), str(int(self._now().timestamp()))
        headers = {
            "content-type": "application/json",
            "webhook-id": announcement.announcement_id,
            "webhook-timestamp": sent_at,
            "webhook-signature": signature_of(self._settings.secret, announcement.announcement_id, sent_at, body),
        }
        status = self._status("POST", body, headers)
        if status in _REDIRECTS:
            msg = f"{self.address} answered {status}: a redirect, which is not followed; set the address that it leads to"
            raise DestinationRefusedError(msg)
        if status not in _PASSING and status in _REFUSALS:
            msg = f"{self.address} answered {status}"
            raise DestinationRefusedError(msg)
        if status not in _DONE:
            msg = f"{self.address} answered {status}"
            raise DestinationDownError(msg)

    def pulse(self, pulse: Pulse) -> None:
        """A webhook is told of events alone."""

    def probe(self) -> int:
        """The status that a HEAD gets, which tells of no event.

        Raises:
            DestinationDownError: no answer.
        """
        return self._status("HEAD", b"", {})

    def close(self) -> None:
        """See `Destination.close`."""
        if self._client is not None:
            self._client.close()

    def _status(self, method: str, body: bytes, headers: dict[str, str]) -> int:
        """The answer's status; its body is not read, as nothing in it matters."""
        try:
            with self._client.stream(method, self._settings.url, content=body, headers=headers) as answer:
                status = int(answer.status_code)
        except self._request_error as error:
            msg = f"{self.address}: {one_line(error) or type(error).__name__}"
            raise DestinationDownError(msg) from error
        return status
