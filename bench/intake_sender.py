"""Sends what devices would, over plain sockets: requests made beforehand, so that little of the machine is spent on sending."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sending:
    """An event and its clip as the bytes of two requests, and what the receipts must name."""

    event_id: str
    event_sha256: str
    device_key_id: str
    requests: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """Head and body of an answer, as they came."""

    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """What was answered to an event and its clip, and how long both took together, in seconds."""

    sending: Sending
    answers: tuple[Answer, ...]
    took_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """A run: everything that was sent, the time from the first byte to the last answer, and the sender's own processor time."""

    sent: Sequence[Sent]
    took_s: float
    processor_s: float


def request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request of HTTP/1.1 as bytes."""
    lines = {"host": "localhost", "content-length": str(len(body)), **headers}
    head = "".join([f"{method} {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items()), "\r\n"])
    return head.encode() + body


def load(address: str, shares: Sequence[Sequence[Sending]]) -> Load:
    """Send each share over a connection of its own, all at once, within a connection one after the other."""
    return asyncio.run(_load(address, shares))


async def _load(address: str, shares: Sequence[Sequence[Sending]]) -> Load:
    began_s, processor_s = time.perf_counter(), time.process_time()
    sent = await asyncio.gather(*(_send(address, share) for share in shares))
    took_s = time.perf_counter() - began_s
    return Load([one for share in sent for one in share], took_s, time.process_time() - processor_s)


async def _send(address: str, share: Sequence[Sending]) -> list[Sent]:
    where, sent = urlsplit(address), []
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    for one in share:
        began_s, answers = time.perf_counter(), []
        for words in one.requests:
            writer.write(words)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            assert length, head
            answers.append(Answer(head, await reader.readexactly(int(length[1]))))
        sent.append(Sent(one, tuple(answers), time.perf_counter() - began_s))
    writer.close()
    return sent
