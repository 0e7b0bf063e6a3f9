from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import delete, event, insert, select
from tests.review.postgres import PostgresServer, missing_programs, running_postgres
from tests.review.s3 import S3Server, running_s3

from earmark_edge.consent import Consent
from earmark_edge.event import ClipObject, Event, Receipt, ScoreTrack
from earmark_edge.messages import Heartbeat
from earmark_edge.picture import PICTURE_MEDIA_TYPE, third_octave_picture
from earmark_edge.seal import WRAPPED_BYTES, WRAPPED_KEY_HEADER, seal_parcel
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, header_of, public_of, sign
from earmark_model.contract import LABELS, Reason
from earmark_review import audit
from earmark_review.accounts import Role
from earmark_review.identity import IDENTITY_FILE, ServiceIdentity
from earmark_review.service import Service, open_service
from earmark_review.settings import ReviewSettings
from earmark_review.store.database import Database
from earmark_review.store.schema import consents, devices
from earmark_review.store.sessions import SignInRequest
from earmark_review.tokens import csrf_token
from earmark_review.web.app import create_app

BASE_URL = "http://review.test"
PASSWORD = "long enough for a test"
RATE_HZ = 16_000
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


def tone_bytes(seconds: float = 1.0, frequency_hz: float = 1000.0, kind: str = "FLAC") -> bytes:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    stream = io.BytesIO()
    soundfile.write(stream, 0.5 * np.sin(2 * np.pi * frequency_hz * times), RATE_HZ, format=kind, subtype="PCM_16")
    return stream.getvalue()


def track_for(label: str, seconds: float = 1.0, start_s: float = 10.0) -> ScoreTrack:
    hops = round(seconds / 0.1)
    scores = {name: tuple(0.9 if name == label and 2 <= i < 6 else 0.1 for i in range(hops)) for name in LABELS}
    return ScoreTrack(start_s, 0.1, scores, {label: 0.6})


def picture_bytes() -> bytes:
    """The device's picture of a tone at 500 Hz that is silent from the middle of a second on."""
    times = np.arange(RATE_HZ) / RATE_HZ
    tone = np.where(times < 0.5, 0.5 * np.sin(2 * np.pi * 500 * times), 0).astype(np.float32)
    return third_octave_picture(tone, RATE_HZ, 10.0).to_bytes()


@dataclass(frozen=True)
class Sending:
    """An event, and by tier the ciphertexts of its objects and what they hold."""

    event: Event
    objects: dict[int, bytes] = field(default_factory=dict)
    plain: dict[int, bytes] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        return self.event.to_bytes()


def device_key(name: str) -> bytes:
    """The Ed25519 key of a test's device, the same each time."""
    return hashlib.sha256(f"device {name}".encode()).digest()


IDENTITY = ServiceIdentity(hashlib.sha256(b"sealing").digest(), hashlib.sha256(b"signing").digest())
"""Every service of the tests has these keys, so that what is sealed for one opens in any."""
WRAPPED: dict[bytes, bytes] = {}
"""The wrapped data key of every ciphertext that `sending` made, for `Sender.put` to send along."""


def once_for_each(make: Callable[..., Sending]) -> Callable[..., Sending]:
    """Sealing differs each time; a device seals once and sends that. The same words give the same bytes."""
    made: dict[str, Sending] = {}
    return lambda *words, **changes: made.setdefault(repr((words, sorted(changes.items()))), make(*words, **changes))


@once_for_each
def sending(
    event_id: str = "event-1",
    label: str = "scream",
    reason: Reason = Reason.ABOVE_THRESHOLD,
    device: str = "kitchen",
    *,
    masked: bool = False,
    pictured: bool = False,
    **changes: object,
) -> Sending:
    """A sealed event of `device` with a score track and a clip, or with what `plain` maps tiers to: media types and bytes.

    With `clips` among the changes, these are declared as they are, sealed or not.
    """
    default = {0: ("application/json", track_for(label).to_bytes()), 3: ("audio/flac", tone_bytes())}
    if masked:
        default[2] = ("audio/flac", tone_bytes(frequency_hz=500))
    if pictured:
        default[1] = (PICTURE_MEDIA_TYPE, picture_bytes())
    inside = changes.pop("plain", default)
    declared = tuple(ClipObject.of(tier, kind, content) for tier, (kind, content) in inside.items())
    plain = {tier: content for tier, (_, content) in inside.items()}
    scores = dict.fromkeys(LABELS, 0.1) | {label: 0.9}
    event = Event(
        event_id=event_id,
        boot_id="boot-1",
        seq=7,
        onset_s=10.2,
        offset_s=10.6,
        wall_time="2026-03-01T19:58:00+00:00",
        wall_uncertainty_s=0.5,
        label=label,
        peak_score=0.9,
        threshold=0.6,
        reason=reason,
        scores=scores,
        model_sha256="a" * 64,
        config_sha256="b" * 64,
        calibration_sha256=None,
        consent_id="consent-1",
        clips=declared,
    )
    listed = changes.pop("clips", None)
    return sealed(replace(event, **changes), plain, device, listed)


def sealed(event: Event, plain: dict[int, bytes], device: str = "kitchen", listed: object = None) -> Sending:
    parcel = seal_parcel(event, plain, device_key(device), IDENTITY.sealing_public)
    WRAPPED.update((made.ciphertext, made.wrapped) for made in parcel.objects.values())
    event = parcel.event if listed is None else replace(parcel.event, clips=listed)
    return Sending(event, {tier: made.ciphertext for tier, made in parcel.objects.items()}, plain)


def digest_field(payload: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(payload).digest()).decode()}:"


def signature_field(payload: bytes, purpose: Purpose = Purpose.EVENT, device: str = "kitchen") -> dict[str, str]:
    return {SIGNATURE_HEADER: header_of(sign(device_key(device), purpose, payload))}


def wrapped_field(ciphertext: bytes) -> dict[str, str]:
    wrapped = WRAPPED.get(ciphertext, bytes(WRAPPED_BYTES))
    return {WRAPPED_KEY_HEADER: f":{base64.b64encode(wrapped).decode()}:"}


LOOP = asyncio.new_event_loop()
"""Where every application of the tests runs, on a thread of its own: a loop for each request would cost more than most requests."""


@pytest.fixture(scope="session", autouse=True)
def _running_loop() -> Iterator[None]:
    thread = threading.Thread(target=LOOP.run_forever, name="applications", daemon=True)
    thread.start()
    yield
    LOOP.call_soon_threadsafe(LOOP.stop)
    thread.join()
    LOOP.close()


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


@pytest.fixture
def clock() -> Clock:
    return Clock()


EVERY_ENGINE = (
    "test_access",
    "test_audit",
    "test_concurrency",
    "test_export",
    "test_fleet",
    "test_intake",
    "test_leases",
    "test_lists",
    "test_overview",
    "test_retention",
    "test_review_flow",
    "test_review_machine",
    "test_sealed",
    "test_sign_in",
    "test_single_sign_on",
    "test_wellness",
)
"""The behavioural suite: these modules run once on one machine (SQLite, a folder of clips), once past it (PostgreSQL, an S3 store)."""


ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""For a claim about SQLite's own file."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_told = any(mark.args[0] == "engine" for mark in metafunc.definition.iter_markers("parametrize"))
    if "engine" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in EVERY_ENGINE and not is_told:
        metafunc.parametrize("engine", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Which engine a test's services keep their cases in; with PostgreSQL goes an S3 store for the clips."""
    return getattr(request, "param", "sqlite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server, for as long as the tests run."""
    if missing := missing_programs():
        pytest.skip(f"PostgreSQL is not installed ({missing}); Debian's package is postgresql")
    with running_postgres() as server:
        database = Database(server.create("fresh"))
        database.migrate()
        database.close()
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server that speaks S3, for as long as the tests run; `AWS_*` say where it is."""
    with running_s3() as server:
        yield server


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest, fresh_database: Path, tmp_path: Path) -> Callable[[], str]:
    """Makes databases of the current schema on the test's engine, and gives their addresses."""
    made = count()

    def make() -> str:
        if engine == "postgresql":
            return request.getfixturevalue("postgres").create(template="fresh")
        path = tmp_path / f"review-{next(made)}.db"
        shutil.copy(fresh_database, path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows, to copy: the migrations have tests of their own."""
    path = tmp_path_factory.mktemp("fresh") / "review.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def open_house(
    tmp_path: Path, clock: Clock, engine: str, fresh_database: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., House]]:
    opened: list[House] = []

    def make(**knobs: object) -> House:
        data = tmp_path / f"data-{len(opened)}"
        data.mkdir()
        if engine == "postgresql":
            database = request.getfixturevalue("postgres").create(template="fresh")
            knobs = {"database": database, "blobs": f"s3://{request.getfixturevalue('s3').bucket()}", **knobs}
        else:
            shutil.copy(fresh_database, data)
        opened.append(House(data, clock, engine, **knobs))
        return opened[-1]

    yield make
    for house in opened:
        house.service.close()
        if engine == "postgresql":
            request.getfixturevalue("postgres").drop(house.knobs["database"])


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house()


@pytest.fixture
def sender(house: House) -> Sender:
    return house.device()


@pytest.fixture
def ada(house: House) -> Browser:
    return house.user("ada")


@pytest.fixture
def bea(house: House) -> Browser:
    return house.user("bea")


@pytest.fixture
def make_sending() -> Callable[..., Sending]:
    return sending


@pytest.fixture
def one_case(house: House, sender: Sender, ada: Browser) -> str:
    """The id of a case that is ready."""
    sender.send(sending(masked=True))
    [case_id] = ada.case_ids()
    return case_id
