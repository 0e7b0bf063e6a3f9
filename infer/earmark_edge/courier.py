"""Takes detections' parcels in and gets them out: nothing without consent, nothing while muted, sealed before it touches a disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from earmark_edge.consent import Consent, ConsentError
from earmark_edge.consent_records import read_consent, read_former, read_signed, write_signed
from earmark_edge.keys import Credentials, KeyFileError
from earmark_edge.messages import Heartbeat
from earmark_edge.outbox import Parcel
from earmark_edge.policy import Policy, PolicyError, check_adoptable
from earmark_edge.seal import seal_parcel
from earmark_edge.signature import Purpose, SignatureError, check
from earmark_edge.spool import Spool, SpooledEvent
from earmark_edge.uplink import EventGoneError, SignedReceipt, UnconsentedError, Uplink, UplinkDownError, UplinkError
from earmark_edge.wire import WireError

POLICY_FILE, MUTE_FILE = "policy.json", "mute"
_TIERS_WITHOUT_POLICY = (0, 1, 2)
"""Original audio leaves only where the household consents to it and a signed policy asks for it."""
_DEFAULT_URGENT = ("scream",)


class MutedError(PermissionError):
    """The device is muted: nothing is taken and nothing leaves."""


def read_policy(state: Path, signing_key: bytes) -> Policy | None:
    """The policy in force, if the service signed it; None where there is none.

    Raises:
        PolicyError: the file was altered or is damaged.
    """
    path = state / POLICY_FILE
    if not path.exists():
        return None
    try:
        payload, signature = read_signed(path)
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
        self._sent: dict[str, bytes] = {}
        """The records of consent that the service was sent since this began, by name."""
        self._sent_again: set[str] = set()

    def reopen_spool(self) -> None:
        """Open the outbox anew: it was found damaged, or moved aside. What can still be read of it goes on.

        Raises:
            SpoolError: it cannot be opened.
        """
        self.spool = self.spool.reopened(self._tell)

    def close(self) -> None:
        """Let go of the outbox, the one that it has by now."""
        self.spool.close()

    def consent(self) -> Consent:
        """The consent that stands.

        Raises:
            ConsentError: there is none, it was altered, withdrawn, or has expired.
            MutedError: the device is muted.
        """
        consent = self._unmuted_record()
        consent.check_holds(self._now())
        return consent

    def _unmuted_record(self) -> Consent:
        """The record in force, whether it holds or not.

        Raises:
            ConsentError: there is none, or it was altered.
            MutedError: the device is muted.
        """
        if is_muted(self.state):
            msg = "the device is muted; nothing is taken and nothing leaves until it is unmuted"
            raise MutedError(msg)
        return read_consent(self.state, self.credentials.device_key)

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
        self._sent_again.clear()
        try:
            self._send_records(uplink)
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
            self._send(uplink, event, lambda: uplink.announce(event), ())
            return True
        dropped = self.spool.next_dropped()
        if dropped is not None:
            self._send(uplink, dropped[0], lambda: uplink.drop(*dropped), dropped[1])
            return True
        sealed = self.spool.next_object()
        if sealed is None:
            return False
        owner = self.spool.event(sealed.event_id)
        assert owner is not None, "an object without its event"
        self._send(uplink, owner, lambda: uplink.upload(owner, sealed), (sealed.tier,))
        return True

    def _send(self, uplink: Uplink, event: SpooledEvent, request: Callable[[], SignedReceipt], settled: tuple[int, ...]) -> None:
        """Make a request whose receipt must not still miss the tiers `settled`."""
        try:
            signed = self._answered(uplink, event, request)
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

    def _answered(self, uplink: Uplink, event: SpooledEvent, request: Callable[[], SignedReceipt]) -> SignedReceipt:
        """The answer to a request; a service that has lost the record of consent behind it gets that again, once in a round."""
        try:
            return request()
        except UnconsentedError:
            record = self._records().get(event.event.consent_id)
            if record is None or record.consent_id in self._sent_again:
                raise
            self._sent_again.add(record.consent_id)
            uplink.send_consent(record.to_bytes())
            return request()

    def _records(self) -> dict[str, Consent]:
        """Every record of consent that this device signed, by name."""
        current = self._unmuted_record()
        return {**read_former(self.state, self.credentials.device_key), current.consent_id: current}

    def _send_records(self, uplink: Uplink) -> None:
        """Send that a record of consent was withdrawn; then, where consent stands, each record under which something waits."""
        unsent = {name: record for name, record in self._records().items() if self._sent.get(name) != record.to_bytes()}
        withdrawn = {name: record for name, record in unsent.items() if record.withdrawn_at}
        for record in withdrawn.values():
            self._send_record(uplink, record)
        self.consent()
        if others := unsent.keys() - withdrawn.keys():  # else what waits, which may be weeks of it, need not be read
            for name in sorted(self.spool.waiting_consents() & others):
                self._send_record(uplink, unsent[name])

    def _send_record(self, uplink: Uplink, record: Consent) -> None:
        payload = record.to_bytes()
        uplink.send_consent(payload)
        self._sent[record.consent_id] = payload

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
            write_signed(self.state / POLICY_FILE, *answer)
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
