"""What runs in a home: the parts of `earmark edge listen` put together, without the command line that asked for it."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from earmark_edge.announce.settings import AnnounceSettings
from earmark_edge.announce.store import AnnounceStoreError
from earmark_edge.bundle_store import BundleStore
from earmark_edge.consent import ConsentError
from earmark_edge.courier import MUTE_FILE, Courier, MutedError
from earmark_edge.decide import DecideConfigError, Rules
from earmark_edge.keys import KeyFileError, read_credentials
from earmark_edge.listen.hardening import give_back_memory, overwrite_freed_memory, refuse_core_dumps
from earmark_edge.listen.health import HealthConfig
from earmark_edge.listen.inputs import Input, inputs_of
from earmark_edge.listen.listener import Listener, Outlets
from earmark_edge.listen.misspelt import misspelt
from earmark_edge.listen.mute import Mute, gpio_line
from earmark_edge.listen.notify import ALIVE, READY, STOPPING, notify
from earmark_edge.listen.report import JsonReport, LinesReport, ListenReport
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.shadow import Terms
from earmark_edge.listen.sink import CourierSink, ReportOnly, Sink
from earmark_edge.listen.source import InputError, PcmFormat
from earmark_edge.listen.status import Status
from earmark_edge.listen.supervisor import Block, Notice, State, Supervisor, WatchConfig
from earmark_edge.listen.updates import Updates
from earmark_edge.oneline import one_line
from earmark_edge.scorer import Scorer, ScoringError
from earmark_edge.settings import EdgeSettings, SettingsError, bundle_to_run
from earmark_edge.spool import SPOOL_FILE, SpoolError, open_spool
from earmark_edge.unverified import unverified_warning
from earmark_edge.uplink import AddressError, Uplink, UplinkError
from earmark_model.contract import BundleError

logger = logging.getLogger(__name__)

FAILED, MISUSED = 1, 2
_HELD_BLOCKS = 64
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line; `log_level` is the root logger's."""

    inputs: tuple[str, ...] = ()
    bundle: Path | None = None
    json_lines: bool = False
    send: bool = False
    rate: int | None = None
    channels: int = 1
    encoding: str = "s16le"
    fast: bool = False
    state: Path | None = None
    log_level: int = logging.WARNING

    def to_argument(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_argument(cls, text: str) -> Request:
        """The inverse."""
        raw = json.loads(text)
        paths = {name: None if raw[name] is None else Path(raw[name]) for name in ("bundle", "state")}
        return cls(**{**raw, **paths, "inputs": tuple(raw["inputs"])})


def run(request: Request) -> int:
    """Listen until every input has ended or a signal asks to stop; the exit status."""
    report: ListenReport = JsonReport() if request.json_lines else LinesReport()
    try:
        edge, settings = EdgeSettings.from_environment(os.environ), ListenSettings.from_environment(os.environ)
        for said in misspelt(os.environ):
            report.tell(f"warning: {said}")
        pcm = PcmFormat(request.rate, request.channels, request.encoding) if request.rate is not None else None
        with ExitStack() as stack:
            edge = replace(edge, state=request.state or edge.state, bundle=request.bundle or edge.bundle)
            folder, version = bundle_to_run(edge.bundle, edge.state)
            scorer = Scorer(folder, threads=edge.threads)
            give_back_memory()
            found = inputs_of(list(request.inputs) or ["mic"], scorer.spec.sample_rate_hz, pcm=pcm, is_fast=request.fast)
            mute = Mute(edge.state / MUTE_FILE, gpio_line(settings.mute_gpio) if settings.mute_gpio is not None else None)
            stop = stack.enter_context(_signals(mute))  # before all that has to be closed in order
            updates = _updates(stack, edge, settings, version) if request.send and settings.updates and edge.bundle is None else None
            sink: Sink = _sink(stack, edge, Rules(scorer.spec, edge.decide), mute, report.tell, updates) if request.send else ReportOnly()
            sink = _announcing(sink, edge, Rules(scorer.spec, edge.decide), mute)
            stack.callback(sink.close)
            outlets = Outlets(sink, report, _StatusFile(edge.state), updates)
            return _listen(stack, found, scorer, edge, settings, mute, outlets, stop)
    except (SettingsError, DecideConfigError, AddressError, InputError, KeyFileError) as error:
        sys.stderr.write(f"error: {one_line(error, 1_000)}\n")
        return MISUSED
    except (BundleError, ScoringError, UplinkError, SpoolError, AnnounceStoreError, OSError) as error:
        sys.stderr.write(f"error: {one_line(error, 1_000)}\n")
        return FAILED


def _listen(
    stack: ExitStack,
    found: list[Input],
    scorer: Scorer,
    edge: EdgeSettings,
    settings: ListenSettings,
    mute: Mute,
    outlets: Outlets,
    stop: threading.Event,
) -> int:
    """Put the parts together and run them; returns the exit status."""
    inbox: queue.Queue[Block | Notice] = queue.Queue(_HELD_BLOCKS)
    names = [each.name for each in found]
    listener = Listener(names, scorer, edge.decide, settings, inbox=inbox, mute=mute, outlets=outlets)
    if settings.metrics_port:
        stack.enter_context(_metrics(settings.metrics_port, listener))
    if warning := unverified_warning(scorer.spec):
        outlets.report.tell(warning)
    refuse_core_dumps()
    outlets.sink.start(listener.beats)
    give_back_memory()
    overwrite_freed_memory()  # nothing was heard so far; earlier, it would fill what loading takes, too
    with _running(found, inbox, scorer.spec.sample_rate_hz, mute, settings):
        notify(READY)
        listener.run(stop)
        notify(STOPPING)
    listener.tell_status(is_running=False)
    has_failed = any(each.state is State.ENDED and each.last_failure for each in listener.status.streams)
    return FAILED if has_failed else 0


def _metrics(port: int, listener: Listener) -> AbstractContextManager[object]:
    from earmark_edge.listen.metrics import MetricsServer, render  # noqa: PLC0415 - an HTTP server is 3 MB that most devices do without

    return MetricsServer(port, lambda: render(listener.status))


def _announcing(sink: Sink, edge: EdgeSettings, rules: Rules, mute: Mute) -> Sink:
    """With a broker or a webhook set: the sink that tells these too."""
    settings = AnnounceSettings.from_environment(os.environ)
    if not (settings.mqtt or settings.webhook):
        return sink
    from earmark_edge.announce.sink import AnnouncingSink, destinations_of  # noqa: PLC0415 - a megabyte that most devices do without

    told = destinations_of(settings, (*rules.spec.sensitive, *edge.decide.route_also))
    return AnnouncingSink(sink, edge.state, told, is_muted=lambda: mute.is_on) if told else sink


def _updates(stack: ExitStack, edge: EdgeSettings, settings: ListenSettings, version: int) -> Updates:
    """What takes in bundles that the service offers; one that the owner named runs whatever is offered."""
    store = BundleStore(edge.state, read_credentials(edge.state).enrolment.signing_key)
    terms = Terms(settings.trial_canaries, settings.trial_canary_s)
    updates = Updates(store, version, lambda folder: Scorer(folder, threads=edge.threads), edge.decide, terms)
    stack.callback(updates.close)
    return updates


def _sink(
    stack: ExitStack, edge: EdgeSettings, rules: Rules, mute: Mute, tell: Callable[[str], None], updates: Updates | None
) -> CourierSink:
    """The way out of an enrolled device: two connections to its outbox, one for each thread."""
    credentials = read_credentials(edge.state)

    def courier() -> Courier:
        made = Courier(edge.state, credentials, open_spool(edge.state / SPOOL_FILE, edge.outbox_bytes, tell), tell=tell)
        stack.callback(made.close)
        return made

    sealing, sending = courier(), courier()
    Uplink(credentials).close()  # what connecting loads is loaded now, and handed back before the first sound
    try:
        sealing.consent()
    except (ConsentError, MutedError) as error:
        tell(f"listening; for now nothing leaves: {error}")

    def connect(pause: Callable[[float], None]) -> Uplink:
        return Uplink(credentials, sleep=pause)

    return CourierSink(sealing, sending, connect, rules, is_muted=lambda: mute.is_on, updates=updates)


class _StatusFile:
    """Writes the status; a disk that is full must not end the listening."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._is_failing = False

    def __call__(self, status: Status) -> None:
        notify(ALIVE)  # from the loop that hears: if it hangs, systemd starts it anew
        try:
            status.write(self.folder)
        except OSError as error:
            if not self._is_failing:
                logger.warning("the status file cannot be written: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False


@contextmanager
def _signals(mute: Mute) -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event, a second one ends at once; the mute's signals are caught too."""
    stop = threading.Event()

    def ended(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in names}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)
    mute.catch_signals()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _running(found: list[Input], inbox: queue.Queue[Block | Notice], rate_hz: int, mute: Mute, settings: ListenSettings) -> Iterator[None]:
    """The supervisors' threads."""
    watch = WatchConfig(stall_s=settings.stall_s, health=HealthConfig(silent_s=settings.silent_s))
    threads = [Supervisor(number, each.source, inbox, sample_rate_hz=rate_hz, mute=mute, watch=watch) for number, each in enumerate(found)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(_PATIENCE_S)
