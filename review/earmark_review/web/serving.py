"""Runs the application: in the foreground for an operator, or in a thread for a demo or a test."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from earmark_review.errors import DatabaseError, SettingsError
from earmark_review.service import Service
from earmark_review.web.app import create_app

logger = logging.getLogger(__name__)
_BACKLOG = 128
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers at `url`."""

    url: str
    service: Service


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        SettingsError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {host}:{port} ({error.strerror or error}); is it in use? give another with --port or --host"
        raise SettingsError(msg) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser finds what listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_for(service: Service) -> uvicorn.Server:
    """A server of ours for the application. uvicorn's access log, which writes query strings, is off: the application keeps its own."""
    app = create_app(service)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="on", timeout_graceful_shutdown=5)
    return uvicorn.Server(config)


def serve(service: Service, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, from the main thread; what is under way is answered first, and the caller can tidy up."""
    # uvicorn ends by raising the signal again, which for SIGTERM would end the process before the database is closed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with listener:
            server_for(service).run(sockets=[listener])
    except KeyboardInterrupt:
        logger.info("stopped serving")
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def running(service: Service) -> Iterator[Running]:
    """Serve on the settings' host and port from a thread, while the block runs; the service stays open afterwards.

    Raises:
        SettingsError: the address cannot be had.
    """
    with listen(service.settings.host, service.settings.port) as listener:
        server = server_for(service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="earmark-review", daemon=True)
        thread.start()
        try:
            _await_start(server, thread)
            yield Running(url_of(listener), service)
        finally:
            server.should_exit = True
            thread.join()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    waited = threading.Event()
    for _ in range(round(_START_TIMEOUT_S / 0.02)):
        if server.started:
            return
        if not thread.is_alive():
            break
        waited.wait(0.02)
    msg = "the review server did not start; its log says why"
    raise DatabaseError(msg)
