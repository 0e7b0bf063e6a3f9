"""Checks of the way out and of the listener that runs: keys, consent, outbox, connection, its own status."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from earmark_edge.consent import ConsentError
from earmark_edge.consent_records import read_consent
from earmark_edge.doctor.check import Check, fail, ok, warn
from earmark_edge.keys import ENROLMENT_FILE, Credentials, KeyFileError, read_credentials
from earmark_edge.listen.status import StatusError, read_status, troubles
from earmark_edge.oneline import one_line
from earmark_edge.spool import SPOOL_FILE, SpoolError, refusals
from earmark_edge.uplink import CONSENT_REQUIRED, AddressError, Backoff, Uplink, UplinkError

_STALE_S = 120.0
_SOON = timedelta(days=14)


def check_way_out(state: Path, now: datetime, connect: Callable[[Credentials], Uplink] | None = None) -> Iterator[Check]:
    """Keys, consent and connection; where the device is not enrolled, that alone."""
    if not (state / ENROLMENT_FILE).exists():
        yield warn("keys", "not enrolled: events are shown here and sent nowhere", "earmark edge enrol URL --code CODE, if they should be")
        return
    try:
        credentials = read_credentials(state)
    except KeyFileError as error:
        yield fail("keys", one_line(error), "set right what it says, or enrol again")
        return
    yield ok("keys", f"enrolled as {one_line(credentials.enrolment.device)!r}; key files are their owner's alone")
    yield _consent(state, credentials, now)
    yield from _refused(state)
    yield _connection(credentials, connect or (lambda known: Uplink(known, timeout_s=10.0, backoff=Backoff(attempts=1))))


def check_listener(state: Path, now: datetime) -> tuple[int | None, list[Check]]:
    """The listener's own word: its process number if it runs, and what it says of inputs, canaries and delivery."""
    try:
        status = read_status(state)
    except StatusError as error:
        return None, [warn("listener", str(error), "start it: systemctl start earmark, or earmark edge listen")]
    pid = int(status["pid"])
    if not status["is_running"] or not _is_alive(pid):
        ended = "ended in order" if not status["is_running"] else "was killed or crashed"
        return None, [
            warn("listener", f"not running; it {ended} at {status['at']}", "start it: systemctl start earmark, or earmark edge listen")
        ]
    age_s = (now - datetime.fromisoformat(status["at"])).total_seconds()
    if age_s < -_STALE_S:
        said = f"process {pid} wrote its status {-age_s:.0f} s ahead of now: the clock was set back"
        return pid, [fail("listener", said, "run `earmark edge doctor` again in a minute; if it says the same, systemctl restart earmark")]
    if age_s > _STALE_S:
        return pid, [
            fail("listener", f"process {pid} has not written its status for {age_s:.0f} s", "restart it: systemctl restart earmark")
        ]
    return pid, [
        ok("listener", f"process {pid} runs since {status['started_at']}"),
        *_streams(status, now),
        *_offered(status),
        *_delivery(status),
    ]


def _streams(status: Mapping[str, Any], now: datetime) -> Iterator[Check]:
    if status["muted_by"]:
        yield warn("mute", f"muted by {' and '.join(status['muted_by'])}: nothing is heard", "remove the mute file, or send SIGUSR2")
    for stream in status["streams"]:
        name, canary = f"stream {one_line(stream['name'])}", stream["canary"]
        wrong = troubles(stream)
        last = canary["last_heard_at"]
        if wrong:
            yield fail(name, "; ".join(wrong), "see `journalctl -u earmark`")
        elif (
            canary["every_s"]
            and last
            and (now - datetime.fromisoformat(last)).total_seconds() > 2 * canary["every_s"]
            and not status["muted_by"]
        ):
            yield fail(name, f"no canary was heard since {last}", "the input may have stopped; restart it: systemctl restart earmark")
        else:
            heard = f"last canary heard at {last}" if last else "no canary yet"
            said = f"{stream['heard_s']:.0f} s heard, {stream['events']} events, {stream['restarts']} restarts; {heard}"
            if canary["missed"]:
                said += f"; {canary['missed']} of {canary['missed'] + canary['heard']} canaries missed since the start"
                yield warn(name, said, "see `journalctl -u earmark` for when; a real scream may have been missed then")
            else:
                yield ok(name, said)


def _offered(status: Mapping[str, Any]) -> Iterator[Check]:
    told = status.get("bundle") or {}
    if not told.get("offered_version"):
        return
    said = f"bundle {told['bundle_version'] or 'that ships'} runs; bundle {told['offered_version']} was offered last"
    if told["trial"] == "shadow":
        yield ok("offered bundle", f"{said}, and runs in shadow until its canaries pass")
    elif told["trial"]:
        reason = told["trial"].replace("_", " ")
        yield warn("offered bundle", f"{said}, and failed its trial: {reason}", "nothing here; whoever offered it is told")
    else:
        yield ok("offered bundle", said)


def _delivery(status: Mapping[str, Any]) -> Iterator[Check]:
    counts = status["delivery"]
    if not counts:
        return
    said = ", ".join(
        f"{counts[name]} {name.replace('_', ' ')}" for name in ("waiting", "sent", "set_aside", "stayed_here") if name in counts
    )
    if counts.get("set_aside") or counts.get("stayed_here"):
        yield warn("outbox", said, "`earmark edge send --now` tries again; `journalctl -u earmark` says why something stayed")
    else:
        yield ok("outbox", said)


def _consent(state: Path, credentials: Credentials, now: datetime) -> Check:
    try:
        consent = read_consent(state, credentials.device_key)
        consent.check_holds(now)
    except ConsentError as error:
        return warn("consent", one_line(error), "the household decides: earmark edge consent give")
    until = datetime.fromisoformat(consent.expires_at)
    if until - now < _SOON:
        return warn("consent", f"ends on {until:%Y-%m-%d}", "renew it in time: earmark edge consent give")
    return ok("consent", f"{consent.consent_id} stands until {until:%Y-%m-%d}")


def _refused(state: Path) -> Iterator[Check]:
    """What the service did not take, in its own words; nothing of it is lost meanwhile."""
    if not (state / SPOOL_FILE).exists():
        return
    try:
        found = refusals(state / SPOOL_FILE)
    except SpoolError as error:
        yield fail("refused", one_line(error), "move the file away if it is damaged; what can be read of it is kept")
        return
    if not found:
        return
    said = f"the service did not take {len(found)} events, which are kept and tried again; the last: {one_line(found[-1])}"
    if any(CONSENT_REQUIRED in each for each in found):
        advice = "`earmark edge send --now` sends the record of consent again; if it is too narrow: earmark edge consent give"
        yield warn("refused", said, advice)
    else:
        yield warn("refused", said, "`earmark edge send --now` tries again at once; whoever runs the service can tell more")


def _connection(credentials: Credentials, connect: Callable[[Credentials], Uplink]) -> Check:
    """A signed answer to a signed question proves address, certificate, token and keys at once."""
    try:
        with connect(credentials) as uplink:
            uplink.policy()
    except AddressError as error:
        return fail("connection", one_line(error), "enrol again with the right address")
    except UplinkError as error:
        return fail("connection", one_line(error), "check the network; events wait in the outbox meanwhile")
    return ok("connection", f"{one_line(credentials.enrolment.url)} answers and knows this device")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
