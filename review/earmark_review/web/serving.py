"""Runs the application: in the foreground for an operator, or in a thread for a demo or a test."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from earmark_review.errors import DatabaseError, ReviewError, SettingsError
from earmark_review.service import Service
from earmark_review.settings import ReviewSettings
from earmark_review.web.app import UPKEEP_S, create_app, keep_house_once

logger = logging.getLogger(__name__)
_BACKLOG = 128
_START_TIMEOUT_S = 30.0
_HUNG_S = 15
"""A worker that gives no sign of life for so long is replaced."""


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
    """A server of ours for the application."""
    return uvicorn.Server(_config(create_app(service)))


def _config(app: FastAPI | Callable[[], FastAPI], **more: Any) -> uvicorn.Config:
    """The access log of uvicorn, which writes query strings, is off: the application keeps its own."""
    return uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="on", timeout_graceful_shutdown=5, **more)


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


def serve_from_workers(service: Service, listener: socket.socket, log: Callable[[], None]) -> None:
    """Serve from as many processes as the settings say, until SIGINT or SIGTERM; one that dies is replaced.

    They share the listener, and each opens the data for itself and calls `log` to set up its log. This process keeps the house, once
    for all of them.

    Raises:
        DatabaseError: a worker could not begin.
    """
    start = partial(_begin_worker, service.settings, log)
    config = _config(start, factory=True, workers=service.settings.workers, timeout_worker_healthcheck=_HUNG_S)
    stopped = threading.Event()
    upkeep = threading.Thread(target=_keep_house_until, args=(service, stopped), name="upkeep")
    upkeep.start()
    try:
        with listener:
            supervisor = Multiprocess(config, [listener])
            supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            msg = "a worker did not start; its log says why"
            raise DatabaseError(msg)
    finally:
        stopped.set()
        upkeep.join()


def _begin_worker(settings: ReviewSettings, log: Callable[[], None]) -> FastAPI:
    log()
    try:
        return create_app(settings, keeps_house=False)
    except ReviewError as error:  # the next one would fail as well, so the supervisor is told not to try
        logger.error("a worker could not start: %s", error)  # noqa: TRY400 - a refusal in words, not a defect
        sys.exit(STARTUP_FAILURE)


def _keep_house_until(service: Service, stopped: threading.Event) -> None:
    for number in count():
        keep_house_once(service, number)
        if stopped.wait(UPKEEP_S):
            return


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
