"""`earmark review user`: local accounts."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from earmark_review.accounts import Role
from earmark_review.opened import DataOption, opened
from earmark_review.store.revocation import disable, enable, end_all

PersonsRole = Literal["reviewer", "senior", "supervisor", "auditor", "privacy_officer"]
"""`accounts.PEOPLE`, as the command line wants it: written out."""

user_app = typer.Typer(help="Local accounts.", no_args_is_help=True)


@user_app.command("add")
def add_user_command(
    name: Annotated[str, typer.Argument(help="How the account signs in.")],
    role: Annotated[PersonsRole, typer.Option(help="What the account is for.")] = "reviewer",
    data: DataOption = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")] = False,
) -> None:
    """Add an account; the password is asked for and never shown."""
    with opened(data) as service:
        if password_stdin:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        service.add_user(name, password, Role(role))
        typer.echo(f"added {role} {name!r}")


@user_app.command("sign-out")
def sign_out_command(name: Annotated[str, typer.Argument(help="The account's name.")], data: DataOption = None) -> None:
    """End every session of an account at once; what it holds goes back to the queue."""
    with opened(data) as service, service.database.writing() as conn:
        typer.echo(f"ended {end_all(conn, name, service.now())} sessions of {name!r}")


@user_app.command("disable")
def disable_user_command(name: Annotated[str, typer.Argument(help="The account's name.")], data: DataOption = None) -> None:
    """Close an account: its sessions end at once and it cannot sign in; what it decided stays."""
    with opened(data) as service, service.database.writing() as conn:
        typer.echo(f"closed {name!r}, and ended {disable(conn, name, service.now())} sessions")


@user_app.command("enable")
def enable_user_command(name: Annotated[str, typer.Argument(help="The account's name.")], data: DataOption = None) -> None:
    """Let a closed account sign in again."""
    with opened(data) as service, service.database.writing() as conn:
        enable(conn, name, service.now())
        typer.echo(f"opened {name!r}")
