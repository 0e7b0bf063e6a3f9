"""`earmark review`: serve, and look after accounts, devices, events and the log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from earmark_model.consents import MarkError, mark
from earmark_model.contract import SENSITIVE
from earmark_review import audit
from earmark_review.accounts import Role
from earmark_review.anchors import faults, head_of, read_anchor
from earmark_review.bundle_cli import bundle_app
from earmark_review.cases import Verdict
from earmark_review.errors import ReviewError, SettingsError
from earmark_review.export import export
from earmark_review.keystore import move_keys
from earmark_review.misses import misses_in_words
from earmark_review.service import Service, open_service
from earmark_review.settings import read_settings
from earmark_review.store.database import Database
from earmark_review.store.devices import list_devices, revoke_device
from earmark_review.store.exports import Gone, all_gone
from earmark_review.store.golden import add_golden
from earmark_review.store.missed import missed
from earmark_review.store.moving import move_rows
from earmark_review.store.overview import WEEKS, overview
from earmark_review.store.policies import issue_policy
from earmark_review.store.revocation import disable, enable, end_all
from earmark_review.store.service_figures import exposition
from earmark_review.store.users import count_users
from earmark_review.web.serving import listen, url_of
from earmark_review.web.serving import serve as serve_until_interrupted
from earmark_review.withdrawals import marks_of

app = typer.Typer(name="review", help="Where people decide on what devices flagged.", no_args_is_help=True)
user_app = typer.Typer(help="Local accounts.", no_args_is_help=True)
device_app = typer.Typer(help="Devices that may send events.", no_args_is_help=True)
event_app = typer.Typer(help="Events that devices sent.", no_args_is_help=True)
audit_app = typer.Typer(help="Whether the audit log is what it was.", no_args_is_help=True)
policy_app = typer.Typer(help="What devices are asked to send.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(device_app, name="device")
app.add_typer(event_app, name="event")
app.add_typer(policy_app, name="policy")
app.add_typer(audit_app, name="audit")

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of the database and the clips. [default: ./earmark-review, or $EARMARK_REVIEW_DATA]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@contextmanager
def _opened(data: Path | None, **overrides: object) -> Iterator[Service]:
    """The service behind a data folder; what it refuses becomes one line and exit status 1."""
    try:
        service = open_service(read_settings(data=data, **overrides))
        try:
            yield service
        finally:
            service.close()
    except ReviewError as error:
        typer.echo(f"earmark review: {error}", err=True)
        raise typer.Exit(1) from error


app.add_typer(bundle_app(_opened), name="bundle")


@app.command("serve")
def serve_command(
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes any free one. [default: 8600]")] = None,
) -> None:
    """Serve the review pages and the devices' intake until interrupted."""
    with _opened(data, host=host, port=port) as service:
        listener = listen(service.settings.host, service.settings.port)
        typer.echo(f"Earmark review at {url_of(listener)} (data in {service.settings.data}); Ctrl-C ends it")
        _warn(service)
        _log_to_stderr()
        serve_until_interrupted(service, listener)


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


@user_app.command("add")
def add_user_command(
    name: Annotated[str, typer.Argument(help="How the account signs in.")],
    role: Annotated[Role, typer.Option(help="What the account is for.")] = Role.REVIEWER,
    data: DataOption = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")] = False,
) -> None:
    """Add an account; the password is asked for and never shown."""
    with _opened(data) as service:
        if password_stdin:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        service.add_user(name, password, role)
        typer.echo(f"added {role} {name!r}")


@user_app.command("sign-out")
def sign_out_command(name: Annotated[str, typer.Argument(help="The account's name.")], data: DataOption = None) -> None:
    """End every session of an account at once; what it holds goes back to the queue."""
    with _opened(data) as service, service.database.writing() as conn:
        typer.echo(f"ended {end_all(conn, name, service.now())} sessions of {name!r}")


@user_app.command("disable")
def disable_user_command(name: Annotated[str, typer.Argument(help="The account's name.")], data: DataOption = None) -> None:
    """Close an account: its sessions end at once and it cannot sign in; what it decided stays."""
    with _opened(data) as service, service.database.writing() as conn:
        typer.echo(f"closed {name!r}, and ended {disable(conn, name, service.now())} sessions")


@user_app.command("enable")
def enable_user_command(name: Annotated[str, typer.Argument(help="The account's name.")], data: DataOption = None) -> None:
    """Let a closed account sign in again."""
    with _opened(data) as service, service.database.writing() as conn:
        enable(conn, name, service.now())
        typer.echo(f"opened {name!r}")


@device_app.command("enrol")
def enrol_device_command(
    name: Annotated[str, typer.Argument(help="A name for the device.")],
    hours: Annotated[float, typer.Option(min=0.1, max=168, help="How long the code is good for.")] = 1.0,
    data: DataOption = None,
) -> None:
    """Print a one-time code, with which the device enrols itself: `earmark edge enrol URL --code CODE`."""
    with _opened(data) as service:
        code = service.offer_enrolment(name, timedelta(hours=hours))
        typer.echo(f"on the device, within {hours:g} h: earmark edge enrol URL --code CODE", err=True)
        typer.echo(f"it must show this service's fingerprint: {service.identity.fingerprint}", err=True)
        typer.echo(code)


@device_app.command("list")
def list_devices_command(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the enrolled devices."""
    with _opened(data) as service, service.database.reading() as conn:
        found = list_devices(conn)
    if as_json:
        for device in found:
            times = {name: getattr(device, name) for name in ("created_at", "revoked_at", "last_seen_at")}
            typer.echo(json.dumps({"name": device.name, **{name: at.isoformat() if at else None for name, at in times.items()}}))
        return
    table = Table("name", "enrolled", "last seen", "revoked")
    for device in found:
        times_shown = (device.created_at, device.last_seen_at, device.revoked_at)
        table.add_row(device.name, *(f"{at:%Y-%m-%d %H:%M} UTC" if at else "never" for at in times_shown))
    Console().print(table if found else "no devices; enrol one with `earmark review device enrol NAME`")


@device_app.command("revoke")
def revoke_device_command(name: Annotated[str, typer.Argument(help="The device's name.")], data: DataOption = None) -> None:
    """Make a device's token worthless from now on."""
    with _opened(data) as service:
        with service.database.writing() as conn:
            revoke_device(conn, name, service.now())
        typer.echo(f"revoked {name!r}")


@event_app.command("delete")
def delete_event_command(
    device: Annotated[str, typer.Argument(help="The device that sent it.")],
    event_id: Annotated[str, typer.Argument(help="The event's id.")],
    data: DataOption = None,
) -> None:
    """Delete an event, its case and its clips; a tombstone refuses it from then on."""
    with _opened(data) as service:
        service.delete_event(device, event_id)
        typer.echo(f"deleted {event_id!r} of {device!r}")


@policy_app.command("issue")
def issue_policy_command(
    tiers: Annotated[str, typer.Option(help="What devices may send, of 0 (scores), 1 (picture), 2 (masked), 3 (original).")],
    labels: Annotated[str, typer.Option(help="Sounds that are routed here.")] = ",".join(SENSITIVE),
    urgent: Annotated[str, typer.Option(help="Of these, the ones that are sent first and dropped last.")] = "scream",
    slice_probability: Annotated[
        float,
        typer.Option(
            "--slice", metavar="P", help="Draw each sound below the threshold with this probability, where homes consented to it."
        ),
    ] = 0.0,
    data: DataOption = None,
) -> None:
    """Put the next version of the policy in force; a device refuses one that its household did not consent to."""
    with _opened(data) as service:
        try:
            wanted = [int(tier) for tier in tiers.split(",") if tier.strip()]
            with service.database.writing() as conn:
                policy = issue_policy(conn, wanted, _words(labels), _words(urgent), service.now(), slice_probability)
        except ValueError as error:
            typer.echo(f"earmark review: {error}", err=True)
            raise typer.Exit(2) from error
        typer.echo(f"policy {policy.version} is in force; devices take it with their next heartbeat")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


@app.command("move")
def move_command(
    to: Annotated[str, typer.Option("--to", help="Address of an empty database: postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH.")],
    keys_to: Annotated[
        str | None, typer.Option("--keys-to", help="Address of another one for the wrapped keys, if they are to move.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Copy everything but the clips into another database, such as from SQLite to PostgreSQL; stop the service before."""
    with _opened(data) as service, Progress(console=Console(stderr=True)) as progress:
        shown = progress.add_task("copying", total=None)
        target = Database(to)
        try:
            target.migrate()
            copied = move_rows(service.database, target, lambda table, count: progress.update(shown, description=f"{table}: {count}"))
        finally:
            target.close()
        moved = move_keys(service.keys, keys_to) if keys_to else None
    typer.echo(f"{sum(copied.values())} rows of {len(copied)} tables copied, {copied['audit_log']} entries of the log among them")
    if moved is not None:
        typer.echo(f"{moved} wrapped keys copied; delete keys/wrapped.db once the service runs with EARMARK_REVIEW_KEYS")
    typer.echo("start the service with EARMARK_REVIEW_DATABASE set to the new address, and keep the old database until it runs")


@event_app.command("erase-household")
def erase_household_command(
    consent_id: Annotated[str, typer.Argument(metavar="CONSENT_ID", help="The household's record of consent.")], data: DataOption = None
) -> None:
    """Delete every event that came under a household's consent, their cases and clips; tombstones refuse them from then on.

    What of it was exported is deleted there, and the export and the models made of it are marked; what cannot be reached is told.
    """
    with _opened(data) as service:
        typer.echo(f"deleted {service.erase_household(consent_id)} events")
        _tell_missed(service.reach_exports().missed)


def _tell_missed(missed: Sequence[str]) -> None:
    for line in missed:
        typer.echo(f"earmark review: {line}", err=True)


@app.command("withdrawals")
def withdrawals_command(
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write everything that was ever withdrawn here, for `earmark model withdraw --mark`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let withdrawals and deletions reach exports and the models made of them; exit status 1 where some cannot be reached.

    The running service does so each minute. What was withdrawn is deleted from the export's folder; its manifest and the models carry
    the mark `withdrawn.json`, on which `train.py` and `earmark model export` refuse them.
    """
    with _opened(data) as service:
        reached = service.reach_exports()
        with service.database.reading() as conn:
            gone = all_gone(conn)
        if out is not None:
            _write_marks(out, gone)
    if as_json:
        lists = {"exports": [str(path) for path in reached.exports], "models": [str(path) for path in reached.models]}
        typer.echo(json.dumps({"withdrawn": len(gone), **lists, "missed": list(reached.missed)}))
    else:
        typer.echo(f"{len(gone)} exported rows are withdrawn; marked now: {len(reached.exports)} exports, {len(reached.models)} models")
    _tell_missed(reached.missed)
    if reached.missed:
        raise typer.Exit(1)


def _write_marks(out: Path, gone: Sequence[Gone]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        mark(out, marks_of(gone))
    except (OSError, MarkError) as error:
        msg = f"{out}: the marks cannot be written ({error})"
        raise SettingsError(msg) from error


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option("--out", help="A new folder for the corpus.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write verdicts as labels, and the clips whose households consented to training as a corpus for `train.py`."""
    with _opened(data) as service:
        made = export(service, out)
    if as_json:
        typer.echo(json.dumps(asdict(made)))
        return
    typer.echo(f"{made.rows} verdicts in {out / 'verdicts.csv'}; {made.labels} labels in {out / 'manifest.csv'}, {made.clips} with sound")
    if not made.clips:
        typer.echo("nothing to train with yet: no household consented to training, or none of its cases is settled", err=True)
    if made.missing:
        typer.echo(f"{made.missing} more could not be opened, or came without their original", err=True)


@app.command("metrics")
def metrics_command(data: DataOption = None) -> None:
    """Print the figures for Prometheus, such as for a node exporter's text file; no household, device or person is named."""
    with _opened(data) as service, service.database.reading() as conn:
        typer.echo(exposition(conn, service.settings.limits, service.now()), nl=False)


@app.command("misses")
def misses_command(
    data: DataOption = None,
    weeks: Annotated[int, typer.Option(min=1, max=520, help="Count the events of the last so many weeks.")] = WEEKS,
    as_json: JsonOption = False,
) -> None:
    """Estimate how many sounds the ear missed, with an interval, from the random slice that homes consented to, and from canaries.

    The policy's `--slice P` draws sounds below the threshold; each that a reviewer confirms stands for 1/P of them.
    """
    with _opened(data) as service, service.database.reading() as conn:
        found = missed(conn, service.now() - timedelta(weeks=weeks))
        canaries = [health.canary for health in overview(conn, service.now()).devices]
    heard, lost = canaries.count("passed"), canaries.count("missed")
    if as_json:
        typer.echo(json.dumps({"weeks": weeks, **asdict(found), "canaries_heard": heard, "canaries_missed": lost}))
        return
    typer.echo(f"homes that let a slice be drawn: {found.homes}; the last {weeks} weeks")
    for line in misses_in_words(found):
        typer.echo(line)
    typer.echo(f"canaries: of {heard + lost} devices that play them {lost} missed their last")


@app.command("golden")
def golden_command(
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="The settled case's id, as its page's address has it.")],
    expected: Annotated[Verdict, typer.Argument(metavar="VERDICT", help="The answer that is known to be right.")],
    data: DataOption = None,
) -> None:
    """Mix a settled case in among the others, unmarked, for whoever has not judged it."""
    with _opened(data) as service:
        with service.database.writing() as conn:
            add_golden(conn, case_id, expected, service.now())
        typer.echo(f"case {case_id[:8]} is golden: {expected}")


@audit_app.command("head")
def audit_head_command(data: DataOption = None) -> None:
    """Print the log's signed head, one line of JSON: mail it, print it, or put it wherever nobody here can change it."""
    with _opened(data) as service, service.database.reading() as conn:
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
    with _opened(data) as service:
        typer.echo("anchored" if service.anchor(to) else "nothing new since the last head")


@audit_app.command("mail")
def audit_mail_command(data: DataOption = None) -> None:
    """Mail the log's signed head now, as the running service does with EARMARK_REVIEW_AUDIT_MAIL_TO; also to try the settings."""
    with _opened(data) as service:
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
    with _opened(data) as service:
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


@app.command("log")
def log_command(
    data: DataOption = None,
    after: Annotated[int, typer.Option(min=0, help="Show entries after this number.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Print the audit log and check that its chain holds; exit status 1 where it is broken."""
    with _opened(data) as service, service.database.reading() as conn:
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
