"""How many events with 40 kB clips a running service takes each second, over HTTP on this machine, each answered durably.

`python -m bench.intake` starts `earmark review serve` on SQLite, and on PostgreSQL where that is installed, sends sealed and signed
events from several connections, and writes bench/INTAKE.md. An event is two requests, the event and its clip; its time runs from the
first byte sent to the second receipt. Every receipt is checked, after the timed part: signature, hash, and that the clip is held.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from bench.events import consented, event_of
from bench.intake_sender import Load, Sending, load, request
from tests.review.postgres import missing_programs, running_postgres

from earmark_edge.event import ClipObject, Receipt
from earmark_edge.seal import WRAPPED_KEY_HEADER, seal_parcel
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, check, from_header, header_of, key_id, public_of, sign
from earmark_review.service import open_service
from earmark_review.settings import read_settings

CLIP_BYTES = 40_000
PAGE = Path(__file__).parent / "INTAKE.md"
_TIER = 2
_WARM_UP = 2
"""Events of each connection before the timed part: a service that just started imports and plans as it goes."""
_SIGNATURE = re.compile(rb"\r\n" + SIGNATURE_HEADER.encode() + rb": ([^\r]+)\r\n", re.IGNORECASE)


def sealed(number: int, device_key: bytes, sealing_public: bytes, token: str) -> Sending:
    """One event with one clip, sealed and signed, as requests."""
    plain = os.urandom(CLIP_BYTES)
    bare = event_of(f"event-{number}", number, (ClipObject.of(_TIER, "audio/flac", plain),))
    parcel = seal_parcel(bare, {_TIER: plain}, device_key, sealing_public)
    event, made = parcel.event.to_bytes(), parcel.objects[_TIER]
    common = {"authorization": f"Bearer {token}"}
    signature = {SIGNATURE_HEADER: header_of(sign(device_key, Purpose.EVENT, event)), "content-type": "application/json"}
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(made.ciphertext).digest()).decode()}:"
    wrapped = {WRAPPED_KEY_HEADER: f":{base64.b64encode(made.wrapped).decode()}:", "content-digest": digest}
    requests = (
        request("POST", "/api/v1/events", common | signature, event),
        request("PUT", f"/api/v1/events/{bare.event_id}/clips/{_TIER}", common | wrapped, made.ciphertext),
    )
    return Sending(bare.event_id, hashlib.sha256(event).hexdigest(), key_id(public_of(device_key)), requests)


def check_receipts(run: Load, service_key: bytes) -> None:
    """Insist that every event and every clip was taken, and that the service signed for it."""
    for one in run.sent:
        for answer, held in zip(one.answers, ((), (_TIER,)), strict=True):
            assert answer.head.startswith(b"HTTP/1.1 201 "), (answer.head, answer.body)
            signature = _SIGNATURE.search(answer.head)
            assert signature, answer.head
            check(service_key, Purpose.RECEIPT, answer.body, from_header(signature[1].decode()))
            receipt = Receipt.from_bytes(answer.body)
            named = (receipt.event_id, receipt.event_sha256, receipt.device_id, receipt.tiers_held)
            assert named == (one.sending.event_id, one.sending.event_sha256, one.sending.device_key_id, held), named


@contextmanager
def _served(data: Path, database: str | None, workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a service, and its process."""
    environ = {**os.environ, "EARMARK_REVIEW_DATA": str(data), **({"EARMARK_REVIEW_DATABASE": database} if database else {})}
    command = [sys.executable, "-c", "from earmark_review.cli import app; app()", "serve", "--port", "0", "--workers", str(workers)]
    with (
        (data / "output").open("w") as log,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[3], psutil.Process(process.pid)
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Measured:
    """A run: events per second, times of events, and the processor time that one took in the service and in the sender."""

    engine: str
    workers: int
    events: int
    per_s: float
    p50_ms: float
    p99_ms: float
    service_ms: float
    sender_ms: float


def _processor_s(process: psutil.Process) -> float:
    """Processor time of a process and those that it started, in seconds."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def measure(engine: str, database: str | None, count: int, connections: int, workers: int = 1) -> Measured:
    """Send `count` events over so many connections at once, each a device of its own, to so many serving processes."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        service = open_service(read_settings(data=data, database=database))
        service_key, shares = service.identity.signing_public, []
        for number in range(connections):
            key = hashlib.sha256(f"device {number}".encode()).digest()
            token = service.add_device(f"device-{number}", public_of(key))
            consented(service, token, key)
            mine = range(number, count + _WARM_UP * connections, connections)
            shares.append([sealed(one, key, service.identity.sealing_public, token) for one in mine])
        service.close()
        with _served(data, database, workers) as (address, process), ProcessPoolExecutor(1) as sender:
            first = sender.submit(load, address, [share[:_WARM_UP] for share in shares]).result()
            before_s = _processor_s(process)
            run = sender.submit(load, address, [share[_WARM_UP:] for share in shares]).result()
            spent_s = _processor_s(process) - before_s
        for sent in (first, run):
            check_receipts(sent, service_key)
    p50_ms, p99_ms = np.percentile([1000 * one.took_s for one in run.sent], [50, 99])
    each_ms = 1000 / len(run.sent)
    return Measured(
        engine,
        workers,
        len(run.sent),
        len(run.sent) / run.took_s,
        float(p50_ms),
        float(p99_ms),
        spent_s * each_ms,
        run.processor_s * each_ms,
    )


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


def _row(one: Measured) -> str:
    measured = [f"{value:.0f}" for value in (one.per_s, one.p50_ms, one.p99_ms)]
    return f"| {' | '.join([one.engine, str(one.workers), str(one.events), *measured, f'{one.service_ms:.1f}', f'{one.sender_ms:.1f}'])} |"


def report(found: Sequence[Measured], connections: int, load: float) -> str:
    """The page."""
    rows = "\n".join(_row(one) for one in found)
    return f"""# Intake under load

Made by `python -m bench.intake`. An event is two requests over HTTP, a signed event and its sealed clip of {CLIP_BYTES // 1000} kB, from
{connections} connections at once, each a device of its own, after {_WARM_UP} of each that were not timed. Every answer is durable
(`synchronous = FULL`, clip and folder synced), and every receipt's signature, hash and tiers are checked afterwards. Sender, service and
PostgreSQL share the machine: {os.cpu_count()} cores, {platform.machine()}, one fsync takes {sync_ms():.1f} ms, and **{load:.1f} processes
wanted the processor before the run began**: where that is above 1, read these as a lower bound.

| engine | processes | events | events per second | p50 of an event, ms | p99, ms | processor time of an event, ms: service | sender |
|---|---|---|---|---|---|---|---|
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
            found += [measure("PostgreSQL", server.create(f"bench_{number}"), given.events, given.connections, number) for number in (1, 2)]
    for one in found:
        print(json.dumps(asdict(one)))
    PAGE.write_text(report(found, given.connections, load), encoding="utf-8")


if __name__ == "__main__":
    main()
