"""The bundles that devices were offered, in versions that only rise; going back is an offer of earlier files under a higher one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from earmark_edge.bundle_offer import BundleOffer, OfferedFile
from earmark_edge.messages import Heartbeat
from earmark_review import audit
from earmark_review.errors import BundleOfferError
from earmark_review.store.devices import Device, list_devices
from earmark_review.store.numbers import last_heartbeat
from earmark_review.store.schema import bundle_offers
from earmark_review.store.turns import Turn, take_turn


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer, and the devices that it is for; None for every one."""

    offer: BundleOffer
    devices: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class DeviceBundle:
    """What a device last said: the version that runs, the one that it took in last, and what became of that."""

    device: str
    running: int
    offered: int
    trial: str


def offer_bundle(conn: Connection, files: Sequence[OfferedFile], devices: Sequence[str] | None, now: datetime) -> BundleOffer:
    """Offer these files as the next version, to the devices that are named or to every one.

    Raises:
        BundleOfferError: there is no such device.
    """
    known = {device.name for device in list_devices(conn) if device.revoked_at is None}
    if unknown := sorted(set(devices or ()) - known):
        msg = f"there is no device {', '.join(map(repr, unknown))}; `earmark review device list` shows them"
        raise BundleOfferError(msg)
    take_turn(conn, Turn.NAMES)
    version = (conn.execute(select(func.max(bundle_offers.c.version))).scalar() or 0) + 1
    offer = BundleOffer(version, now.isoformat(), tuple(files))
    names = json.dumps(sorted(set(devices))) if devices else None
    conn.execute(insert(bundle_offers).values(version=version, payload=offer.to_bytes(), devices=names, offered_at=now))
    detail = {"version": version, "files": {file.name: file.sha256 for file in files}, "devices": sorted(set(devices or ())) or "all"}
    audit.append(conn, now, audit.OPERATOR, audit.Action.BUNDLE_OFFERED, f"bundle:{version}", detail)
    return offer


def offers(conn: Connection) -> list[Offered]:
    """Every offer, the newest first."""
    rows = conn.execute(select(bundle_offers).order_by(bundle_offers.c.version.desc()))
    return [Offered(BundleOffer.from_bytes(row.payload), None if row.devices is None else tuple(json.loads(row.devices))) for row in rows]


def offer_for(conn: Connection, device: Device, version: int | None = None) -> BundleOffer | None:
    """The newest offer to a device, or the one of this version; None where there is none."""
    for offered in offers(conn):
        is_theirs = offered.devices is None or device.name in offered.devices
        if is_theirs and version in {None, offered.offer.version}:
            return offered.offer
    return None


def files_of(conn: Connection, version: int) -> tuple[OfferedFile, ...]:
    """The files of an earlier offer.

    Raises:
        BundleOfferError: there was none of this version.
    """
    payload = conn.execute(select(bundle_offers.c.payload).where(bundle_offers.c.version == version)).scalar()
    if payload is None:
        msg = f"no bundle {version} was offered; `earmark review bundle list` shows those that were"
        raise BundleOfferError(msg)
    return BundleOffer.from_bytes(payload).files


def device_bundles(conn: Connection) -> list[DeviceBundle]:
    """Of every device that was heard from, in order of name."""
    beats = [(device.name, last_heartbeat(conn, device)) for device in list_devices(conn) if device.revoked_at is None]
    return [DeviceBundle(name, beat[0].bundle_version, beat[0].offered_version, beat[0].trial) for name, beat in beats if beat]


def note_bundle(conn: Connection, device: Device, before: Heartbeat | None, beat: Heartbeat, now: datetime) -> None:
    """Log that a device runs another bundle than before, and raise an alert where one newly failed its trial."""
    name = f"device:{device.name}"
    if beat.bundle_version != (before.bundle_version if before else 0):
        audit.append(conn, now, name, audit.Action.BUNDLE_ADOPTED, name, {"version": beat.bundle_version})
    has_failed = beat.trial not in {"", "shadow"}
    if has_failed and (before is None or (before.offered_version, before.trial) != (beat.offered_version, beat.trial)):
        detail = {"version": beat.offered_version, "reason": beat.trial}
        audit.append(conn, now, name, audit.Action.BUNDLE_FAILED, name, detail)
