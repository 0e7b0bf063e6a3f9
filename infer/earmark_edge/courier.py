"""Takes detections' parcels in and gets them out: nothing without consent, nothing while muted, sealed before it touches a disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from earmark_edge.consent import Consent, ConsentError
from earmark_edge.keys import Credentials, KeyFileError, read_private, write_private
from earmark_edge.messages import Heartbeat
from earmark_edge.outbox import Parcel
from earmark_edge.policy import Policy, PolicyError, check_adoptable
from earmark_edge.seal import seal_parcel
from earmark_edge.signature import Purpose, SignatureError, check, public_of, sign
from earmark_edge.spool import Spool, SpooledEvent
from earmark_edge.uplink import EventGoneError, SignedReceipt, Uplink, UplinkDownError, UplinkError
from earmark_edge.wire import WireError, parse_object

CONSENT_FILE, POLICY_FILE, MUTE_FILE = "consent.json", "policy.json", "mute"
_TIERS_WITHOUT_POLICY = (0, 1, 2)
"""Original audio leaves only where the household consents to it and a signed policy asks for it."""
_DEFAULT_URGENT = ("scream",)


class MutedError(PermissionError):
    """The device is muted: nothing is taken and nothing leaves."""


def read_consent(state: Path, device_key: bytes) -> Consent:
    """The household's record of consent, if it is the one that this device signed.

    Raises:
        ConsentError: there is none, or it was altered.
    """
    path = state / CONSENT_FILE
    if not path.exists():
        msg = "there is no consent record, without which nothing leaves; the household gives it with `earmark edge consent give`"
        raise ConsentError(msg)
    try:
        payload, signature = _read_signed(path)
        check(public_of(device_key), Purpose.CONSENT, payload, signature)
        return Consent.from_bytes(payload)
    except (KeyFileError, SignatureError, WireError, ValueError) as error:
        msg = f"{path}: not a record that this device signed ({error}); nothing leaves until `earmark edge consent give`"
        raise ConsentError(msg) from error


def write_consent(state: Path, device_key: bytes, consent: Consent) -> None:
    """Sign a record and keep it, in place of the one before.

    Raises:
        KeyFileError: it cannot be written.
    """
    payload = consent.to_bytes()
    _write_signed(state / CONSENT_FILE, payload, sign(device_key, Purpose.CONSENT, payload))


def read_policy(state: Path, signing_key: bytes) -> Policy | None:
    """The policy in force, if the service signed it; None where there is none.

    Raises:
        PolicyError: the file was altered or is damaged.
    """
    path = state / POLICY_FILE
    if not path.exists():
        return None
    try:
        payload, signature = _read_signed(path)
        check(signing_key, Purpose.POLICY, payload, signature)
        return Policy.from_bytes(payload)
    except (KeyFileError, SignatureError, WireError, ValueError) as error:
        msg = f"{path}: not a policy that the service signed ({error}); move it away, and the device asks for it again"
        raise PolicyError(msg) from error


def is_muted(state: Path) -> bool:
    """Whether the mute file is there."""
    return (state / MUTE_FILE).exists()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a round of sending came to: events that the service now holds whole, and why it ended early, or ""."""

    delivered: int
    trouble: str = ""


class Courier:
    """A device's way out: its keys, its outbox, and the rules on what may leave, read anew each time."""

    def __init__(
        self,
        state: Path,
        credentials: Credentials,
        spool: Spool,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.state, self.credentials, self.spool = state, credentials, spool
        self._now, self._tell = now, tell
        self._consent_sent: bytes | None = None

    def consent(self) -> Consent:
        """The consent that stands.

        Raises:
            ConsentError: there is none, it was altered, withdrawn, or has expired.
            MutedError: the device is muted.
        """
        if is_muted(self.state):
            msg = "the device is muted; nothing is taken and nothing leaves until it is unmuted"
            raise MutedError(msg)
        consent = read_consent(self.state, self.credentials.device_key)
        consent.check_holds(self._now())
        return consent

    def policy(self) -> Policy | None:
        """The policy in force.

        Raises:
            PolicyError: its file was altered or is damaged.
        """
        return read_policy(self.state, self.credentials.enrolment.signing_key)

    def slice_probability(self) -> float:
        """With which a sound below the threshold may be drawn now; 0 unless household and policy both let it be."""
        try:
            consent, policy = self.consent(), self.policy()
        except (ConsentError, MutedError, PolicyError, KeyFileError):
            return 0.0
        return policy.slice_probability if policy and consent.may_slice else 0.0

    def accept(self, parcel: Parcel) -> bool:
        """Seal what of a parcel may leave, and put it into the outbox durably; False where its event was there already.

        What consent and policy do not both allow is left out here, so that it is never written anywhere.

        Raises:
            ConsentError, MutedError, PolicyError: nothing of it may leave; nothing was written.
            WireError: it does not fit the wire format.
            SpoolFullError: there is no room, not even for the event.
        """
        consent, policy = self.consent(), self.policy()
        event = parcel.event
        labels = set(consent.labels) & set(policy.labels if policy else consent.labels)
        if event.label not in labels:
            msg = f"{event.label} is not among the sounds that may leave ({', '.join(sorted(labels))}); see `earmark edge consent`"
            raise ConsentError(msg)
        if event.slice_probability is not None and event.slice_probability != self.slice_probability():
            msg = "what was drawn to count misses may no longer leave: the household's record or the policy has changed meanwhile"
            raise ConsentError(msg)
        tiers = set(consent.tiers) & set(policy.tiers if policy else _TIERS_WITHOUT_POLICY)
        clips = tuple(clip for clip in event.clips if clip.tier in tiers)
        version = policy.version if policy else 0
        event = replace(event, clips=clips, consent_id=consent.consent_id, policy_version=version)
        enrolment = self.credentials.enrolment
        sealed = seal_parcel(event, parcel.payloads, self.credentials.device_key, enrolment.sealing_key)
        return self.spool.put(sealed, is_urgent=event.label in (policy.urgent if policy else _DEFAULT_URGENT))

    def deliver(self, uplink: Uplink) -> Delivery:
        """Send whatever is due: consent, then all metadata, then clips; an event refused waits by itself, and the others go on."""
        delivered = 0
        try:
            self._send_consent(uplink)
            while self._step(uplink):
                delivered += self._done
        except (UplinkDownError, ConsentError, MutedError) as error:
            return Delivery(delivered, str(error))
        except UplinkError as error:  # consent itself was refused
            return Delivery(delivered, str(error))
        return Delivery(delivered)

    _done = 0

    def _step(self, uplink: Uplink) -> bool:
        """Send the one thing that comes first; False where nothing is due."""
        self._done = 0
        self.consent()  # mute wins at once, in the middle of a queue too
        event = self.spool.next_event()
        if event is not None:
            self._send(event, lambda: uplink.announce(event), ())
            return True
        dropped = self.spool.next_dropped()
        if dropped is not None:
            self._send(dropped[0], lambda: uplink.drop(*dropped), dropped[1])
            return True
        sealed = self.spool.next_object()
        if sealed is None:
            return False
        owner = self.spool.event(sealed.event_id)
        assert owner is not None, "an object without its event"
        self._send(owner, lambda: uplink.upload(owner, sealed), (sealed.tier,))
        return True

    def _send(self, event: SpooledEvent, request: Callable[[], SignedReceipt], settled: tuple[int, ...]) -> None:
        """Make a request whose receipt must not still miss the tiers `settled`."""
        try:
            signed = request()
        except EventGoneError:
            self.spool.record_gone(event.event_id)
            self._tell(f"event {event.event_id}: the service deleted it; wiped here too")
        except UplinkDownError:
            raise
        except UplinkError as error:
            self.spool.set_aside(event.event_id, str(error))
            self._tell(f"error: event {event.event_id} was not taken and is tried again later: {error}")
        else:
            self.spool.record_receipt(signed.receipt, signed.raw, signed.signature)
            self._done = int(not signed.receipt.tiers_missing)
            if forgotten := sorted({*settled} & {*signed.receipt.tiers_missing}):
                self.spool.set_aside(event.event_id, f"the service still misses tiers {forgotten} after they were sent")

    def _send_consent(self, uplink: Uplink) -> None:
        payload = self.consent().to_bytes()
        if self._consent_sent != payload and self.spool.counts().events:
            uplink.send_consent(payload)
            self._consent_sent = payload

    def adopt_policy(self, uplink: Uplink) -> Policy | None:
        """Ask for the policy in force and adopt it, where it is newer and within consent; returns the one now in force.

        Raises:
            PolicyError: it is refused, and the one in force stays.
            ConsentError, MutedError: see `consent`.
            UplinkError: see `Uplink.policy`.
        """
        consent, current = self.consent(), self.policy()
        answer = uplink.policy()
        if answer is None:
            return current
        try:
            new = Policy.from_bytes(answer[0])
        except WireError as error:
            raise PolicyError(str(error)) from error
        check_adoptable(new, current, consent)
        if new != current:
            _write_signed(self.state / POLICY_FILE, *answer)
        return new

    def heartbeat(self, boot_id: str, next_seq: int, config_sha256: str, model_sha256: str, canary: str = "") -> Heartbeat:
        """The device in counts. It goes out while muted too: that the device is muted is what it reports."""
        counts = self.spool.counts()
        try:
            consent_id = read_consent(self.state, self.credentials.device_key).consent_id
        except ConsentError:
            consent_id = ""
        try:
            policy = self.policy()
        except PolicyError:
            policy = None
        return Heartbeat(
            sent_at=self._now().isoformat(),
            boot_id=boot_id,
            next_seq=next_seq,
            waiting_events=counts.events,
            waiting_bytes=counts.waiting_bytes,
            dropped_objects=counts.dropped,
            set_aside=counts.set_aside,
            is_muted=is_muted(self.state),
            canary=canary,
            config_sha256=config_sha256,
            model_sha256=model_sha256,
            consent_id=consent_id,
            policy_version=policy.version if policy else 0,
        )


def _read_signed(path: Path) -> tuple[bytes, bytes]:
    raw = parse_object(read_private(path), path.name)
    if not (isinstance(raw.get("document"), str) and isinstance(raw.get("signature"), str)):
        msg = "expected a document and its signature"
        raise WireError(msg)
    return raw["document"].encode(), bytes.fromhex(raw["signature"])


def _write_signed(path: Path, payload: bytes, signature: bytes) -> None:
    write_private(path, json.dumps({"document": payload.decode(), "signature": signature.hex()}, indent=1).encode())
