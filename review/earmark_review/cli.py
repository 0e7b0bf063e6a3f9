"""`earmark review`: serve, and look after accounts, devices, events and the log."""

from __future__ import annotations

import logging
import sys
from ipaddress import ip_address
from typing import Annotated

import typer

from earmark_review.account_cli import user_app
from earmark_review.audit_cli import audit_app, log_command
from earmark_review.bundle_cli import bundle_app
from earmark_review.device_cli import device_app, policy_app
from earmark_review.event_cli import event_app
from earmark_review.move_cli import move_command
from earmark_review.opened import DataOption, opened
from earmark_review.service import Service
from earmark_review.store.service_figures import exposition
from earmark_review.store.users import count_users
from earmark_review.training_cli import export_command, golden_command, misses_command, withdrawals_command
from earmark_review.web.serving import listen, serve_from_workers, url_of
from earmark_review.web.serving import serve as serve_until_interrupted

app = typer.Typer(name="review", help="Where people decide on what devices flagged.", no_args_is_help=True)
for group, name in (
    (user_app, "user"),
    (device_app, "device"),
    (event_app, "event"),
    (policy_app, "policy"),
    (audit_app, "audit"),
    (bundle_app, "bundle"),
):
    app.add_typer(group, name=name)


@app.command("serve")
def serve_command(
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes any free one. [default: 8600]")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve; a processor each, with PostgreSQL. [default: 1]")] = None,
) -> None:
    """Serve the review pages and the devices' intake until interrupted."""
    with opened(data, host=host, port=port, workers=workers) as service:
        service.sweep()  # also tells now that the store of clips cannot be had, and not with the first clip
        listener = listen(service.settings.host, service.settings.port)
        typer.echo(f"Earmark review at {url_of(listener)} (data in {service.settings.data}); Ctrl-C ends it")
        _warn(service)
        _log_to_stderr()
        if service.settings.workers == 1:
            serve_until_interrupted(service, listener)
        else:
            serve_from_workers(service, listener, _log_to_stderr)


def _log_to_stderr() -> None:
    """A dated line for each request, in place of whatever the command line set up for commands that come and go."""
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.WARNING, format=line, stream=sys.stderr, force=True)
    logging.getLogger("earmark_review").setLevel(logging.INFO)


def _warn(service: Service) -> None:
    with service.database.reading() as conn:
        if not count_users(conn):
            typer.echo("nobody can sign in yet: add an account with `earmark review user add NAME`", err=True)
    if not _is_loopback(service.settings.host):
        typer.echo("listening beyond this machine without TLS: put a proxy that speaks https in front of it", err=True)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@app.command("metrics")
def metrics_command(data: DataOption = None) -> None:
    """Print the figures for Prometheus, such as for a node exporter's text file; no household, device or person is named."""
    with opened(data) as service, service.database.reading() as conn:
        typer.echo(exposition(conn, service.settings.limits, service.now()), nl=False)


for command, name in (
    (move_command, "move"),
    (withdrawals_command, "withdrawals"),
    (export_command, "export"),
    (misses_command, "misses"),
    (golden_command, "golden"),
    (log_command, "log"),
):
    app.command(name)(command)
