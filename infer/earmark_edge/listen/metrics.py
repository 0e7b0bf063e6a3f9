"""Counts and states for Prometheus, in its text format (version 0.0.4), on the loopback address alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from earmark_edge.listen.health import Problem
from earmark_edge.listen.status import Status
from earmark_edge.listen.supervisor import State

LOOPBACK = "127.0.0.1"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[dict[str, str], float]


class MetricsError(OSError):
    """The endpoint cannot be opened."""


def render(status: Status) -> str:
    """The status as metrics."""
    streams = [({"stream": str(number), "name": each.name}, each) for number, each in enumerate(status.streams)]
    families: list[tuple[str, str, str, list[Sample]]] = [
        ("info", "gauge", "Version, bundle and effective configuration.", [(_identity(status), 1.0)]),
        ("muted", "gauge", "1 while anything mutes.", [({}, float(bool(status.muted_by)))]),
        ("scoring_seconds_total", "counter", "Processor time spent on scoring and deciding.", [({}, status.scoring_s)]),
        ("heard_seconds_total", "counter", "Sound that was decided on.", [(name, each.heard_s) for name, each in streams]),
        ("muted_seconds_total", "counter", "Sound that was thrown away unheard.", [(name, each.muted_s) for name, each in streams]),
        ("events_total", "counter", "Events flagged.", [(name, float(each.events)) for name, each in streams]),
        ("incidents_total", "counter", "Incidents flagged.", [(name, float(each.incidents)) for name, each in streams]),
        (
            "events_without_audio_total",
            "counter",
            "Events whose audio the cap held back.",
            [(name, float(each.events_without_audio)) for name, each in streams],
        ),
        ("source_restarts_total", "counter", "Times an input was opened again.", [(name, float(each.restarts)) for name, each in streams]),
        (
            "source_state",
            "gauge",
            "1 for the state that an input is in.",
            [({**name, "state": state.value}, float(each.state is state)) for name, each in streams for state in State],
        ),
        (
            "source_problem",
            "gauge",
            "1 for what is wrong with the signal.",
            [({**name, "problem": kind.value}, float(kind in each.problems)) for name, each in streams for kind in Problem],
        ),
        ("canaries_heard_total", "counter", "Canaries that became events.", [(name, float(each.canary.heard)) for name, each in streams]),
        ("canaries_missed_total", "counter", "Canaries that did not.", [(name, float(each.canary.missed)) for name, each in streams]),
        (
            "canary_last_heard_timestamp_seconds",
            "gauge",
            "When a canary last became an event.",
            [(name, datetime.fromisoformat(at).timestamp()) for name, each in streams if (at := each.canary.last_heard_at)],
        ),
        (
            "delivery",
            "gauge",
            "What waits to be sent, and what became of the rest.",
            [({"of": k}, float(n)) for k, n in status.delivery.items()],
        ),
    ]
    return "".join(_family(*family) for family in families)


class MetricsServer:
    """Answers `GET /metrics` on the loopback address from a thread of its own; port 0 takes a free one.

    Raises:
        MetricsError: the port is taken or not allowed.
    """

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """One page, to whoever asks by this machine's own names."""
                host = (self.headers.get("Host") or "").rpartition(":")[0]
                if self.path != "/metrics" or host not in {LOOPBACK, "localhost"}:  # another name is a web page that rebinds its own
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                body = text().encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", MEDIA_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """A request each few seconds is no news."""

        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        except OSError as error:
            msg = f"metrics: {LOOPBACK}:{port} cannot be opened ({error.strerror}); choose another port"
            raise MetricsError(msg) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _identity(status: Status) -> dict[str, str]:
    return {"version": status.version, "bundle": status.bundle_sha256[:12], "config": status.config_sha256[:12]}


def _family(name: str, kind: str, about: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP earmark_{name} {about}", f"# TYPE earmark_{name} {kind}"]
    lines += [f"earmark_{name}{_labels(labels)} {value:.10g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    quoted = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(quoted) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
