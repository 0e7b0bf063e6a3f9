"""Whoever calls the service of a test, in its own process: devices at the wire, people at the pages."""

from __future__ import annotations

import asyncio
import re

import httpx
from fastapi import FastAPI
from tests.review.sendings import Sending, digest_field, signature_field, wrapped_field

from earmark_edge.consent import Consent
from earmark_edge.event import Receipt
from earmark_edge.messages import Heartbeat
from earmark_edge.signature import Purpose
from earmark_review.tokens import csrf_token

BASE_URL = "http://review.test"
PASSWORD = "long enough for a test"
LOOP = asyncio.new_event_loop()
"""Where every application of the tests runs, on a thread of its own: a loop for each request would cost more than most requests."""


class InProcess(httpx.BaseTransport):
    """Answers requests from the application itself."""

    def __init__(self, app: FastAPI, address: str) -> None:
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 50_000))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._answer(request), LOOP).result()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._asgi.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


def client_of(app: FastAPI, address: str = "192.0.2.1", **headers: str) -> httpx.Client:
    return httpx.Client(transport=InProcess(app, address), base_url=BASE_URL, headers=headers)


IN_ORDER = {
    "sent_at": "2026-03-01T20:00:00+00:00",
    "boot_id": "boot-1",
    **dict.fromkeys(("next_seq", "waiting_events", "waiting_bytes", "dropped_objects", "set_aside", "policy_version"), 0),
    "is_muted": False,
    "canary": "passed",
    "config_sha256": "b" * 64,
    "model_sha256": "a" * 64,
    "consent_id": "consent-1",
}
"""What a device with nothing to complain of says."""


class Sender:
    """A device at the wire."""

    def __init__(self, app: FastAPI, token: str, name: str = "kitchen") -> None:
        self.client, self.token, self.name = client_of(app, authorization=f"Bearer {token}"), token, name

    def post(self, payload: bytes, **headers: str) -> httpx.Response:
        given = {"content-type": "application/json", **signature_field(payload, device=self.name)}
        return self.client.post("/api/v1/events", content=payload, headers=given | headers)

    def put(self, event_id: str, tier: int, payload: bytes, **headers: str) -> httpx.Response:
        given = {"content-digest": digest_field(payload), "content-type": "application/octet-stream", **wrapped_field(payload)}
        return self.client.put(f"/api/v1/events/{event_id}/clips/{tier}", content=payload, headers=given | headers)

    def beat(self, **changes: object) -> None:
        """A heartbeat of a device in order, but for the changes."""
        payload = Heartbeat(**{**IN_ORDER, **changes}).to_bytes()
        given = {"content-type": "application/json", **signature_field(payload, Purpose.HEARTBEAT, self.name)}
        answer = self.client.post("/api/v1/heartbeat", content=payload, headers=given)
        assert answer.status_code == 204, answer.text

    def give_consent(self, consent: Consent) -> httpx.Response:
        payload = consent.to_bytes()
        return self.client.put("/api/v1/consent", content=payload, headers=signature_field(payload, Purpose.CONSENT, self.name))

    def send(self, one: Sending) -> Receipt:
        answers = [self.post(one.payload)]
        answers += [self.put(one.event.event_id, tier, payload) for tier, payload in one.objects.items()]
        assert all(answer.status_code == 201 for answer in answers), [answer.text for answer in answers]
        return Receipt.from_bytes(answers[-1].content)


class Browser:
    """A reviewer at the pages, with cookies and the forms that the pages gave."""

    def __init__(self, app: FastAPI, address: str = "192.0.2.1") -> None:
        self.client = client_of(app, address, accept="text/html")

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        page = self.client.get("/login")
        form = {"csrf": field_of(page, "csrf"), "next": "/queue", "name": name, "password": password}
        return self.client.post("/login", data=form)

    def csrf(self) -> str:
        """What the pages' forms carry, as a test of the pages shows; worked out here to save fetching one."""
        return csrf_token(self.client.cookies.get("earmark_session", ""))

    def case_ids(self, where: str = "/queue") -> list[str]:
        return re.findall(r'<a class="row-link" href="/cases/([0-9a-f]{32})"', self.client.get(where).text)

    def claim(self, case_id: str, **extra: str) -> httpx.Response:
        return self.client.post(f"/cases/{case_id}/claim", data={"csrf": self.csrf(), **extra})

    def lease_of(self, case_id: str) -> str:
        return field_of(self.client.get(f"/cases/{case_id}"), "lease")

    def act(self, case_id: str, action: str, lease: str, **extra: str) -> httpx.Response:
        return self.client.post(f"/cases/{case_id}/{action}", data={"csrf": self.csrf(), "lease": lease, **extra})

    def decide(self, case_id: str, verdict: str = "distress", note: str = "") -> httpx.Response:
        self.claim(case_id)
        return self.act(case_id, "verdict", self.lease_of(case_id), verdict=verdict, note=note)


def field_of(page: httpx.Response, name: str) -> str:
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)">', page.text)
    assert found, f"no field {name} in the page at {page.request.url} ({page.status_code})"
    return found[1]
