"""A small HTTP server that keeps the documented promises of the review service, and on demand breaks them."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from earmark_edge.consent import Consent
from earmark_edge.event import Event, Receipt
from earmark_edge.messages import Dropped, Heartbeat, tombstone_bytes
from earmark_edge.seal import SealedObject, open_object, seal_context
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, check, from_header, header_of, key_id, sign

TOKEN = "d3vice-token"
SEALING_KEY, SIGNING_KEY = hashlib.sha256(b"sealing").digest(), hashlib.sha256(b"signing").digest()
"""The service's private keys."""


def public_x25519(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def signed(purpose: Purpose, body: bytes, status: int = 200) -> "Answer":
    signature = header_of(sign(SIGNING_KEY, purpose, body))
    return Answer(status, body, (("Content-Type", "application/json"), (SIGNATURE_HEADER, signature)))


class Request(NamedTuple):
    method: str
    path: str
    headers: dict
    body: bytes


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: tuple = ()


def problem(status: int, title: str, detail: str = "", kind: str = "about:blank", **headers: str) -> Answer:
    body = json.dumps({"type": kind, "status": status, "title": title, "detail": detail}).encode()
    return Answer(status, body, (("Content-Type", "application/problem+json"), *headers.items()))


def dropped(_: Request) -> None:
    """Close the connection without an answer."""


@dataclass
class ReviewDouble:
    """`faults` answer the next requests, one each; after them the service works. Requests are kept in `heard`."""

    url: str = ""
    faults: list = field(default_factory=list)
    heard: list = field(default_factory=list)
    events: dict = field(default_factory=dict)
    clips: dict = field(default_factory=dict)
    wrapped: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)
    deleted: set = field(default_factory=set)
    consents: list = field(default_factory=list)
    heartbeats: list = field(default_factory=list)
    policy: bytes | None = None
    slow: threading.Event = field(default_factory=threading.Event)
    device: bytes = b""
    """The public key of the one device that is enrolled."""

    def opened(self, event_id: str, tier: int) -> bytes:
        """What lies in a sealed object."""
        event = Event.from_bytes(self.events[event_id])
        (clip,) = [clip for clip in event.clips if clip.tier == tier]
        sealed = SealedObject(self.clips[event_id][tier], self.wrapped[event_id, tier])
        return open_object(sealed, SEALING_KEY, seal_context(event, tier, clip.media_type, key_id(self.device)))

    def paths(self) -> list[str]:
        """What was asked of it, beside consent."""
        return [f"{request.method} {request.path}" for request in self.heard if not request.path.endswith("/consent")]

    def gone(self, event_id: str) -> Answer:
        signature = sign(SIGNING_KEY, Purpose.TOMBSTONE, tombstone_bytes(key_id(self.device), event_id))
        return problem(410, "Gone", **{SIGNATURE_HEADER: header_of(signature)})

    def fail(self, *faults: Answer | Callable[[Request], Answer | None]) -> None:
        self.faults += faults

    def answer(self, request: Request) -> Answer | None:
        self.heard.append(request)
        if self.faults and not request.path.endswith("/consent"):
            fault = self.faults.pop(0)
            return fault if isinstance(fault, Answer) else fault(request)
        return self.work(request)

    def work(self, request: Request) -> Answer:  # noqa: PLR0911 - one for each address
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(401, "Unknown device", "the token is not one of ours")
        target = (request.method, request.path.removeprefix("/api/v1/"))
        if target == ("PUT", "consent"):
            check(self.device, Purpose.CONSENT, request.body, from_header(request.headers[SIGNATURE_HEADER]))
            self.consents.append(Consent.from_bytes(request.body))
            return Answer(204)
        if target == ("POST", "heartbeat"):
            check(self.device, Purpose.HEARTBEAT, request.body, from_header(request.headers[SIGNATURE_HEADER]))
            self.heartbeats.append(Heartbeat.from_bytes(request.body))
            return Answer(204)
        if target == ("GET", "policy"):
            return Answer(204) if self.policy is None else signed(Purpose.POLICY, self.policy)
        if target == ("POST", "events"):
            return self.take_event(request)
        event_id = request.path.split("/")[4]
        if event_id in self.deleted:
            return self.gone(event_id)
        if request.path.endswith("/dropped"):
            return self.take_dropped(request, event_id)
        return self.take_clip(request, event_id, int(request.path.rpartition("/")[2]))

    def take_event(self, request: Request) -> Answer:
        event = Event.from_bytes(request.body)
        check(self.device, Purpose.EVENT, request.body, from_header(request.headers[SIGNATURE_HEADER]))
        if event.event_id in self.deleted:
            return self.gone(event.event_id)
        held = self.events.setdefault(event.event_id, request.body)
        if held != request.body:
            return problem(409, "Event differs", "another event has this identifier")
        return self.receipt(event.event_id, 201 if len(self.clips.setdefault(event.event_id, {})) == 0 else 200)

    def take_dropped(self, request: Request, event_id: str) -> Answer:
        check(self.device, Purpose.DROPPED, request.body, from_header(request.headers[SIGNATURE_HEADER]))
        self.dropped[event_id] = Dropped.from_bytes(request.body).tiers
        return self.receipt(event_id, 200)

    def take_clip(self, request: Request, event_id: str, tier: int) -> Answer:
        (described,) = [clip for clip in Event.from_bytes(self.events[event_id]).clips if clip.tier == tier]
        digest = hashlib.sha256(request.body)
        assert request.headers["Content-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert (described.sha256, described.length) == (digest.hexdigest(), len(request.body))
        wrapped = base64.b64decode(request.headers["Earmark-Wrapped-Key"].strip(":"), validate=True)
        assert described.wrapped_sha256 == hashlib.sha256(wrapped).hexdigest()
        self.wrapped[event_id, tier] = wrapped
        is_new = self.clips[event_id].setdefault(tier, request.body) is request.body
        return self.receipt(event_id, 201 if is_new else 200)

    def receipt(self, event_id: str, status: int) -> Answer:
        body, held, dropped = self.events[event_id], self.clips[event_id], self.dropped.get(event_id, ())
        tiers = [clip.tier for clip in Event.from_bytes(body).clips]
        missing = tuple(tier for tier in tiers if tier not in {*held, *dropped})
        words = (event_id, hashlib.sha256(body).hexdigest(), "2026-01-31T12:00:00+00:00", tuple(held), missing, tuple(dropped))
        return signed(Purpose.RECEIPT, Receipt(*words, key_id(self.device)).to_bytes(), status)


@contextmanager
def serving() -> Iterator[ReviewDouble]:
    double = ReviewDouble()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65_536  # head and body in one segment, or the client waits for a delayed acknowledgement

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that had enough of it
                super().handle()

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = double.answer(Request(self.command, self.path, dict(self.headers), body))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
