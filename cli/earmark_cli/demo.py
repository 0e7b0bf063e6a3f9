"""`earmark demo`: an evening at home goes through the whole house, from the microphone to a reviewer's screen."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from earmark_cli.demo_review import CONSENT_ID, DemoReview, demo_review
from earmark_cli.outcome import Flag, compare
from earmark_cli.storyteller import Storyteller
from earmark_data.audio import AudioError
from earmark_data.manifest import ManifestError, read_manifest
from earmark_data.scene import SHORTEST_S, compose
from earmark_data.suppliers import CorpusClips, SceneError, Supplier, SynthesisedClips
from earmark_data.synth.contour import SAMPLE_RATE_HZ
from earmark_edge.capture import CaptureError, duration_s, files_of
from earmark_edge.decide import DecideConfigError
from earmark_edge.detector import Detector, Heard
from earmark_edge.event import WireError
from earmark_edge.keys import KeyFileError
from earmark_edge.oneline import one_line
from earmark_edge.outbox import Parcel, file_origin, pack
from earmark_edge.scan import hear
from earmark_edge.scorer import Scorer, ScoringError
from earmark_edge.settings import EdgeSettings, SettingsError, default_bundle, named_bundle
from earmark_edge.spool import SpoolError
from earmark_edge.tiers import wav_bytes
from earmark_edge.uplink import UplinkError
from earmark_model.contract import BundleError
from earmark_review.errors import ReviewError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
SCENE_FILE = "evening-at-home.wav"

_CORPUS_HELP = "A labelled corpus (a folder with manifest.csv): the evening is made of its test split. Without one it is synthesised."


def demo(
    corpus: Annotated[Path, typer.Option(help=_CORPUS_HELP)] = Path("../shared/corpus"),
    audio: Annotated[Path | None, typer.Option(help="Your own recording, or a folder of them, instead of the evening.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop after the summary, for scripts.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder, or the name of one that ships (earmark); EARMARK_BUNDLE.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another number makes another evening.")] = 1,
    minutes: Annotated[float, typer.Option(min=SHORTEST_S / 60, max=120, hidden=True, help="Length of the evening.")] = 10.0,
    out: Annotated[Path, typer.Option(hidden=True, help="Where the evening is written.")] = Path("demo-output"),
) -> None:
    """Show the whole of Earmark on an evening at home.

    Builds ten minutes of talk, laughter, household sound and a few screams and cries; listens with the bundle that ships; sets what was
    flagged beside what was really there; and hands the flagged seconds to a review server on this machine, where you can judge them.
    Exit status: 0 done, 1 something failed, 2 misused.
    """
    teller = Storyteller()
    stderr = Console(stderr=True, highlight=False)
    try:
        with _terminable():
            settings = EdgeSettings.from_environment(os.environ)
            folder = named_bundle(bundle or settings.bundle or default_bundle())
            detector = Detector(Scorer(folder, threads=settings.threads), settings.decide)
            out.mkdir(parents=True, exist_ok=True)
            with demo_review(out) as review:
                run = _Demo(teller, detector, folder, review)
                failed = run.recordings(audio) if audio is not None else run.evening(corpus, seed, minutes * 60, out)
                teller.delivered(run.delivered, run.flagged, run.seconds)
                if not once:
                    teller.sign_in(review)
                    _until_interrupted()
            teller.goodbye(is_asked=once)
    except (SettingsError, DecideConfigError) as error:
        _tell(stderr, error)
        raise typer.Exit(MISUSED) from error
    except (
        BundleError,
        ScoringError,
        AudioError,
        ManifestError,
        SceneError,
        CaptureError,
        ReviewError,
        UplinkError,
        KeyFileError,
        SpoolError,
        WireError,
        OSError,
    ) as error:
        _tell(stderr, error)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        _tell(stderr, "interrupted; the review server and its data are gone")
        raise typer.Exit(INTERRUPTED) from error
    raise typer.Exit(FAILED if failed or run.delivered < run.flagged else 0)


@dataclass(slots=True)
class _Demo:
    """One run: what was found and delivered on the way."""

    teller: Storyteller
    detector: Detector
    bundle: Path
    review: DemoReview
    flagged: int = 0
    delivered: int = 0
    heard_s: float = 0.0
    listened_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long the demo has run."""
        return time.perf_counter() - self.began

    def evening(self, corpus: Path, seed: int, length_s: float, out: Path) -> int:
        """Compose, listen, compare; returns the number of failures, which is 0."""
        self.teller.evening(length_s)
        began = time.perf_counter()
        supplier = self._supplier(corpus)
        with self.teller.bar("building the evening", length_s) as advance_to:
            scene = compose(supplier, seed, length_s, progress=advance_to)
        path = out / SCENE_FILE
        path.write_bytes(wav_bytes(scene.audio, SAMPLE_RATE_HZ))
        self.teller.scene(scene, path, time.perf_counter() - began)
        self.teller.listening(self.bundle, self.detector.rules.spec)
        flags: list[Flag] = []
        self._hear(path, scene.duration_s, flags)
        self.teller.heard(self.heard_s, self.listened_s)
        outcome = compare(scene, flags)
        self.teller.comparison(outcome)
        self.teller.privacy(outcome, scene.duration_s)
        return 0

    def recordings(self, given: Path) -> int:
        """Listen to the user's own sound; returns how many files could not be heard to their end."""
        files = files_of(given)
        self.teller.own_recordings(given, len(files))
        self.teller.listening(self.bundle, self.detector.rules.spec)
        failed, flagged_s = 0, 0.0
        for path in files:
            flags: list[Flag] = []
            try:
                self._hear(path, duration_s(path), flags)
            except (CaptureError, OSError) as error:
                failed += 1
                self.teller.failure(error)
            else:
                self.teller.flags(path, flags)
            flagged_s += sum(flag.offset_s - flag.onset_s for flag in flags)
        self.teller.heard(self.heard_s, self.listened_s)
        self.teller.own_totals(self.heard_s, flagged_s, self.flagged, failed)
        return failed

    def _supplier(self, corpus: Path) -> Supplier:
        """The corpus' test split where there is a corpus, else the synthesiser."""
        path = corpus / "manifest.csv"
        if not path.is_file():
            self.teller.synthesised(path)
            return SynthesisedClips()
        with self.teller.bar("reading the manifest", 1.0) as advance_to:
            supplier = CorpusClips(read_manifest(path, progress=lambda done, total: advance_to(done / total)))
        self.teller.recorded(supplier)
        return supplier

    def _hear(self, path: Path, length_s: float, flags: list[Flag]) -> None:
        """Listen to a file, and send what is flagged as soon as it is, as a device does; `flags` keeps the metadata alone."""
        origin = file_origin(path, length_s, self.detector.rules, CONSENT_ID)
        heard_s = 0.0
        with self.teller.bar(f"listening to {one_line(path.name, 40)}", length_s) as advance_to:
            pieces = hear(path, self.detector)
            while piece := self._timed(pieces):
                block_s, heard = piece
                heard_s += block_s
                self.heard_s += block_s
                for detection in heard.detections:
                    flags.append(Flag.of(detection))
                    self._deliver(pack(detection, len(flags) - 1, origin, self.detector.rules))
                advance_to(heard_s)

    def _timed(self, pieces: Iterator[tuple[float, Heard]]) -> tuple[float, Heard] | None:
        """The next piece; only this counts as listening, not the sending."""
        began = time.perf_counter()
        piece = next(pieces, None)
        self.listened_s += time.perf_counter() - began
        return piece

    def _deliver(self, parcel: Parcel) -> None:
        self.flagged += 1
        trouble = self.review.deliver(parcel)
        if trouble:
            self.teller.failure(RuntimeError(trouble))
        else:
            self.delivered += 1


def _until_interrupted() -> None:
    try:
        while not threading.Event().wait(3_600):
            continue
    except KeyboardInterrupt:
        return


@contextmanager
def _terminable() -> Iterator[None]:
    """While the block runs, being terminated is like being interrupted: the server's data are deleted in either case."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(stderr: Console, error: object) -> None:
    stderr.print(f"error: {one_line(error, 1_000)}", markup=False, soft_wrap=True)
