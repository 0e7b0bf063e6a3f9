"""Regenerate bench/EGRESS.md: an hour of real speech to a listening, sending device; every packet captured, all that it left scanned.

`python -m bench.egress --corpus CORPUS`, as root: it goes into a network namespace of its own, where a review service really runs. Packets,
state and temporary folders, logs, the service's own folder and the memory of the live process are looked through for the speech itself, for
planted noise, for their mel power and for their scores. It exits with 1 where a packet goes elsewhere, or a trace lies where none may.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench.home import Home, home
from bench.speech import MARKER_S, RATE_HZ, Pcm, Speech, hour
from bench.traces import PIECE_BYTES, Traces, memory_of
from bench.wire import Capture, captured

from earmark_cli.bench_report import processor
from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detection, Detector
from earmark_edge.scorer import Scorer, Scores
from earmark_edge.settings import default_bundle

ROOT = Path(__file__).resolve().parents[1]
BLOCK = RATE_HZ // 2
QUIET_S = 100
"""After the speech, so that the ring holds nothing else."""
AUDIO_EVERY, POWER_EVERY, SCORES_EVERY = RATE_HZ // 20, 11, 7
_PATIENCE_S = 900.0
_INSIDE = "BENCH_IN_A_NAMESPACE"
_LISTEN = "import sys; sys.argv[0] = 'earmark'; from earmark_cli.main import main; main()"

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Play, capture, scan, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the corpus, with manifest.csv")
    parser.add_argument("--seconds", type=int, default=3_600, help="how much speech")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "EGRESS.md")
    options = parser.parse_args()
    if _INSIDE not in os.environ:
        os.execvpe("unshare", ["unshare", "-n", sys.executable, "-m", "bench.egress", *sys.argv[1:]], {**os.environ, _INSIDE: "1"})
    capture, control = captured()
    speech = hour(options.corpus, options.seconds)
    heard = Reference(speech.pcm)
    with tempfile.TemporaryDirectory() as folder, home(Path(folder)) as enrolled:
        capture.packets.clear()
        found = Run(enrolled, Path(folder), capture, heard.traces()).play(speech.pcm)
        found.events = len(list(_events(enrolled)))
    report = _report(speech, heard, found, control)
    options.out.write_text(report, encoding="utf-8")
    print(report)
    sys.exit(0 if found.is_clean else 1)


class _Watched(Scorer):
    """A scorer that keeps what it was given back: scores, and a few rows of each window's mel power."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.frames: list[Floats] = []
        self.power: list[Floats] = []

    def run_on(self, audio: Floats, held: Floats) -> tuple[Scores, Floats]:
        scores, power = super().run_on(audio, held)
        self.frames.append(scores.frame[0].ravel().copy())
        self.power.append(power[0, 10::20].copy())
        return scores, power


@dataclass
class Reference:
    """The same sound through the same detector here: what it flags, and the numbers that it computes, bit for bit."""

    pcm: Pcm
    flagged_s: list[tuple[float, float]] = field(default_factory=list)

    def traces(self) -> list[Traces]:
        """What of unflagged sound must be found nowhere."""
        scorer = _Watched(default_bundle())
        detector = Detector(scorer, DecideConfig())
        samples = self.pcm.astype(np.float32) / np.float32(32_768)
        detections: list[Detection] = []
        for start in range(0, len(samples), BLOCK):
            detections += detector.feed(samples[start : start + BLOCK]).detections
        self.flagged_s = [(each.onset_s, each.offset_s) for each in detections + list(detector.flush().detections)]
        spec = scorer.spec
        kept = [
            number
            for number in range(len(scorer.power))
            if not any(
                onset < (number * spec.hop_samples + spec.window_samples) / RATE_HZ and offset > number * spec.hop_samples / RATE_HZ
                for onset, offset in self.flagged_s
            )
        ]
        power = [row for number in kept for row in scorer.power[number]]
        frames = [scorer.frames[number] for number in kept]
        return [
            Traces.of("sound, as 16-bit samples", list(self._unflagged(self.pcm)), AUDIO_EVERY),
            Traces.of("sound, as floating-point samples", list(self._unflagged(samples)), AUDIO_EVERY),
            Traces.of("mel power", power, POWER_EVERY),
            Traces.of("frame scores", frames, SCORES_EVERY),
        ]

    def _unflagged(self, samples: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        at = 0
        for onset, offset in sorted(self.flagged_s):
            yield samples[at : int(onset * RATE_HZ)]
            at = int(offset * RATE_HZ) + 1
        yield samples[at:]


@dataclass(slots=True)
class Found:
    """What came of it: counts of packets and bytes, and pieces found by place and kind."""

    status: int = -1
    heard_s: float = 0.0
    took_s: float = 0.0
    packets: int = 0
    packet_bytes: int = 0
    overlooked: int = 0
    elsewhere: int = 0
    strangers: int = 0
    events: int = 0
    canaries: int = 0
    sought: list[Traces] = field(default_factory=list)
    scanned: dict[str, int] = field(default_factory=dict)
    pieces: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Events arrived, nothing elsewhere, nothing overlooked, and traces in memory alone, where the search does find them."""
        places = [sum(kinds.values()) for place, kinds in self.pieces.items() if place not in {WHILE_HEARD, AFTERWARDS}]
        seen = sum(self.pieces[WHILE_HEARD].values()) > 0
        return not (self.status or self.elsewhere or self.strangers or self.overlooked or any(places)) and seen and self.events > 0


WHILE_HEARD, AFTERWARDS = "memory, just after the last word", "memory, after the ring has turned over"


@dataclass
class Run:
    """A device in `enrolled`, all of whose folders lie in `folder`; what it must not leave behind is `traces`."""

    enrolled: Home
    folder: Path
    capture: Capture
    traces: list[Traces]
    found: Found = field(default_factory=Found)

    def play(self, pcm: Pcm) -> Found:
        """Play `pcm`, then quiet, and look everywhere."""
        self.found.sought = self.traces
        for name in ("tmp", "own", "logs"):
            (self.folder / name).mkdir()
        folders = {"EARMARK_STATE": self.enrolled.state, "TMPDIR": self.folder / "tmp", "HOME": self.folder / "own"}
        environment = {
            **os.environ,
            **{name: str(path) for name, path in folders.items()},
            "EARMARK_STATUS_S": "0.5",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", _LISTEN, "-v", "edge", "listen", "-", "--rate", str(RATE_HZ), "--json", "--send"]
        quiet = np.random.default_rng(8).integers(-2, 3, QUIET_S * RATE_HZ).astype(np.int16)
        began_s = time.monotonic()
        with (self.folder / "logs" / "out").open("wb") as out, (self.folder / "logs" / "err").open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment)
            assert process.stdin is not None
            process.stdin.write(pcm.tobytes())
            process.stdin.flush()
            self._wait_until(len(pcm) / RATE_HZ - 1)
            self.found.took_s = time.monotonic() - began_s
            self._look(WHILE_HEARD, memory_of(process.pid), is_memory=True)
            process.stdin.write(quiet.tobytes())
            process.stdin.flush()
            self._wait_until((len(pcm) + len(quiet)) / RATE_HZ - 1)
            self._look(AFTERWARDS, memory_of(process.pid), is_memory=True)
            process.stdin.close()
            self.found.status = process.wait(_PATIENCE_S)
        self._look_at_the_rest()
        return self.found

    def _wait_until(self, heard_s: float) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            status = self.enrolled.state / "status.json"
            told: dict[str, Any] = json.loads(status.read_text(encoding="utf-8"))["streams"][0] if status.exists() else {"heard_s": 0.0}
            self.found.heard_s = told["heard_s"]
            if self.found.heard_s >= heard_s:
                self.found.canaries = told["canary"]["heard"]
                return
            time.sleep(0.2)
        msg = f"the device heard {self.found.heard_s:.0f} s and no more; see {self.folder / 'logs'}"
        raise RuntimeError(msg)

    def _look_at_the_rest(self) -> None:
        time.sleep(1)
        packets = [data for _, data in self.capture.packets]
        self.found.packets, self.found.packet_bytes = len(packets), sum(map(len, packets))
        self.found.overlooked = self.capture.overlooked()
        self.found.elsewhere = self.capture.on_the_wire()
        self.found.strangers = self.capture.strangers(int(self.enrolled.url.rpartition(":")[2]))
        self._look("every packet", b"".join(packets))
        places = {"state folder": self.enrolled.state, "temporary folder": self.folder / "tmp", "home folder": self.folder / "own",
                  "logs": self.folder / "logs", "the service's folder": self.folder / "service"}  # fmt: skip
        for name, place in places.items():
            files = sorted(path for path in place.rglob("*") if path.is_file())
            self._look(name, b"".join(path.read_bytes() for path in files))

    def _look(self, place: str, data: bytes, *, is_memory: bool = False) -> None:
        self.found.scanned[place] = len(data)
        self.found.pieces[place] = {each.name: each.found_in(data, is_memory=is_memory) for each in self.traces}


def _events(enrolled: Home) -> Iterator[str]:
    with enrolled.service.database.reading() as conn:
        yield from conn.exec_driver_sql("SELECT event_id FROM events").scalars()


def _report(speech: Speech, heard: Reference, found: Found, control: int) -> str:
    flagged_s = sum(offset - onset for onset, offset in heard.flagged_s)
    kinds = list(found.pieces[WHILE_HEARD])
    rows = [
        f"| {place} | {found.scanned[place] / 1e6:,.1f} | {' | '.join(str(pieces[kind]) for kind in kinds)} |"
        for place, pieces in found.pieces.items()
    ]
    heads = [f"{name} (of {len(traces.keys):,})" for name, traces in zip(kinds, found.sought, strict=True)]
    table = "\n".join([f"| where | MB | {' | '.join(heads)} |", "|---|---|" + "---|" * len(kinds), *rows])
    return f"""# What leaves while people talk

{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; written by `python -m bench.egress --corpus CORPUS`.

{speech.seconds / 60:.0f} minutes of real speech ({speech.clips:,} clips of {speech.sources} sources of the corpus, their test
split first) with {speech.markers} markers of {MARKER_S} s of noise planted and {speech.screams} real screams between, then
{QUIET_S} s of quiet, into `earmark edge listen - --send` with the shipped bundle, enrolled with a review service that really runs,
all in a network namespace.
Played as fast as the device takes it, in {found.took_s:.0f} s, which a microphone does not do; canaries heard: {found.canaries}.

- Packets to anyone but the service: **{found.elsewhere + found.strangers}** ({found.elsewhere} on the wire, {found.strangers} others
  on the loopback interface), of {found.packets:,} ({found.packet_bytes / 1e3:,.0f} kB); {found.overlooked} overlooked.
  A control to a stranger was seen ({control} packets).
- Flagged: {len(heard.flagged_s)} spans, {flagged_s:.1f} s of {len(speech.pcm) / RATE_HZ:,.0f} s, what this bundle takes for a scream or a
  cry; {found.events} events arrived, sealed. All else is unflagged, and looked for.
- {"Met" if found.is_clean else "NOT MET"}: no byte of unflagged sound or of features in a packet, a file or a log.

Pieces found:

{table}

A piece is {PIECE_BYTES} bytes: sound at every {1_000 * AUDIO_EVERY // RATE_HZ} ms, mel power and scores of every window, as the same
detector computes them here. Files and packets are looked through at every byte, memory where such numbers can lie. Memory is every
writable page of the live process, which is what `gcore` would write of it; the process itself refuses core dumps. The first line
shows that the search finds what is there: the last minute of sound lies in the ring, and the features of the last window are in use.
The device overwrites what it frees. What the second line still finds are remains whose place was not traced: who reads a device's
memory as root may find about a second of sound there.
"""


if __name__ == "__main__":
    main()
