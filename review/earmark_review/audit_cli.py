"""`earmark review log` and `audit`: reading the log, and whether it is what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from earmark_review import audit
from earmark_review.anchors import faults, head_of, read_anchor
from earmark_review.opened import DataOption, JsonOption, opened

audit_app = typer.Typer(help="Whether the audit log is what it was.", no_args_is_help=True)


@audit_app.command("head")
def audit_head_command(data: DataOption = None) -> None:
    """Print the log's signed head, one line of JSON: mail it, print it, or put it wherever nobody here can change it."""
    with opened(data) as service, service.database.reading() as conn:
        head = head_of(conn, service.now())
        if head is None:
            typer.echo("earmark review: the log is empty", err=True)
            raise typer.Exit(1)
        typer.echo(head.signed(service.identity))


@audit_app.command("anchor")
def audit_anchor_command(
    to: Annotated[Path, typer.Option("--to", help="File that the head is added to; on a disk that this machine cannot rewrite.")],
    data: DataOption = None,
) -> None:
    """Add the log's signed head to a file of them, as the running service does with EARMARK_REVIEW_AUDIT_ANCHOR."""
    with opened(data) as service:
        typer.echo("anchored" if service.anchor(to) else "nothing new since the last head")


@audit_app.command("mail")
def audit_mail_command(data: DataOption = None) -> None:
    """Mail the log's signed head now, as the running service does with EARMARK_REVIEW_AUDIT_MAIL_TO; also to try the settings."""
    with opened(data) as service:
        if service.settings.audit_mail_to is None:
            typer.echo("earmark review: set EARMARK_REVIEW_AUDIT_MAIL_TO and _AUDIT_SMTP_HOST first", err=True)
            raise typer.Exit(2)
        typer.echo(f"mailed to {service.settings.audit_mail_to}" if service.mail_head() else "nothing new since the last message")


@audit_app.command("verify")
def audit_verify_command(
    anchor: Annotated[
        list[Path] | None,
        typer.Option("--anchor", help="File of signed heads, or a saved message (.eml) with one; may be given several times."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Check the whole log: every entry, the chain, the guards, and every signed head; exit status 1 where anything is wrong."""
    with opened(data) as service:
        heads = [head for path in anchor or () for head in read_anchor(path, service.identity.signing_public)]
        with service.database.reading() as conn:
            found = faults(conn, heads)
    for fault in found:
        typer.echo(f"earmark review: {fault}", err=True)
    if found:
        raise typer.Exit(1)
    if heads:
        typer.echo(f"the log holds, with {len(heads)} signed heads, the last at entry {max(head.seq for head in heads)}")
    else:
        typer.echo("the chain holds; without --anchor nobody can tell whether its end was cut off or all of it was written anew")


def log_command(
    data: DataOption = None,
    after: Annotated[int, typer.Option(min=0, help="Show entries after this number.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Print the audit log and check that its chain holds; exit status 1 where it is broken."""
    with opened(data) as service, service.database.reading() as conn:
        entries = audit.read(conn)
    for entry in entries:
        if entry.seq > after:
            typer.echo(_entry_json(entry) if as_json else _entry_line(entry))
    if broken := audit.first_break(entries):
        typer.echo(f"earmark review: the log's chain is broken: {broken}; compare it with a backup", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(entries)} entries, chain whole", err=True)


def _entry_json(entry: audit.Entry) -> str:
    words = {"seq": entry.seq, "at": entry.at.isoformat(), "actor": entry.actor, "action": entry.action, "subject": entry.subject}
    return json.dumps({**words, "detail": entry.detail, "previous_sha256": entry.previous_sha256, "sha256": entry.sha256})


def _entry_line(entry: audit.Entry) -> str:
    detail = " ".join(f"{name}={value}" for name, value in sorted(entry.detail.items()))
    mark = "ALERT " if entry.is_alert else ""
    line = f"{entry.seq:>6} {entry.at:%Y-%m-%dT%H:%M:%SZ} {mark}{entry.actor} {entry.action} {entry.subject} {detail}".rstrip()
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
