"""Delivers parcels to the review service over HTTP, and believes nothing was delivered without its receipt."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from earmark_edge.event import Receipt, WireError
from earmark_edge.oneline import one_line
from earmark_edge.outbox import Parcel

_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Refusals that may be otherwise in a moment; so may every failure of the service itself (5xx)."""


class UplinkError(RuntimeError):
    """A parcel was not delivered; the message says why."""


class UplinkDownError(UplinkError):
    """The service cannot be reached, is failing, or does not know this device: other parcels would fare the same."""


class AddressError(ValueError):
    """The service's address cannot be used."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between `attempts` at one request: full jitter (Brooker, 2015) up to `first_s` doubled each time, never above `most_s`."""

    attempts: int = 5
    first_s: float = 0.5
    most_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.first_s <= self.most_s:
            msg = f"a backoff needs at least one attempt and 0 < first_s <= most_s, got {self}"
            raise ValueError(msg)

    def wait_s(self, failures: int, rng: random.Random, asked_s: float | None) -> float:
        """Seconds to wait after so many failures; what the service asked for counts, up to `most_s`."""
        if asked_s is not None:
            return min(max(0.0, asked_s), self.most_s)
        return rng.uniform(0, min(self.most_s, self.first_s * 2 ** (failures - 1)))


def checked_address(url: str) -> str:
    """`url` without a trailing slash, if audio may be sent there: https, or plain http on this machine alone.

    Raises:
        AddressError: not the address of a service, or audio would cross a network in the clear.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        msg = f"{one_line(url)}: not an address ({error})"
        raise AddressError(msg) from error
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.query or parts.fragment:
        msg = f"{one_line(url)}: expected the address of a review service, such as https://review.example.org"
        raise AddressError(msg)
    if parts.scheme == "http" and not _is_loopback(host):
        msg = f"{one_line(url)}: plain http would carry audio over the network in the clear; use https"
        raise AddressError(msg)
    return url.rstrip("/")


class Uplink:
    """A connection to the review service at `url`, authenticated by the device's `token`.

    Raises:
        AddressError: see `checked_address`.
        UplinkError: the HTTP client is not installed.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = checked_address(url)
        try:
            import httpx  # noqa: PLC0415 - a device that only scans does without
        except ImportError as error:
            msg = f"sending needs httpx, which is not installed ({error}); get it with: pip install 'earmark[edge]'"
            raise UplinkError(msg) from error
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            msg = f"{one_line(url)}: not an address ({one_line(error)})"
            raise AddressError(msg) from error
        self._request_error = httpx.RequestError
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json, application/problem+json"},
            timeout=timeout_s,
            trust_env=not self._url.startswith("http:"),  # a proxy would carry what is meant for this machine off it
        )
        self._backoff, self._sleep, self._rng, self._now = backoff or Backoff(), sleep, rng or random.Random(), now  # noqa: S311 - dice for waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def deliver(self, parcel: Parcel) -> Receipt:
        """Send the event, then every object that the service does not hold yet; returns its last receipt.

        Raises:
            UplinkError: it was refused, or what came back is no receipt for it.
            UplinkDownError: no answer worth the name after all attempts, or the device is not known.
        """
        payload = parcel.event.to_bytes()
        address = f"{self._url}/api/v1/events"
        receipt = self._receipt(parcel, self._request("POST", address, payload, {"Content-Type": "application/json"}))
        for clip in parcel.event.clips:
            if clip.tier not in receipt.tiers_missing:
                continue
            body = parcel.payloads[clip.tier]
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            headers = {"Content-Type": clip.media_type, "Content-Digest": f"sha-256=:{digest}:"}  # RFC 9530
            target = f"{address}/{quote(parcel.event.event_id, safe='')}/clips/{clip.tier}"
            receipt = self._receipt(parcel, self._request("PUT", target, body, headers))
        if receipt.tiers_missing:
            msg = f"event {parcel.event.event_id}: the service still misses tiers {list(receipt.tiers_missing)} after all were sent"
            raise UplinkError(msg)
        return receipt

    def _request(self, method: str, address: str, body: bytes, headers: dict[str, str]) -> bytes:
        """The body of a 200 or 201 answer, after as many attempts as it takes and the backoff allows."""
        failures = 0
        while True:
            asked_s = None
            try:
                answer = self._client.request(method, address, content=body, headers=headers)
            except self._request_error as error:
                cause = f"{method} {address}: {one_line(error) or type(error).__name__}"
            else:
                if answer.status_code in {HTTPStatus.OK, HTTPStatus.CREATED}:
                    return bytes(answer.content)
                cause = f"{method} {address}: {_told(answer.status_code, answer.content)}"
                if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                    raise UplinkDownError(cause)
                if answer.status_code not in _PASSING and answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise UplinkError(cause)
                asked_s = _retry_after_s(answer.headers.get("Retry-After"), self._now())
            failures += 1
            if failures >= self._backoff.attempts:
                msg = f"{cause} (given up after {failures} attempts)"
                raise UplinkDownError(msg)
            self._sleep(self._backoff.wait_s(failures, self._rng, asked_s))

    def _receipt(self, parcel: Parcel, answer: bytes) -> Receipt:
        """The answer as a receipt for this very event."""
        try:
            receipt = Receipt.from_bytes(answer)
        except WireError as error:
            msg = f"event {parcel.event.event_id}: the answer is no receipt ({one_line(error)}); is {self._url} a review service?"
            raise UplinkError(msg) from error
        expected = hashlib.sha256(parcel.event.to_bytes()).hexdigest()
        if (receipt.event_id, receipt.event_sha256) != (parcel.event.event_id, expected):
            msg = f"event {parcel.event.event_id}: the receipt is for another event ({one_line(receipt.event_id)})"
            raise UplinkError(msg)
        return receipt


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _told(status: int, body: bytes) -> str:
    """The status and, of a problem document (RFC 9457), its title and detail."""
    try:
        problem: Any = json.loads(body)
    except (ValueError, RecursionError):
        problem = None
    words = [problem.get(name) for name in ("title", "detail")] if isinstance(problem, dict) else []
    said = ": ".join(one_line(word) for word in words if isinstance(word, str) and word)
    return f"answered {status}" + (f", {said}" if said else "")


def _retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or a date (RFC 9110, section 10.2.3)."""
    if header is None:
        return None
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
