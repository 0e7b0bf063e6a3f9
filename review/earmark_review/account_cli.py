"""`earmark review user`: local accounts."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from earmark_review.accounts import Role
from earmark_review.cases import Queue
from earmark_review.opened import DataOption, JsonOption, opened
from earmark_review.store.revocation import change_role, disable, enable, end_all, give_queues
from earmark_review.store.users import list_users

PersonsRole = Literal["reviewer", "senior", "supervisor", "auditor", "privacy_officer"]
"""`accounts.PEOPLE`, as the command line wants it: written out."""

PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]
NameArgument = Annotated[str, typer.Argument(help="The account's name.")]

user_app = typer.Typer(help="Local accounts.", no_args_is_help=True)


@user_app.command("add")
def add_user_command(
    name: Annotated[str, typer.Argument(help="How the account signs in.")],
    role: Annotated[PersonsRole, typer.Option(help="What the account is for.")] = "reviewer",
    data: DataOption = None,
    password_stdin: PasswordOption = False,
) -> None:
    """Add an account; the password is asked for and never shown."""
    with opened(data) as service:
        service.add_user(name, _password(from_stdin=password_stdin), Role(role))
        typer.echo(f"added {role} {name!r}")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


@user_app.command("list")
def list_users_command(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the accounts."""
    with opened(data) as service, service.database.reading() as conn:
        found = list_users(conn)
    if as_json:
        for account in found:
            times = {name: getattr(account, name) for name in ("created_at", "last_seen_at", "disabled_at")}
            words = {"name": account.name, "role": str(account.role), "queues": [str(queue) for queue in account.queues]}
            typer.echo(json.dumps({**words, **{name: at.isoformat() if at else None for name, at in times.items()}}))
        return
    table = Table("name", "role", "queues", "added", "last at work", "closed")
    for account in found:
        times_shown = (account.created_at, account.last_seen_at, account.disabled_at)
        queues = ", ".join(account.queues) or "none"
        table.add_row(account.name, account.role.words, queues, *(f"{at:%Y-%m-%d %H:%M} UTC" if at else "never" for at in times_shown))
    Console().print(table if found else "no accounts; add one with `earmark review user add NAME`")


@user_app.command("password")
def password_command(name: NameArgument, data: DataOption = None, password_stdin: PasswordOption = False) -> None:
    """Give an account another password; its sessions end at once. Passkeys and a linked identity stay."""
    with opened(data) as service:
        ended = service.set_password(name, _password(from_stdin=password_stdin))
        typer.echo(f"{name!r} has another password; ended {ended} sessions")


@user_app.command("role")
def role_command(name: NameArgument, role: Annotated[PersonsRole, typer.Argument(help="The new one.")], data: DataOption = None) -> None:
    """Give an account another role, with all queues of that; its sessions end at once."""
    with opened(data) as service, service.database.writing() as conn:
        typer.echo(f"{name!r} is {Role(role).words} now; ended {change_role(conn, name, Role(role), service.now())} sessions")


@user_app.command("sign-out")
def sign_out_command(name: NameArgument, data: DataOption = None) -> None:
    """End every session of an account at once; what it holds goes back to the queue."""
    with opened(data) as service, service.database.writing() as conn:
        typer.echo(f"ended {end_all(conn, name, service.now())} sessions of {name!r}")


@user_app.command("disable")
def disable_user_command(name: NameArgument, data: DataOption = None) -> None:
    """Close an account: its sessions end at once and it cannot sign in; what it decided stays."""
    with opened(data) as service, service.database.writing() as conn:
        typer.echo(f"closed {name!r}, and ended {disable(conn, name, service.now())} sessions")


@user_app.command("enable")
def enable_user_command(name: NameArgument, data: DataOption = None) -> None:
    """Let a closed account sign in again."""
    with opened(data) as service, service.database.writing() as conn:
        enable(conn, name, service.now())
        typer.echo(f"opened {name!r}")


@user_app.command("queues")
def queues_command(
    name: NameArgument,
    queues: Annotated[list[Queue], typer.Argument(help="Those that it works on, of its role's.")],
    data: DataOption = None,
) -> None:
    """Let an account work on some queues of its role alone, such as first looks while it is new; its sessions end at once."""
    with opened(data) as service, service.database.writing() as conn:
        ended = give_queues(conn, name, queues, service.now())
        typer.echo(f"{name!r} works on {', '.join(queues)} alone; ended {ended} sessions")
