"""Speaks to the review service over HTTP, and believes nothing that it does not find signed by it."""

from __future__ import annotations

import base64
import hashlib
import importlib
import ipaddress
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from earmark_edge.bundle_offer import OfferedFile
from earmark_edge.event import Receipt, WireError
from earmark_edge.keys import Credentials
from earmark_edge.messages import Dropped, Heartbeat, Status, read_statuses, tombstone_bytes
from earmark_edge.oneline import one_line
from earmark_edge.seal import WRAPPED_KEY_HEADER
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, SignatureError, check, from_header, header_of, sign
from earmark_edge.spool import SpooledEvent, SpooledObject
from earmark_edge.wire import canonical_json

_DONE = {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Refusals that may be otherwise in a moment; so may every failure of the service itself (5xx)."""
_UNCONSENTED = "urn:earmark:problem:consent-required"
"""The type of the problem with which a service refuses what no record of consent covers."""
CONSENT_REQUIRED = "consent required"
"""How the text of an `UnconsentedError` begins."""
_UNREACHED = {
    "refused": "nothing listens there: is the service running, and are host and port right?",
    "Name or service not known": "no such host is known: is the address spelt right, and is this machine online?",
    "name resolution": "names cannot be looked up: is this machine online?",
    "unreachable": "is this machine online, and in the same network as the service?",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted: is the clock right? SSL_CERT_FILE names an authority of your own",
    "WRONG_VERSION_NUMBER": "it does not speak TLS there: is the port right?",
    "Timeout": "no answer in time: is the service running, and does a firewall stand between?",
}
"""What a failure to connect says of itself (by text or by kind), and what to look at."""
_MOST_ANSWER_BYTES = 4 * 2**20
_MOST_PROBLEM_BYTES = 64 * 2**10


class UplinkError(RuntimeError):
    """Something was refused, or what came back proves nothing; the message says why."""


class EventGoneError(UplinkError):
    """The service proved, by its signature, that it deleted this event."""


class UnconsentedError(UplinkError):
    """The service has no record of consent that covers what it was sent."""


class UplinkDownError(UplinkError):
    """The service cannot be reached, is failing, or does not know this device: everything else would fare the same."""


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
        msg = f"{one_line(url)!r}: expected the address of a review service, such as https://review.example.org"
        raise AddressError(msg)
    if parts.scheme == "http" and not is_loopback(host):
        msg = f"{one_line(url)}: plain http would carry audio over the network in the clear; use https"
        raise AddressError(msg)
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt whose signature was checked, with the bytes that it covers."""

    receipt: Receipt
    raw: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    signature: str | None


class Uplink:
    """A connection to the service that the device is enrolled with.

    Raises:
        AddressError: see `checked_address`.
        UplinkError: the HTTP client is not installed.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        timeout_s: float = 30.0,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._credentials, enrolment = credentials, credentials.enrolment
        self._url = checked_address(enrolment.url)
        try:
            httpx = import_httpx()  # a device that only scans does without
        except ImportError as error:
            msg = f"sending needs httpx, which is not installed ({error}); get it with: pip install 'earmark[edge]'"
            raise UplinkError(msg) from error
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            msg = f"{one_line(self._url)}: not an address ({one_line(error)})"
            raise AddressError(msg) from error
        self._request_error = httpx.RequestError
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {enrolment.token}", "Accept": "application/json, application/problem+json"},
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

    def announce(self, event: SpooledEvent) -> SignedReceipt:
        """Send an event's metadata.

        Raises:
            EventGoneError: the service deleted it.
            UplinkError: it was refused, or what came back is no receipt for it.
            UplinkDownError: no answer worth the name after all attempts, or the device is not known.
        """
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: header_of(event.signature)}
        return self._receipt(event, self._request("POST", "events", event.payload, headers, event.event_id))

    def upload(self, event: SpooledEvent, sealed: SpooledObject) -> SignedReceipt:
        """Send a sealed object of an event that was announced.

        Raises:
            EventGoneError, UplinkError, UplinkDownError: as for `announce`.
        """
        digest, wrapped = (base64.b64encode(value).decode() for value in (hashlib.sha256(sealed.ciphertext).digest(), sealed.wrapped))
        headers = {"Content-Type": "application/octet-stream", "Content-Digest": f"sha-256=:{digest}:", WRAPPED_KEY_HEADER: f":{wrapped}:"}
        target = f"events/{quote(event.event_id, safe='')}/clips/{sealed.tier}"
        return self._receipt(event, self._request("PUT", target, sealed.ciphertext, headers, event.event_id))

    def drop(self, event: SpooledEvent, tiers: tuple[int, ...]) -> SignedReceipt:
        """Say that objects of an event will never come.

        Raises:
            EventGoneError, UplinkError, UplinkDownError: as for `announce`.
        """
        payload = Dropped(event.event_id, hashlib.sha256(event.payload).hexdigest(), tiers).to_bytes()
        target = f"events/{quote(event.event_id, safe='')}/dropped"
        return self._receipt(event, self._signed("POST", target, Purpose.DROPPED, payload, event.event_id))

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Say that the device lives.

        Raises:
            UplinkError, UplinkDownError: as for `announce`.
        """
        self._signed("POST", "heartbeat", Purpose.HEARTBEAT, heartbeat.to_bytes())

    def send_consent(self, payload: bytes) -> None:
        """Send the record under which everything else is sent.

        Raises:
            UplinkError, UplinkDownError: as for `announce`.
        """
        self._signed("PUT", "consent", Purpose.CONSENT, payload)

    def policy(self) -> tuple[bytes, bytes] | None:
        """The policy in force and its signature, which was checked; None where the service has none.

        Raises:
            UplinkError, UplinkDownError: as for `announce`.
        """
        return self._document("policy", Purpose.POLICY)

    def bundle_offer(self) -> tuple[bytes, bytes] | None:
        """The bundle that this device is offered and the signature on it, which was checked; None where there is none.

        Raises:
            UplinkError, UplinkDownError: as for `announce`.
        """
        return self._document("bundle", Purpose.BUNDLE)

    def bundle_file(self, version: int, file: OfferedFile) -> bytes:
        """A file of an offered bundle, never more than its length; whoever asks compares its hash.

        Raises:
            UplinkError, UplinkDownError: as for `announce`.
        """
        return self._request("GET", f"bundles/{version}/{quote(file.name, safe='')}", b"", {}, most_bytes=file.length).body

    def statuses(self, event_ids: list[str]) -> list[Status]:
        """What became of at most 200 events.

        Raises:
            UplinkError, UplinkDownError: as for `announce`.
        """
        answer = self._request("POST", "statuses", canonical_json({"event_ids": event_ids}), {"Content-Type": "application/json"})
        self._checked(answer, Purpose.STATUSES)
        try:
            return read_statuses(answer.body, self._credentials.device_id)
        except WireError as error:
            msg = f"what became of the events: {one_line(error)}; is {self._url} a review service of this version?"
            raise UplinkError(msg) from error

    def _signed(self, method: str, target: str, purpose: Purpose, payload: bytes, event_id: str = "") -> _Answer:
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: header_of(sign(self._credentials.device_key, purpose, payload))}
        return self._request(method, target, payload, headers, event_id)

    def _document(self, path: str, purpose: Purpose) -> tuple[bytes, bytes] | None:
        """A document that the service signed, and the signature, which was checked; None where it has none for this device."""
        answer = self._request("GET", path, b"", {})
        return None if answer.status == HTTPStatus.NO_CONTENT else (answer.body, self._checked(answer, purpose))

    def _checked(self, answer: _Answer, purpose: Purpose) -> bytes:
        """The service's signature on its answer."""
        try:
            signature = from_header(answer.signature)
            check(self._credentials.enrolment.signing_key, purpose, answer.body, signature)
        except SignatureError as error:
            msg = f"the answer is not signed by the service that this device enrolled with ({error}); is {self._url} still the same one?"
            raise UplinkError(msg) from error
        return signature

    def _request(
        self, method: str, target: str, body: bytes, headers: dict[str, str], event_id: str = "", most_bytes: int = _MOST_ANSWER_BYTES
    ) -> _Answer:
        """A 2xx answer of at most `most_bytes`, after as many attempts as it takes and the backoff allows."""
        address = f"{self._url}/api/v1/{target}"
        failures = 0
        while True:
            asked_s = None
            try:
                with self._client.stream(method, address, content=body, headers=headers) as answer:
                    content = _read_capped(answer, max(most_bytes, _MOST_PROBLEM_BYTES))
            except self._request_error as error:
                cause = f"{method} {address}: {unreached(error)}"
            else:
                if answer.status_code in _DONE:
                    if len(content) > most_bytes:
                        msg = f"{method} {address}: an answer of more than {most_bytes} bytes; is it a review service of this version?"
                        raise UplinkError(msg)
                    return _Answer(answer.status_code, content, answer.headers.get(SIGNATURE_HEADER))
                cause = f"{method} {address}: {told(answer.status_code, content)}"
                self._raise_refusal(answer.status_code, content, answer.headers.get(SIGNATURE_HEADER), event_id, cause)
                asked_s = _retry_after_s(answer.headers.get("Retry-After"), self._now())
            failures += 1
            if failures >= self._backoff.attempts:
                msg = f"{cause} (given up after {failures} attempts)"
                raise UplinkDownError(msg)
            self._sleep(self._backoff.wait_s(failures, self._rng, asked_s))

    def _raise_refusal(self, status: int, content: bytes, signature: str | None, event_id: str, cause: str) -> None:
        """Raise where asking again would change nothing; a failure that may pass returns."""
        if status == HTTPStatus.UNAUTHORIZED:
            raise UplinkDownError(cause)
        if status == HTTPStatus.GONE and self._is_tombstone(event_id, signature):
            raise EventGoneError(cause)
        if status == HTTPStatus.FORBIDDEN and _problem(content).get("type") == _UNCONSENTED:
            msg = f"{CONSENT_REQUIRED}: {cause}"
            raise UnconsentedError(msg)
        if status not in _PASSING and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UplinkError(cause)

    def _is_tombstone(self, event_id: str, field: str | None) -> bool:
        try:
            words = tombstone_bytes(self._credentials.device_id, event_id)
            check(self._credentials.enrolment.signing_key, Purpose.TOMBSTONE, words, from_header(field))
        except SignatureError:
            return False
        return True

    def _receipt(self, event: SpooledEvent, answer: _Answer) -> SignedReceipt:
        """The answer as a receipt, by the service, for this very event of this very device."""
        try:
            receipt = Receipt.from_bytes(answer.body)
        except WireError as error:
            msg = f"event {event.event_id}: the answer is no receipt ({one_line(error)}); is {self._url} a review service?"
            raise UplinkError(msg) from error
        signature = self._checked(answer, Purpose.RECEIPT)
        expected = (event.event_id, hashlib.sha256(event.payload).hexdigest(), self._credentials.device_id)
        if (receipt.event_id, receipt.event_sha256, receipt.device_id) != expected:
            msg = f"event {event.event_id}: the receipt is for another event ({one_line(receipt.event_id)}) or device"
            raise UplinkError(msg)
        return SignedReceipt(receipt, answer.body, signature)


def import_httpx() -> ModuleType:
    """The HTTP client without its command line, which it leaves out where click is missing: 6 MB that a listening device never uses.

    Raises:
        ImportError: it is not installed.
    """
    is_hidden = "click" not in sys.modules
    if is_hidden:
        sys.modules["click"] = None  # type: ignore[assignment]  # what makes `import click` fail, as documented
    try:
        return importlib.import_module("httpx")
    finally:
        if is_hidden:
            del sys.modules["click"]


def _read_capped(answer: Any, most_bytes: int) -> bytes:
    """The body, or a little more than `most_bytes` of it: a service that never ends its answer fills no memory."""
    body = bytearray()
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > most_bytes:
            break
    return bytes(body)


def is_loopback(host: str) -> bool:
    """Whether the host is this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unreached(error: Exception) -> str:
    """Why there was no answer, and what to look at."""
    said = one_line(error) or type(error).__name__
    found = next((advice for sign, advice in _UNREACHED.items() if sign in f"{said} {type(error).__name__}"), "")
    return f"{said}; {found}" if found else said


def told(status: int, body: bytes) -> str:
    """The status and, of a problem document (RFC 9457), its title and detail."""
    problem = _problem(body)
    words = [problem.get(name) for name in ("title", "detail")]
    said = ": ".join(one_line(word) for word in words if isinstance(word, str) and word)
    return f"answered {status}" + (f", {said}" if said else "")


def _problem(body: bytes) -> dict[str, Any]:
    """A problem document; nothing where the body is none."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


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
