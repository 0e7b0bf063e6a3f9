"""OpenTelemetry traces and metrics to the operator's own collector: off unless its address is set, and needing the extra `telemetry`.

A span tells the method, the route as the table of endpoints has it, and the status; a metric is one of `service_figures`. No address, id,
name, query, header, message of an error, host or process is sent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from earmark_review.errors import SettingsError
from earmark_review.store.overview import overview
from earmark_review.store.service_figures import LATE, Figure, service_figures
from earmark_review.web.middleware import pass_on

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Tracer

    from earmark_review.service import Service

_EVERY_MS = 60_000
_RECENT_S = 5.0
_NO_ROUTE = "none"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is running; close it when done."""

    tracer: Tracer
    _providers: tuple[Any, ...]

    def close(self) -> None:
        """Send what waits, and stop."""
        for provider in self._providers:
            provider.shutdown()


def start_telemetry(service: Service) -> Telemetry | None:
    """Traces and metrics to the collector that the settings name; None where they name none.

    Raises:
        SettingsError: the extra is not installed.
    """
    endpoint = service.settings.otlp_endpoint
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - an extra of its own
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = f"EARMARK_REVIEW_OTLP_ENDPOINT needs the extra: pip install 'earmark[telemetry]' ({error.name} is missing)"
        raise SettingsError(msg) from error
    resource = Resource({"service.name": "earmark-review"})  # and nothing that a detector would add of the machine
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"), export_interval_millis=_EVERY_MS)
    metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    _observe(metrics.get_meter("earmark.review"), service)
    return Telemetry(traces.get_tracer("earmark.review"), (traces, metrics))


class _Recent:
    """The figures of the last seconds, so that one round of reading asks the database once."""

    def __init__(self, service: Service) -> None:
        self._service, self._read_at, self._figures = service, -math.inf, list[Figure]()

    def figures(self) -> Sequence[Figure]:
        """All of them."""
        if time.monotonic() - self._read_at > _RECENT_S:
            now = self._service.now()
            with self._service.database.reading() as conn:
                self._figures = list(service_figures(conn, overview(conn, now), self._service.settings.limits, now))
            self._read_at = time.monotonic()
        return self._figures

    def reading(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """What an instrument calls."""

        def read(_options: CallbackOptions) -> Iterable[Observation]:
            from opentelemetry.metrics import Observation  # noqa: PLC0415 - an extra of its own

            return [Observation(one.value, dict([one.label]) if one.label else {}) for one in self.figures() if one.name == name]

        return read


def _observe(meter: Meter, service: Service) -> None:
    recent = _Recent(service)
    kinds = {name: (words, "gauge") for name, words in LATE.items()} | {one.name: (one.words, one.kind) for one in recent.figures()}
    for name, (words, kind) in kinds.items():
        make = meter.create_observable_counter if kind == "counter" else meter.create_observable_gauge
        make(f"earmark.review.{name}", [recent.reading(name)], description=words)


class Tracing:
    """A span for each request, named after its route."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and tell how it went."""
        began_ns = time.time_ns()

        def note(status: int) -> None:
            route = getattr(scope.get("route"), "path", _NO_ROUTE)
            told = {"http.request.method": _method(scope), "http.route": route, "http.response.status_code": status}
            self._tracer.start_span(f"{_method(scope)} {route}", attributes=told, start_time=began_ns).end()

        await pass_on(self._app, scope, receive, send, note)


def _method(scope: Scope) -> str:
    """The method, which a client may make up, as one of those that there are."""
    method = str(scope["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} else "_OTHER"
