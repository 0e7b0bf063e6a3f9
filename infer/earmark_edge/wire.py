"""How every message of the wire is written and read: canonical JSON out, strict checks in, each failure naming its field."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar

MAX_MESSAGE_BYTES = 4096
MAX_ID_CHARS = 128
MAX_JSON_INTEGER = 2**53 - 1  # what every JSON reader and every database holds exactly (RFC 8259, section 6)

_Message = TypeVar("_Message")


class WireError(ValueError):
    """A message is not what the wire format says; the text names the field."""


def canonical_json(value: Any) -> bytes:
    """The one way in which the wire writes JSON: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def require(holds: bool, name: str, expected: str, given: object) -> None:  # noqa: FBT001 - reads as a sentence at each call
    """Insist that a field is as expected.

    Raises:
        WireError: it is not.
    """
    if not holds:
        msg = f"{name}: expected {expected}, got {given!r}"
        raise WireError(msg)


def is_sha256(text: object) -> bool:
    """Whether `text` is a SHA-256 in lowercase hexadecimal."""
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")  # noqa: PLR2004 - 256 bits in hexadecimal


def is_utc(text: str) -> bool:
    """Whether `text` is an ISO 8601 time in UTC."""
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        return False
    return offset is not None and not offset


def parse_object(payload: bytes, name: str) -> dict[str, Any]:
    """The JSON object that `payload` is.

    Raises:
        WireError: it is none.
    """
    try:
        raw = json.loads(payload)
    except (ValueError, RecursionError) as error:
        msg = f"{name}: not valid JSON ({error})"
        raise WireError(msg) from error
    if not isinstance(raw, dict):
        msg = f"{name}: expected a JSON object, got {type(raw).__name__}"
        raise WireError(msg)
    return raw


def checked(raw: Any, kind: type) -> dict[str, Any]:
    """`raw` as keyword arguments of the dataclass `kind`, after a check of each JSON type against the annotation."""
    if not isinstance(raw, dict):
        msg = f"expected an object, got {raw!r}"
        raise WireError(msg)
    fields: dict[str, str] = {field.name: str(field.type) for field in kind.__dataclass_fields__.values()}  # type: ignore[attr-defined]  # a dataclass type
    if unknown := set(raw) - set(fields):
        msg = f"unknown field {min(unknown)!r}"
        raise WireError(msg)
    for name, value in raw.items():
        if fields[name] == "float" and isinstance(value, int) and not isinstance(value, bool):
            require(abs(value) <= sys.float_info.max, name, "a number that a double holds", "a larger one")
            raw[name] = float(value)
        elif fields[name] in {"int", "float", "str"}:
            expected = {"int": int, "float": float, "str": str}[fields[name]]
            require(isinstance(value, expected) and not isinstance(value, bool), name, f"a JSON {fields[name]}", value)
    return raw


def check_id(name: str, value: object) -> None:
    """Insist on an identifier.

    Raises:
        WireError: it is not 1 to 128 printable characters.
    """
    is_id = isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS and value.isprintable()
    require(is_id, name, f"1 to {MAX_ID_CHARS} printable characters", value)


def check_slice_probability(value: object) -> None:
    """Insist on a probability with which sounds below the threshold are drawn.

    Raises:
        WireError: it is not above 0 and at most 1.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    require(is_number and 0 < value <= 1, "slice_probability", "a probability above 0, at most 1", value)  # type: ignore[operator]  # a number


def check_tiers(name: str, tiers: Any) -> tuple[int, ...]:
    """A list of tiers, each once, in rising order.

    Raises:
        WireError: it is none.
    """
    is_list = isinstance(tiers, list | tuple) and all(
        isinstance(tier, int) and not isinstance(tier, bool) and tier in range(4) for tier in tiers
    )
    require(is_list and list(tiers) == sorted(set(tiers)), name, "tiers from 0 to 3, each once, rising", tiers)
    return tuple(tiers)


def read_message(kind: type[_Message], payload: bytes, name: str, cap_bytes: int) -> _Message:
    """`payload` as the dataclass `kind`, every field of the type that it is annotated with; lists become tuples.

    Raises:
        WireError: too large, not JSON, or a field is missing, unknown or not as documented.
    """
    require(len(payload) <= cap_bytes, name, f"at most {cap_bytes} bytes", len(payload))
    raw = checked(parse_object(payload, name), kind)
    try:
        return kind(**{field: tuple(value) if isinstance(value, list) else value for field, value in raw.items()})
    except WireError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        msg = f"{name}: not of the documented form ({error})"
        raise WireError(msg) from error


class Message:
    """A dataclass that is a message of the wire, all of whose fields are plain: how it is written, and read again.

    `_name` is what errors call it; fields of `_unless_used` are left out of the bytes where they say nothing, for older readers.
    """

    __slots__ = ()
    _name: ClassVar[str]
    _unless_used: ClassVar[tuple[str, ...]] = ()

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        words = asdict(self)  # type: ignore[call-overload]  # every message is a dataclass
        return canonical_json({name: value for name, value in words.items() if value or name not in self._unless_used})

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Parse and validate.

        Raises:
            WireError: not of the documented form.
        """
        return read_message(cls, payload, cls._name, MAX_MESSAGE_BYTES)
