"""Enrolled devices: one-time codes, public keys and tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from earmark_edge.signature import key_id
from earmark_review import audit
from earmark_review.errors import DeviceTokenError, EnrolmentError, SettingsError
from earmark_review.names import checked_name
from earmark_review.store.schema import device_keys, devices, enrolments
from earmark_review.store.turns import Turn, take_turn
from earmark_review.tokens import new_token, token_sha256

_SEEN_EVERY = timedelta(minutes=1)
_CODE_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is read as another
_CODE_GROUPS, _CODE_GROUP = 3, 5  # 73 bits: not to be guessed in the hours that a code lives


@dataclass(frozen=True, slots=True)
class Device:
    """A sender of events."""

    device_id: int
    name: str
    created_at: datetime
    revoked_at: datetime | None
    last_seen_at: datetime | None
    public_key: bytes | None
    """Raw Ed25519; None for a device of a version before sealing, which has to enrol anew."""

    @property
    def key(self) -> bytes:
        """The public key of a device that may send."""
        assert self.public_key is not None, "a device without a key was let in"
        return self.public_key

    @property
    def key_id(self) -> str:
        """How its events and receipts name the device."""
        return key_id(self.key)


_COLUMNS = (
    *(devices.c[name] for name in ("device_id", "name", "created_at", "revoked_at", "last_seen_at")),
    device_keys.c.public_key,
)
_JOINED = select(*_COLUMNS).outerjoin(device_keys, device_keys.c.device_id == devices.c.device_id)
_BY_TOKEN = _JOINED.where(devices.c.token_sha256 == bindparam("token_sha256"), devices.c.revoked_at.is_(None))
_LOCK = select(devices.c.device_id).where(devices.c.device_id == bindparam("device_id")).with_for_update(key_share=True)


def offer_enrolment(conn: Connection, name: str, valid: timedelta, now: datetime) -> str:
    """A one-time code by which a device may enrol as `name` until it runs out; the service keeps only its hash.

    Raises:
        SettingsError: the name is unfit or taken.
    """
    name = _free_name(conn, name)
    code = "-".join("".join(secrets.choice(_CODE_LETTERS) for _ in range(_CODE_GROUP)) for _ in range(_CODE_GROUPS))
    expires_at = now + valid
    conn.execute(insert(enrolments).values(code_sha256=_code_sha256(code), name=name, created_at=now, expires_at=expires_at))
    detail = {"until": expires_at.isoformat()}
    audit.append(conn, now, audit.OPERATOR, audit.Action.ENROLMENT_OFFERED, f"device:{name}", detail)
    return code


def enrol(conn: Connection, code: str, public_key: bytes, now: datetime) -> tuple[str, str]:
    """Turn a code into a device with this Ed25519 public key: its name, and its token, which cannot be read again.

    The same key with the same code again, as after a lost answer, gets a fresh token while the code is valid.

    Raises:
        EnrolmentError: the code is unknown, used by another key, or out of date; or the key or name is another device's.
    """
    offer = conn.execute(select(enrolments).where(enrolments.c.code_sha256 == _code_sha256(code)).with_for_update()).first()
    if offer is None or offer.expires_at <= now:
        msg = "the code is not one of ours, or it has run out; ask for a new one with `earmark review device enrol NAME`"
        raise EnrolmentError(msg)
    if offer.device_id is None:
        try:
            token = add_device(conn, offer.name, public_key, now)
        except SettingsError as error:
            raise EnrolmentError(str(error)) from error
        device_id = conn.execute(select(devices.c.device_id).where(devices.c.name == offer.name)).scalar_one()
        conn.execute(update(enrolments).where(enrolments.c.code_sha256 == offer.code_sha256).values(device_id=device_id))
        return offer.name, token
    known = conn.execute(_JOINED.where(devices.c.device_id == offer.device_id)).one()
    if known.public_key != public_key or known.revoked_at is not None:
        msg = "the code has been used; ask for a new one with `earmark review device enrol NAME`"
        raise EnrolmentError(msg)
    token = new_token()
    conn.execute(update(devices).where(devices.c.device_id == offer.device_id).values(token_sha256=token_sha256(token)))
    return offer.name, token


def add_device(conn: Connection, name: str, public_key: bytes, now: datetime) -> str:
    """Enrol a device by its Ed25519 public key and return its token, which cannot be read again.

    Raises:
        SettingsError: the name is unfit or taken, or the key is another device's.
    """
    name, token = _free_name(conn, name), new_token()
    if conn.execute(select(device_keys.c.device_id).where(device_keys.c.public_key == public_key)).first():
        msg = "a device with this key is enrolled already; let the new one make a key of its own"
        raise SettingsError(msg)
    legacy = conn.execute(select(devices.c.device_id).where(devices.c.name == name)).scalar()
    values = {"token_sha256": token_sha256(token), "created_at": now, "revoked_at": None}
    if legacy is None:
        legacy = conn.execute(insert(devices).values(name=name, **values).returning(devices.c.device_id)).scalar_one()
    else:
        conn.execute(update(devices).where(devices.c.device_id == legacy).values(**values))
    conn.execute(insert(device_keys).values(device_id=legacy, public_key=public_key))
    audit.append(conn, now, audit.OPERATOR, audit.Action.DEVICE_ADDED, f"device:{name}", {"key": key_id(public_key)})
    return token


def _free_name(conn: Connection, name: str) -> str:
    """`name`, if it can be given to a device: a row of a version before sealing, which holds no key, takes it up again."""
    name = checked_name("device", name)
    take_turn(conn, Turn.NAMES)
    taken = conn.execute(_JOINED.where(devices.c.name == name)).first()
    if taken is not None and taken.public_key is not None:
        msg = f"there is a device {name!r} already; give another name, or revoke it first and name its successor otherwise"
        raise SettingsError(msg)
    return name


def _code_sha256(code: str) -> str:
    """A code as people type it, with or without its dashes, in any case."""
    letters = "".join(letter for letter in code.upper() if letter.isalnum())
    return token_sha256(letters)


def list_devices(conn: Connection) -> Sequence[Device]:
    """Every device, revoked ones too, by name."""
    return [Device(*row) for row in conn.execute(_JOINED.order_by(devices.c.name))]


def revoke_device(conn: Connection, name: str, now: datetime) -> None:
    """Make a device's token worthless from now on; what it sent stays.

    Raises:
        SettingsError: there is no such device, or it is revoked already.
    """
    changed = conn.execute(update(devices).where(devices.c.name == name, devices.c.revoked_at.is_(None)).values(revoked_at=now))
    if not changed.rowcount:
        msg = f"there is no device {name!r} with a live token; `earmark review device list` shows them"
        raise SettingsError(msg)
    audit.append(conn, now, audit.OPERATOR, audit.Action.DEVICE_REVOKED, f"device:{name}")


def device_of(conn: Connection, token: str) -> Device:
    """The device that a token belongs to.

    Raises:
        DeviceTokenError: no enrolled device has this token, or it was revoked.
    """
    row = conn.execute(_BY_TOKEN, {"token_sha256": token_sha256(token)}).first()
    if row is None or row.public_key is None:
        msg = "the bearer token belongs to no enrolled device; enrol it with the code that `earmark review device enrol NAME` prints"
        raise DeviceTokenError(msg)
    return Device(*row)


def mark_seen(conn: Connection, device: Device, now: datetime) -> None:
    """Remember when the device last spoke, to the minute; from here on no other message of it is dealt with at the same time."""
    if conn.dialect.name != "sqlite":  # where every writer is alone
        conn.execute(_LOCK, {"device_id": device.device_id})
    if device.last_seen_at is None or now - device.last_seen_at >= _SEEN_EVERY:
        conn.execute(update(devices).where(devices.c.device_id == device.device_id).values(last_seen_at=now))
