"""How many events with 40 kB clips a running service takes each second, over HTTP on this machine, each answered durably.

`python -m bench.intake` starts `earmark review serve` on SQLite, and on PostgreSQL where that is installed, sends sealed and signed
events from several connections, and writes bench/INTAKE.md. An event is two requests, the event and its clip; its time runs from the
first byte sent to the second receipt.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from bench.events import consented, event_of
from tests.review.postgres import missing_programs, running_postgres

from earmark_edge.event import ClipObject
from earmark_edge.seal import WRAPPED_KEY_HEADER, seal_parcel
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, header_of, public_of, sign
from earmark_review.service import open_service
from earmark_review.settings import read_settings

CLIP_BYTES = 40_000
PAGE = Path(__file__).parent / "INTAKE.md"
_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Sending:
    """What a device has ready: an event and its clip, and what goes into the headers with them."""

    event_id: str
    event: bytes
    event_headers: dict[str, str]
    clip: bytes
    clip_headers: dict[str, str]


def sealed(number: int, device_key: bytes, sealing_public: bytes, token: str) -> Sending:
    """One event with one clip, sealed and signed."""
    plain = os.urandom(CLIP_BYTES)
    bare = event_of(f"event-{number}", number, (ClipObject.of(2, "audio/flac", plain),))
    parcel = seal_parcel(bare, {2: plain}, device_key, sealing_public)
    event, made = parcel.event.to_bytes(), parcel.objects[2]
    common = {"authorization": f"Bearer {token}"}
    signature = {SIGNATURE_HEADER: header_of(sign(device_key, Purpose.EVENT, event)), "content-type": "application/json"}
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(made.ciphertext).digest()).decode()}:"
    wrapped = {WRAPPED_KEY_HEADER: f":{base64.b64encode(made.wrapped).decode()}:", "content-digest": digest}
    return Sending(bare.event_id, event, common | signature, made.ciphertext, common | wrapped)


def _send(address: str, sendings: Sequence[Sending]) -> list[float]:
    """Send one after the other over one connection; how long each took, in seconds."""
    times, where = [], urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    for one in sendings:
        began_s = time.perf_counter()
        for method, path, body, headers in (
            ("POST", "/api/v1/events", one.event, one.event_headers),
            ("PUT", f"/api/v1/events/{one.event_id}/clips/2", one.clip, one.clip_headers),
        ):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 201, text  # noqa: PLR2004 - created
        times.append(time.perf_counter() - began_s)
    connection.close()
    return times


def _load(address: str, shares: Sequence[Sequence[Sending]]) -> list[float]:
    with ThreadPoolExecutor(len(shares)) as pool:
        return [took for times in pool.map(lambda share: _send(address, share), shares) for took in times]


@contextmanager
def _served(data: Path, database: str | None) -> Iterator[str]:
    """The address of a service in a process of its own."""
    environ = {**os.environ, "EARMARK_REVIEW_DATA": str(data), **({"EARMARK_REVIEW_DATABASE": database} if database else {})}
    command = [sys.executable, "-c", "from earmark_review.cli import app; app()", "serve", "--port", "0"]
    with (
        (data / "output").open("w") as log,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[3]
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Measured:
    """A run: events per second, and the times of events in milliseconds."""

    engine: str
    events: int
    per_s: float
    p50_ms: float
    p99_ms: float


def measure(engine: str, database: str | None, count: int, connections: int) -> Measured:
    """Send `count` events over so many connections at once, each a device of its own."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        service = open_service(read_settings(data=data, database=database))
        shares = []
        for number in range(connections):
            key = hashlib.sha256(f"device {number}".encode()).digest()
            token = service.add_device(f"device-{number}", public_of(key))
            consented(service, token, key)
            mine = range(number, count, connections)
            shares.append([sealed(one, key, service.identity.sealing_public, token) for one in mine])
        service.close()
        with _served(data, database) as address, ProcessPoolExecutor(_PROCESSES) as pool:
            began_s = time.perf_counter()
            runs = [pool.submit(_load, address, shares[first::_PROCESSES]) for first in range(_PROCESSES)]
            times_ms = 1000 * np.array([took for run in runs for took in run.result()])
            took_s = time.perf_counter() - began_s
    p50_ms, p99_ms = np.percentile(times_ms, [50, 99])
    return Measured(engine, count, count / took_s, float(p50_ms), float(p99_ms))


def sync_ms() -> float:
    """The median time of one fsync of 4 kB where the benchmark's files lie."""
    with tempfile.TemporaryFile() as file:
        times = []
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1000 * (time.perf_counter() - began_s))
    return float(np.median(times))


def report(found: Sequence[Measured], connections: int, load: float) -> str:
    """The page."""
    rows = "\n".join(f"| {one.engine} | {one.events} | {one.per_s:.0f} | {one.p50_ms:.0f} | {one.p99_ms:.0f} |" for one in found)
    return f"""# Intake under load

Made by `python -m bench.intake`. An event is two requests over HTTP, a signed event and its sealed clip of {CLIP_BYTES // 1000} kB, from
{connections} connections at once; every answer is durable (`synchronous = FULL`, clip and folder synced). Sender and service share the
machine: {os.cpu_count()} cores, {platform.machine()}, one fsync takes {sync_ms():.1f} ms, and **{load:.1f} processes wanted the processor
before the run began**: where that is above 1, read these as a lower bound.

| engine | events | events per second | p50 of an event, ms | p99, ms |
|---|---|---|---|---|
{rows}

Asked for: 200 events per second with SQLite on two cores, p99 under 250 ms.
"""


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found = [measure("SQLite", None, given.events, given.connections)]
    if missing_programs():
        print("PostgreSQL is not installed, so it was not measured", file=sys.stderr)
    else:
        with running_postgres(durable=True) as server:
            found.append(measure("PostgreSQL", server.create("bench"), given.events, given.connections))
    for one in found:
        print(json.dumps({name: getattr(one, name) for name in ("engine", "events", "per_s", "p50_ms", "p99_ms")}))
    PAGE.write_text(report(found, given.connections, load), encoding="utf-8")


if __name__ == "__main__":
    main()
