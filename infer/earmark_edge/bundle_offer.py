"""A bundle that the service offers to devices: which files, of which content, in versions that only rise."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from earmark_edge.wire import (
    MAX_JSON_INTEGER,
    WireError,
    canonical_json,
    checked,
    is_sha256,
    is_utc,
    parse_object,
    require,
)
from earmark_model.contract import CARD_FILE, GRAPH_FILE, SPEC_FILE

BUNDLE_FILES = (GRAPH_FILE, SPEC_FILE, CARD_FILE)
MAX_OFFER_BYTES = 4096
MAX_BUNDLE_FILE_BYTES = 64 * 2**20
TRIAL_WORDS = ("", "shadow", "canary_missed", "flags_too_much", "unfit", "crashed")
"""What a heartbeat says of the version last offered: nothing, that it runs in shadow, or why it was given up."""


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """One file of a bundle: its name, its length in bytes, and the SHA-256 of its content."""

    name: str
    length: int
    sha256: str

    def __post_init__(self) -> None:
        require(self.name in BUNDLE_FILES, "files.name", f"one of {', '.join(BUNDLE_FILES)}", self.name)
        require(0 < self.length <= MAX_BUNDLE_FILE_BYTES, "files.length", f"from 1 to {MAX_BUNDLE_FILE_BYTES} bytes", self.length)
        require(is_sha256(self.sha256), "files.sha256", "a SHA-256", self.sha256)


@dataclass(frozen=True, slots=True)
class BundleOffer:
    """A whole bundle, signed by the service. Going back to an earlier one is an offer of its files under a higher version."""

    version: int
    offered_at: str
    files: tuple[OfferedFile, ...]

    def __post_init__(self) -> None:
        require(0 < self.version <= MAX_JSON_INTEGER, "version", "1 or more, below 2^53", self.version)
        require(is_utc(self.offered_at), "offered_at", "an ISO 8601 time in UTC", self.offered_at)
        names = [file.name for file in self.files]
        is_whole = len(set(names)) == len(names) and {GRAPH_FILE, SPEC_FILE} <= set(names)
        require(is_whole, "files", f"{GRAPH_FILE} and {SPEC_FILE}, each once", names)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, payload: bytes) -> BundleOffer:
        """Parse and validate.

        Raises:
            WireError: not of the documented form.
        """
        require(len(payload) <= MAX_OFFER_BYTES, "bundle offer", f"at most {MAX_OFFER_BYTES} bytes", len(payload))
        raw = checked(parse_object(payload, "bundle offer"), cls)
        try:
            files = tuple(OfferedFile(**checked(entry, OfferedFile)) for entry in raw.pop("files"))
            return cls(files=files, **raw)
        except WireError:
            raise
        except KeyError as error:
            msg = f"field {error} is missing"
            raise WireError(msg) from error
        except (TypeError, ValueError, AttributeError) as error:
            msg = f"bundle offer: not of the documented form ({error})"
            raise WireError(msg) from error
