"""A small HTTP server that keeps the documented promises of the review service, and on demand breaks them."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from earmark_edge.event import Event, Receipt

TOKEN = "d3vice-token"


class Request(NamedTuple):
    method: str
    path: str
    headers: dict
    body: bytes


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: tuple = ()


def problem(status: int, title: str, detail: str = "", **headers: str) -> Answer:
    body = json.dumps({"type": "about:blank", "status": status, "title": title, "detail": detail}).encode()
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

    def fail(self, *faults: Answer | Callable[[Request], Answer | None]) -> None:
        self.faults += faults

    def answer(self, request: Request) -> Answer | None:
        self.heard.append(request)
        if self.faults:
            fault = self.faults.pop(0)
            return fault if isinstance(fault, Answer) else fault(request)
        return self.work(request)

    def work(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(401, "Unknown device", "the token is not one of ours")
        if (request.method, request.path) == ("POST", "/api/v1/events"):
            return self.take_event(request)
        _, _, _, _, event_id, _, tier = request.path.split("/")
        return self.take_clip(request, event_id, int(tier))

    def take_event(self, request: Request) -> Answer:
        event = Event.from_bytes(request.body)
        held = self.events.setdefault(event.event_id, request.body)
        if held != request.body:
            return problem(409, "Event differs", "another event has this identifier")
        return self.receipt(event.event_id, 201 if len(self.clips.setdefault(event.event_id, {})) == 0 else 200)

    def take_clip(self, request: Request, event_id: str, tier: int) -> Answer:
        (described,) = [clip for clip in Event.from_bytes(self.events[event_id]).clips if clip.tier == tier]
        digest = hashlib.sha256(request.body)
        assert request.headers["Content-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert (described.sha256, described.length) == (digest.hexdigest(), len(request.body))
        assert request.headers["Content-Type"] == described.media_type
        is_new = self.clips[event_id].setdefault(tier, request.body) is request.body
        return self.receipt(event_id, 201 if is_new else 200)

    def receipt(self, event_id: str, status: int) -> Answer:
        body, held = self.events[event_id], self.clips[event_id]
        tiers = [clip.tier for clip in Event.from_bytes(body).clips]
        missing = tuple(tier for tier in tiers if tier not in held)
        receipt = Receipt(event_id, hashlib.sha256(body).hexdigest(), "2026-01-31T12:00:00+00:00", tuple(held), missing)
        return Answer(status, receipt.to_bytes(), (("Content-Type", "application/json"),))


@contextmanager
def serving() -> Iterator[ReviewDouble]:
    double = ReviewDouble()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65_536  # head and body in one segment, or the client waits for a delayed acknowledgement

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

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the names that http.server calls

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
