"""What goes to the operator's collector over HTTP: routes, statuses and figures, and never a name."""

from __future__ import annotations

import gzip
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.review.test_metrics import NAMES, busy  # noqa: F401 - a fixture
from tests.review.test_serving import start, stop

from earmark_review.errors import SettingsError
from earmark_review.settings import read_settings
from earmark_review.telemetry import start_telemetry
from earmark_review.web.serving import running


@pytest.fixture
def collector():
    """Keeps what is posted, by path."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_routes_and_figures_are_sent_and_no_name_or_id(busy, collector):  # noqa: F811 - the imported fixture
    address, got = collector
    settings = busy.service.settings.model_copy(update={"otlp_endpoint": address, "port": 0})
    cookies = {"earmark_session": busy.browser("beatrix").client.cookies["earmark_session"]}
    with busy.service.database.reading() as conn:
        ids = conn.exec_driver_sql("SELECT case_id FROM cases").scalars().all()
    with running(replace(busy.service, settings=settings)) as server, httpx.Client(base_url=server.url, cookies=cookies) as client:
        for path in ("/queue?name=adalovelace", f"/cases/{ids[0]}", "/households/household-7", "/login?next=/nursery-cam", "/log"):
            client.get(path)
        client.request("GRANDMOTHER", "/queue")

    spans = [
        span
        for path, body, _ in got
        if path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {span.name for span in spans} >= {"GET /queue", "GET /cases/{case_id}", "GET none", "GET /login", "GET /log"}
    assert {key.key for span in spans for key in span.attributes} == {"http.request.method", "http.route", "http.response.status_code"}
    assert all(not span.events and not span.status.message for span in spans)
    metrics = {
        metric.name
        for path, body, _ in got
        if path == "/v1/metrics"
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"earmark.review.waiting", "earmark.review.events_received", "earmark.review.exposure_stops"} <= metrics
    sent = b"".join(body + repr(headers).encode() for _, body, headers in got).lower()
    assert [name for name in (*NAMES, *ids, "boot-1") if name.encode() in sent] == []


def test_what_a_dependency_would_send_by_itself_stays_off_whatever_the_environment_says(tmp_path, collector, monkeypatch):
    address, got = collector
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    process, url = start(tmp_path / "data")
    assert httpx.get(f"{url}/login").status_code == 200
    stop(process, signal.SIGTERM)  # at which whatever waits is sent
    assert process.returncode == 0
    assert got == []


def test_nothing_starts_unless_an_address_is_set(house):
    assert start_telemetry(house.service) is None


@pytest.mark.parametrize("address", ["collector", "ftp://x", "http://x/?q", "http://", "http://x/"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(SettingsError, match="OTLP_ENDPOINT"):
        read_settings(otlp_endpoint=address)
