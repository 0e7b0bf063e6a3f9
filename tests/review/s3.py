"""An S3-speaking server of one's own: moto's, in a process of its own, on a port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from urllib.request import Request, urlopen

_START_S = 30.0


class S3Server:
    """Makes buckets, and can be stopped where it stands and go on."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self._numbers = f"http://127.0.0.1:{port}", count()
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._await_start(port)

    def _await_start(self, port: int) -> None:
        ends_at = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                assert self._process.poll() is None, "moto's server did not start"
                assert time.monotonic() < ends_at, "moto's server takes too long to start"
                time.sleep(0.05)
            else:
                return

    @property
    def environment(self) -> dict[str, str]:
        """Where it is, and as whom to speak to it, in the words that obstore reads."""
        who = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "throw-away", "AWS_REGION": "us-east-1"}
        return {**who, "AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true"}

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"clips-{next(self._numbers)}"
        with urlopen(Request(f"{self.url}/{name}", method="PUT")):
            return name

    def unfinished(self, bucket: str) -> int:
        """How many uploads of parts were begun in a bucket and not ended."""
        with urlopen(f"{self.url}/{bucket}?uploads") as answer:
            return answer.read().count(b"<Upload>")

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def running_s3() -> Iterator[S3Server]:
    server = S3Server()
    before = dict(os.environ)
    os.environ.update(server.environment)
    try:
        yield server
    finally:
        server.close()
        os.environ.clear()
        os.environ.update(before)
