"""Real clips of a corpus as a device flags and sends them: heard by the bundle that ships, masked, sealed, and delivered over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.home import CONSENT_ID, enrol_device

from earmark_data.manifest import ClipRow, read_manifest
from earmark_edge.courier import Courier
from earmark_edge.detector import Detector
from earmark_edge.keys import read_credentials
from earmark_edge.outbox import Parcel, file_origin, pack
from earmark_edge.scan import hear
from earmark_edge.scorer import Scorer
from earmark_edge.settings import DEFAULT_OUTBOX_BYTES, EdgeSettings, default_bundle
from earmark_edge.spool import SPOOL_FILE, Spool
from earmark_edge.uplink import Uplink
from earmark_review.web.serving import Running

SHARES = {"scream": 0.4, "cry": 0.25, "baby_cry": 0.15, "laughter": 0.1, "background": 0.1}
"""Of the clips that are tried, by their label in the corpus; not all of them are flagged."""
LONGEST_S = 12.0


@dataclass(frozen=True, slots=True)
class Flagged:
    """What a device sends, and what the corpus says it is."""

    parcel: Parcel
    truth: str


def flagged_clips(corpus: Path, count: int, seed: int = 1, split: str = "test") -> Iterator[Flagged]:
    """The first flagged event of each of `count` clips, drawn in a random order by `SHARES`."""
    rng = np.random.default_rng(seed)
    detector = Detector(Scorer(default_bundle(), threads=1), EdgeSettings.from_environment({}).decide)
    rows: dict[str, list[ClipRow]] = {label: [] for label in SHARES}
    for row in read_manifest(corpus / "manifest.csv").select(splits=(split,)):
        if row.label in rows and row.duration_s <= LONGEST_S:
            rows[row.label].append(row)
    for of_label in rows.values():
        rng.shuffle(of_label)
    found = 0
    labels, shares = list(SHARES), np.array(list(SHARES.values()))
    while found < count:
        label = str(rng.choice(labels, p=shares))
        if not rows[label]:
            if not any(rows.values()):
                msg = f"{corpus}: only {found} clips of its {split} split were flagged; ask for fewer than {count}"
                raise SystemExit(msg)
            continue
        row = rows[label].pop()
        parcel = _first_event(row, detector)
        if parcel is not None:
            found += 1
            yield Flagged(parcel, row.label)


def _first_event(row: ClipRow, detector: Detector) -> Parcel | None:
    origin = file_origin(row.path, row.duration_s, detector.rules, CONSENT_ID)
    for _block_s, heard in hear(row.path, detector):
        for detection in heard.detections:
            detector.reset()
            return pack(detection, 0, origin, detector.rules)
    return None


class BenchDevice:
    """An enrolled device whose state lies in a folder and whose household consents to every tier."""

    def __init__(self, server: Running, name: str, state: Path) -> None:
        enrol_device(server.url, server.service, name, state)
        credentials = read_credentials(state)
        self.name = name
        self._spool = Spool(state / SPOOL_FILE, DEFAULT_OUTBOX_BYTES)
        self._uplink = Uplink(credentials)
        self._courier = Courier(state, credentials, self._spool)
        self._courier.adopt_policy(self._uplink)

    def send(self, parcel: Parcel) -> None:
        """Seal and deliver; a bench that cannot deliver stops."""
        self._courier.accept(parcel)
        done = self._courier.deliver(self._uplink)
        if self._spool.counts().events:
            msg = f"an event was not delivered: {done.trouble or 'the review server refused it'}"
            raise SystemExit(msg)

    def beat(self, canary: str) -> None:
        """Say that the device lives, and how its last canary fared."""
        self._uplink.heartbeat(self._courier.heartbeat("bench-boot", 0, "0" * 64, "0" * 64, canary))

    def close(self) -> None:
        """Let go of the outbox and the connection."""
        self._uplink.close()
        self._spool.close()
