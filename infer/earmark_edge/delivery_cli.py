"""The commands by which a device gets out what it flagged: `enrol`, `consent`, `send`, `ledger`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from earmark_edge.announce.store import STORE_FILE, Announced, AnnounceStore, AnnounceStoreError
from earmark_edge.consent import Consent, ConsentError
from earmark_edge.consent_records import read_consent, write_consent
from earmark_edge.courier import Courier, MutedError
from earmark_edge.enrolling import enrol
from earmark_edge.keys import ENROLMENT_FILE, KeyFileError, device_key, read_credentials
from earmark_edge.ledger import LedgerEntry, announced_json, lines_of, lines_of_announced
from earmark_edge.listen.mute import BY_SWITCH
from earmark_edge.listen.status import StatusError, read_status
from earmark_edge.messages import Status, status_of
from earmark_edge.oneline import one_line
from earmark_edge.policy import PolicyError
from earmark_edge.settings import EdgeSettings, SettingsError
from earmark_edge.spool import SPOOL_FILE, Spool, SpoolError, open_spool
from earmark_edge.uplink import AddressError, Uplink, UplinkError
from earmark_edge.wire import WireError, canonical_json
from earmark_model.contract import SENSITIVE

FAILED, MISUSED = 1, 2
MOST_STATUSES = 200
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="The device's folder of key, consent and outbox. [default: $EARMARK_STATE, else the user's state folder]"),
]


@dataclass(frozen=True, slots=True)
class WayOut:
    """Everything that sending needs, opened."""

    courier: Courier
    uplink: Uplink
    consent_id: str


@contextmanager
def way_out(settings: EdgeSettings, tell: Callable[[str], None]) -> Iterator[WayOut]:
    """Open the outbox and the connection, after a check that something may leave at all.

    Raises:
        KeyFileError: the device is not enrolled, or a key file is damaged or open to others.
        ConsentError, MutedError: nothing may leave.
        SpoolError: the outbox cannot be opened.
        AddressError, UplinkError: the service's address cannot be used, or the HTTP client is missing.
    """
    credentials = read_credentials(settings.state)
    _check_switch(settings.state)
    spool = open_spool(settings.state / SPOOL_FILE, settings.outbox_bytes, tell)
    try:
        courier = Courier(settings.state, credentials, spool, tell=tell)
        consent_id = courier.consent().consent_id
        with Uplink(credentials) as uplink:
            yield WayOut(courier, uplink, consent_id)
    finally:
        spool.close()


def _check_switch(state: Path) -> None:
    """The listener alone can read the mute switch, so its last word on it stands, though it may not run any more.

    Raises:
        MutedError: the switch was on.
    """
    with contextlib.suppress(StatusError):  # no listener ever ran here, so there is no switch
        if BY_SWITCH in str(read_status(state).get("muted_by")):
            msg = "the mute switch is on, by the listener's last word; nothing leaves until it is off and `earmark edge listen` runs"
            raise MutedError(msg)


def add_delivery_commands(app: typer.Typer) -> None:
    """Hang the commands into the group."""
    consent_app = typer.Typer(no_args_is_help=True, help="The household's consent, without which nothing leaves.")
    app.command("enrol")(enrol_command)
    app.command("send")(send_command)
    app.command("ledger")(ledger_command)
    consent_app.command("give")(give_consent_command)
    consent_app.command("show")(show_consent_command)
    consent_app.command("withdraw")(withdraw_consent_command)
    app.add_typer(consent_app, name="consent")


def enrol_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="The review service's address, such as https://review.example.org.")],
    code: Annotated[str, typer.Option(help="The one-time code that `earmark review device enrol NAME` printed.")],
    state: StateOption = None,
) -> None:
    """Enrol this device with a review service.

    Makes the device's signing key where there is none, exchanges the code for a token, and keeps the service's public keys, to which
    everything is sealed. Compare the fingerprint with the one that the service printed beside the code.

    Example: `earmark edge enrol https://review.example.org --code 7QMKB-2XVDT-9HRWN`
    """
    with _told_errors():
        settings = _settings(state)
        enrolment = enrol(url, code, settings.state)
        typer.echo(f"enrolled as {enrolment.device!r} with {enrolment.url}; keys in {settings.state}")
        typer.echo(f"the service's fingerprint: {enrolment.fingerprint}")
        typer.echo("nothing leaves yet: the household consents with `earmark edge consent give`")


def give_consent_command(
    tiers: Annotated[str, typer.Option(help="How much may leave: of 0 (scores), 1 (picture), 2 (masked audio), 3 (original audio).")],
    days: Annotated[float, typer.Option(min=0.01, max=3660, help="How long it stands.")] = 365.0,
    labels: Annotated[str, typer.Option(help="Which sounds may leave.")] = ",".join(SENSITIVE),
    training: Annotated[bool, typer.Option("--training/--no-training", help="Whether what reviewers decide may train models.")] = False,
    slices: Annotated[
        bool,
        typer.Option(
            "--slice/--no-slice", help="Whether a random few sounds below the threshold may leave too, masked, to count what is missed."
        ),
    ] = False,
    consent_id: Annotated[str | None, typer.Option("--id", help="A name for the record; a random one otherwise.")] = None,
    state: StateOption = None,
) -> None:
    """Record the household's consent, signed by this device. Ask everyone who lives here first.

    It replaces the record before it. Tier 3, the sound itself, leaves only where a policy of the service asks for it, too, and two people
    there agree to open it; tier 2 is made on this device so that speech cannot be understood. `earmark edge ledger` shows what left.

    Example: `earmark edge consent give --tiers 0,1,2 --labels scream,baby_cry --days 90`
    """
    with _told_errors():
        folder, now = _settings(state).state, datetime.now(UTC)
        wanted = sorted({_tier(word) for word in tiers.split(",") if word.strip()})
        routed = tuple(sorted({word.strip() for word in labels.split(",") if word.strip()}))
        expires = now + timedelta(days=days)
        name = consent_id or f"consent-{secrets.token_hex(8)}"
        consent = Consent(name, tuple(wanted), training, now.isoformat(), expires.isoformat(), routed, may_slice=slices)
        write_consent(folder, device_key(folder), consent)
        typer.echo(f"consent {name!r} stands until {expires:%Y-%m-%d}; `earmark edge consent withdraw` ends it at once")


def show_consent_command(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show the record that stands; exit status 2 where none does."""
    with _told_errors():
        folder = _settings(state).state
        consent = read_consent(folder, device_key(folder))
        if as_json:
            typer.echo(json.dumps(asdict(consent)))
        else:
            for name, value in asdict(consent).items():
                typer.echo(f"{name:<13}{', '.join(map(str, value)) if isinstance(value, tuple) else value}")
        consent.check_holds(datetime.now(UTC))


def withdraw_consent_command(state: StateOption = None) -> None:
    """End consent at once: nothing leaves from now on, and what waits in the outbox is wiped."""
    with _told_errors():
        settings = _settings(state)
        key = device_key(settings.state)
        consent = replace(read_consent(settings.state, key), withdrawn_at=datetime.now(UTC).isoformat())
        write_consent(settings.state, key, consent)
        with _spool(settings) as spool:
            wiped = spool.withdraw(consent.consent_id)
        typer.echo(f"consent {consent.consent_id!r} is withdrawn; {wiped} events that had not left were wiped")
        if not (settings.state / ENROLMENT_FILE).exists():
            return  # there is no service to tell
        try:
            with Uplink(read_credentials(settings.state)) as uplink:
                uplink.send_consent(consent.to_bytes())
        except (UplinkError, KeyFileError) as error:
            typer.echo(f"the review service was not told ({error}); nothing leaves all the same", err=True)


def send_command(
    now: Annotated[bool, typer.Option("--now", help="Try again at once what the service refused before.")] = False,
    state: StateOption = None,
) -> None:
    """Send what waits in the outbox: all metadata first, then clips, urgent ones before others.

    A device that listens with --send does this by itself. Exit status: 0 nothing waits any more, 1 something does, 2 not enrolled or no
    consent.
    """
    with _told_errors(), way_out(_settings(state), _tell) as out:
        if now:
            out.courier.spool.retry_all()
        done = out.courier.deliver(out.uplink)
        counts = out.courier.spool.counts()
        typer.echo(f"sent {done.delivered} events; {counts.events} wait, of which {counts.set_aside} were refused for now")
        if done.trouble:
            _tell(f"error: {done.trouble}")
        if counts.events:
            raise typer.Exit(FAILED)


def ledger_command(
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the service what became of it.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show the household what left, when, why, who heard it, and what was decided; then what its own systems were told.

    The service is asked what became of each event; where it does not answer, what it said last stands. What was never flagged is not here,
    since nothing of it was kept.
    """
    with _told_errors():
        settings = _settings(state)
        with _spool(settings) as spool:
            if not offline:
                _ask_statuses(settings, spool)
            entries = [LedgerEntry.of(row, _status(row["status"])) for row in spool.rows()]
            unreadable = spool.known() - len(entries)
        for entry in entries:
            typer.echo(json.dumps(entry.as_json()) if as_json else "\n    ".join(one_line(line) for line in lines_of(entry)))
        told = _announced(settings.state)
        for each in told:
            typer.echo(json.dumps(announced_json(each)) if as_json else "\n    ".join(map(one_line, lines_of_announced(each))))
        if unreadable:
            _tell(f"{unreadable} more events are not told of here: this device's disk lost part of what was noted of them")
        elif not entries and not told:
            typer.echo("nothing has left, and nothing waits to", err=as_json)


def _status(payload: bytes | None) -> Status | None:
    """What the service said last; None where it was not asked, or where the disk lost some of its answer."""
    try:
        return status_of(payload) if payload else None
    except WireError:
        return None


def _announced(state: Path) -> list[Announced]:
    if not (state / STORE_FILE).exists():
        return []
    store = AnnounceStore(state / STORE_FILE, tell=_tell)
    try:
        return list(store.rows())
    finally:
        store.close()


def _ask_statuses(settings: EdgeSettings, spool: Spool) -> None:
    """Bring the service's word up to date; what it said last stands where it cannot be asked."""
    event_ids = [row["event_id"] for row in spool.rows() if row["state"] in {"announced", "delivered", "gone"}]
    if not event_ids:
        return
    try:
        with Uplink(read_credentials(settings.state)) as uplink:
            for at in range(0, len(event_ids), MOST_STATUSES):
                for status in uplink.statuses(event_ids[at : at + MOST_STATUSES]):
                    spool.keep_status(status.event_id, canonical_json(asdict(status)))
    except (UplinkError, KeyFileError) as error:
        _tell(f"the review service could not be asked ({error}); this is what it said last")


@contextmanager
def _spool(settings: EdgeSettings) -> Iterator[Spool]:
    spool = open_spool(settings.state / SPOOL_FILE, settings.outbox_bytes, _tell)
    try:
        yield spool
    finally:
        spool.close()


@contextmanager
def _told_errors() -> Iterator[None]:
    """What is refused becomes one line: exit status 2 for what the caller can set right, 1 for what failed."""
    try:
        yield
    except (SettingsError, AddressError, ConsentError, KeyFileError, WireError) as error:
        _tell(f"error: {error}")
        raise typer.Exit(MISUSED) from error
    except (UplinkError, SpoolError, PolicyError, MutedError, AnnounceStoreError) as error:
        _tell(f"error: {error}")
        raise typer.Exit(FAILED) from error


def _settings(state: Path | None) -> EdgeSettings:
    settings = EdgeSettings.from_environment(os.environ)
    return replace(settings, state=state) if state is not None else settings


def _tier(word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        msg = f"--tiers: expected numbers from 0 to 3, such as 0,1,2; got {word!r}"
        raise WireError(msg) from error


def _tell(line: str) -> None:
    sys.stderr.write(one_line(line, 1_000) + "\n")
