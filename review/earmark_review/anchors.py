"""The log's signed head, kept outside the service, and the check of the whole log against it.

The chain alone shows edits, gaps and reordering. A log cut off at its end, or written anew from somewhere on, has a chain that holds;
only a head that was put out of its writer's reach tells. A head says: entry `seq` had this hash, then.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from email import message_from_bytes, policy
from pathlib import Path

from sqlalchemy import Connection

from earmark_edge.keys import sync_folder
from earmark_edge.signature import Purpose, SignatureError, check
from earmark_edge.wire import canonical_json
from earmark_review import audit
from earmark_review.errors import AnchorError
from earmark_review.identity import ServiceIdentity

MAIL_SUFFIX = ".eml"


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of the log at some time."""

    seq: int
    sha256: str
    at: str

    def signed(self, identity: ServiceIdentity) -> str:
        """One line of JSON with the service's Ed25519 signature over the rest."""
        signature = identity.sign(Purpose.AUDIT_HEAD, canonical_json(asdict(self)))
        return json.dumps({**asdict(self), "signature": base64.b64encode(signature).decode()}, sort_keys=True)


def head_of(conn: Connection, now: datetime) -> Head | None:
    """The head as it stands; None for an empty log."""
    last = audit.read(conn, limit=1, newest_first=True)
    return Head(last[0].seq, last[0].sha256, now.isoformat()) if last else None


def parse_head(line: str, public_key: bytes) -> Head:
    """A head from one line of an anchor.

    Raises:
        AnchorError: it is no head, or not signed by this service.
    """
    try:
        raw = json.loads(line)
        signature = base64.b64decode(raw.pop("signature"), validate=True)
        head = Head(int(raw["seq"]), str(raw["sha256"]), str(raw["at"]))
        check(public_key, Purpose.AUDIT_HEAD, canonical_json(raw), signature)
    except (ValueError, KeyError, TypeError, AttributeError, SignatureError) as error:
        msg = f"a line of the anchor is no head that this service signed ({type(error).__name__}): {line[:60]!r}"
        raise AnchorError(msg) from error
    return head


def read_anchor(path: Path, public_key: bytes) -> Sequence[Head]:
    """Every head in a file of them, or in a saved message.

    Raises:
        AnchorError: the file cannot be read, is empty, or holds a line that is no head of this service.
    """
    try:
        lines = _mailed(path) if path.suffix == MAIL_SUFFIX else path.read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, LookupError) as error:
        msg = f"{path}: the anchor cannot be read ({error})"
        raise AnchorError(msg) from error
    if not lines:
        msg = f"{path}: the anchor holds no head"
        raise AnchorError(msg)
    return [parse_head(line, public_key) for line in lines]


def _mailed(path: Path) -> list[str]:
    """The lines of a saved message that are heads."""
    body = message_from_bytes(path.read_bytes(), policy=policy.default).get_body(("plain",))
    return [line for line in (body.get_content().splitlines() if body else ()) if line.startswith("{")]


def write_anchor(path: Path, head: Head, identity: ServiceIdentity) -> bool:
    """Add a head to a file of them, durably, unless it is the last one there already; say whether it was added.

    Raises:
        AnchorError: the file cannot be read or written.
    """
    known = read_anchor(path, identity.signing_public)[-1] if path.exists() and path.stat().st_size else None
    if known is not None and (known.seq, known.sha256) == (head.seq, head.sha256):
        return False
    is_new = not path.exists()
    try:
        with path.open("a", encoding="ascii") as file:
            file.write(head.signed(identity) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        msg = f"{path}: the anchor cannot be written ({error.strerror})"
        raise AnchorError(msg) from error
    return True


def faults(conn: Connection, heads: Iterable[Head]) -> list[str]:
    """What is wrong with the log, in words; empty where it holds and carries every head."""
    found = [f"the guard {name} is missing from the database" for name in audit.missing_guards(conn)]
    try:
        entries = audit.read(conn)
    except (ValueError, TypeError) as error:
        return [*found, f"an entry was changed: it cannot be read ({error})"]
    if broken := audit.first_break(entries):
        found.append(broken)
    hashes = {entry.seq: entry.sha256 for entry in entries}
    for head in sorted(heads, key=lambda one: one.seq):
        if head.seq not in hashes:
            found.append(f"the log ends at {len(entries)}, but had {head.seq} entries at {head.at}: its end was cut off")
        elif hashes[head.seq] != head.sha256:
            found.append(f"entry {head.seq} is not the one that was there at {head.at}: the log was written anew")
    return found
