"""The loop of `earmark edge listen`: blocks of all inputs through one detector each, over one session; detections out."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from uuid import uuid4

from earmark_edge.decide import DecideConfig, Rules
from earmark_edge.detector import Detection, Detector, Heard
from earmark_edge.listen.canary import Canary, CanaryResult
from earmark_edge.listen.cap import AudioCap
from earmark_edge.listen.clock import ClockState, clock_state
from earmark_edge.listen.hardening import give_back_memory
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.report import ListenReport
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.sink import Beat, Flagged, Sink
from earmark_edge.listen.status import CanaryStatus, Status, StreamStatus
from earmark_edge.listen.supervisor import Block, Notice, State
from earmark_edge.listen.updates import Updates
from earmark_edge.scorer import Scorer

_POLL_S = 0.5
"""How long a stop or a mute may wait to be noted while nothing comes; sound that came after a mute is never heard, whenever it is noted."""
_SETTLED_S = 2.0
"""Heard so much, a device has loaded and connected what it will; what that took is handed back, before the first window is scored."""
_DEAF_S = 60.0
"""An input that has given no sound for so long has missed a canary, and misses another each time that one would be due."""
_DRAWN = 1 << 40
"""Incidents from here on are of what was drawn, so that none is taken for a part of what was flagged."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from: seconds that only rise, the wall clock, and how far that can be trusted."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = utc_now
    state: Callable[[], ClockState] = clock_state


@dataclass(slots=True)
class Channel:
    """One input's way through the device. Its clock counts seconds from `origin_s` (monotonic), gaps included."""

    status: StreamStatus
    detector: Detector
    canary: Canary
    cap: AudioCap
    origin_s: float
    boot_id: str = field(default_factory=lambda: str(uuid4()))
    base_s: float = 0.0
    """Where on the channel's clock the detector's stream began."""
    heard_samples: int = 0
    """Samples that the detector got since then."""
    incidents: int = 0
    """Incidents of the detector's earlier streams."""
    streamed_incidents: int = 0
    seq: int = 0
    is_cut: bool = True
    """Whether the next block begins a new stream."""
    deaf_at_s: float | None = None
    """When a canary is missed unless sound comes before (monotonic); None while it does."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where things go: detections, what is printed, the status; and where another bundle may come from."""

    sink: Sink
    report: ListenReport
    status: Callable[[Status], None] = lambda _: None
    updates: Updates | None = None


class Listener:
    """Takes blocks and notices out of `inbox` until every input has ended or it is told to stop. `scorer` is shared by all inputs.

    With `outlets.updates` an offered bundle is tried beside the running one, and takes over while no input has an event open.

    Raises:
        BundleError, DecideConfigError: the configuration does not fit the bundle.
        ValueError: the settings leave no time for a canary.
    """

    def __init__(
        self,
        names: list[str],
        scorer: Scorer,
        config: DecideConfig,
        settings: ListenSettings,
        *,
        inbox: queue.Queue[Block | Notice],
        mute: Mute,
        outlets: Outlets,
        clocks: Clocks | None = None,
    ) -> None:
        self._scorer, self._config, self._canary_s, self._updates = scorer, config, settings.canary_s, outlets.updates
        self._inbox, self._mute, self._outlets = inbox, mute, outlets
        self._clocks, self._status_s = clocks or Clocks(), settings.status_s
        self._rate_hz = scorer.spec.sample_rate_hz
        self._next_status_s = self._clocks.monotonic()
        self.channels = []
        for name in names:
            told = StreamStatus(name, CanaryStatus(settings.canary_s))
            canary = Canary(scorer, config, settings.canary_s)
            cap = AudioCap(settings.audio_s_per_hour)
            self.channels.append(Channel(told, Detector(scorer, config), canary, cap, self._clocks.monotonic()))
        now, rules = self._clocks.wall().isoformat(), Rules(scorer.spec, config)
        streams = [channel.status for channel in self.channels]
        self.status = Status(
            version("earmark"), os.getpid(), now, now, scorer.spec.graph_sha256, rules.sha256, rules.spec.unverified, streams
        )
        self._is_slicing, self._is_settled = False, False
        self._muted_by: tuple[str, ...] = ()
        self._muted_until_s = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Listen. At the end, what is open is closed and handed on."""
        while not stop.is_set() and any(channel.status.state is not State.ENDED for channel in self.channels):
            self._check_mute()
            try:
                message = self._inbox.get(timeout=_POLL_S)
            except queue.Empty:
                pass
            else:
                if isinstance(message, Block):
                    self._check_mute()  # it may have come while we waited
                    self._block(self.channels[message.stream], message)
                    self._swap_when_quiet()
                else:
                    self._notice(self.channels[message.stream], message)
            self._miss_canaries()
            if self._clocks.monotonic() >= self._next_status_s:
                self._slice_where_agreed()
                self.tell_status()
        for channel in self.channels:
            self._cut(channel)

    def tell_status(self, *, is_running: bool = True) -> None:
        """Bring the status up to date and hand it on."""
        self.status.at = self._clocks.wall().isoformat()
        self.status.muted_by = self._muted_by
        self.status.delivery = self._outlets.sink.counts()
        self.status.bundle = asdict(self._updates.told()) if self._updates else {}
        self.status.is_running = is_running
        self._next_status_s = self._clocks.monotonic() + self._status_s
        self._outlets.status(self.status)

    def beats(self) -> list[Beat]:
        """What heartbeats say of each stream."""
        words = {None: "", True: "passed", False: "missed"}
        canaries = [(each, each.status.canary) for each in self.channels]
        return [Beat(each.boot_id, each.seq, words[told.is_last_heard], told.missed) for each, told in canaries]

    def _block(self, channel: Channel, block: Block) -> None:
        length_s = len(block.samples) / self._rate_hz
        if self._muted_by or block.ended_s - length_s < self._muted_until_s:
            channel.status.muted_s += length_s
            return
        if block.is_first:
            self._cut(channel)
        if channel.is_cut:
            channel.base_s = max(channel.base_s, block.ended_s - length_s - channel.origin_s, 0.0)
            channel.is_cut = False
        began_s = time.thread_time()
        heard = channel.detector.feed(block.samples)
        channel.heard_samples += len(block.samples)
        channel.status.heard_s += length_s
        if not self._is_settled and channel.status.heard_s >= _SETTLED_S:
            self._is_settled = True
            give_back_memory()
        channel.status.last_audio_at = self._clocks.wall().isoformat()
        self._detected(channel, heard)
        result = channel.canary.feed(block.samples, is_busy=channel.detector.has_open_event)
        self.status.scoring_s += time.thread_time() - began_s
        if result:
            self._canary(channel, result)
        if self._updates:
            is_busy = channel.detector.has_open_event
            self._updates.feed(block.stream, block.samples, heard, self._scorer, is_busy=is_busy)

    def _swap_when_quiet(self) -> None:
        """Let the bundle that passed its trial take over between two events: none is cut by it, and none is lost."""
        if not (self._updates and self._updates.has_passed) or any(channel.detector.has_open_event for channel in self.channels):
            return
        passed = self._updates.swap()
        if passed is None:
            return
        self._scorer, rules = passed.scorer, Rules(passed.scorer.spec, self._config)
        for channel in self.channels:
            self._cut(channel)
            channel.detector = Detector(self._scorer, self._config, near=self._is_slicing)
            channel.canary = Canary(self._scorer, self._config, self._canary_s)
        self._outlets.sink.use(rules)
        self.status.bundle_sha256, self.status.config_sha256, self.status.unverified = (
            rules.spec.graph_sha256,
            rules.sha256,
            rules.spec.unverified,
        )
        self._outlets.report.tell(f"bundle {passed.version} passed its trial and runs from now on")
        give_back_memory()
        self.tell_status()

    def _slice_where_agreed(self) -> None:
        """Look for stretches below the thresholds only while household and policy let a slice of them be drawn; change between events."""
        is_wanted = self._outlets.sink.slice_probability() > 0
        if is_wanted == self._is_slicing or any(channel.detector.has_open_event for channel in self.channels):
            return
        self._is_slicing = is_wanted
        for channel in self.channels:
            self._cut(channel)
            channel.detector = Detector(self._scorer, self._config, near=is_wanted)
        few = "a random few sounds below the threshold leave, masked, to count what is missed, as this home agreed"
        self._outlets.report.tell(few if is_wanted else "nothing below the threshold leaves any more")

    def _cut(self, channel: Channel) -> None:
        """The stream has a hole here, or ends: close what is open."""
        if channel.is_cut:
            return
        self._detected(channel, channel.detector.flush())
        self._new_stream(channel)

    def _new_stream(self, channel: Channel) -> None:
        channel.base_s += channel.heard_samples / self._rate_hz
        channel.incidents += channel.streamed_incidents
        channel.heard_samples, channel.streamed_incidents, channel.is_cut = 0, 0, True
        channel.canary.reset()
        if self._updates:
            self._updates.reset(self.channels.index(channel))

    def _detected(self, channel: Channel, heard: Heard) -> None:
        for detection in heard.detections:
            channel.streamed_incidents = max(channel.streamed_incidents, detection.incident + 1)
            self._hand_on(channel, _moved(detection, channel))
        for near in heard.near:
            probability = self._outlets.sink.draw()
            if probability is not None:
                self._hand_on_drawn(channel, _moved(near, channel), probability)

    def _hand_on_drawn(self, channel: Channel, detection: Detection, probability: float) -> None:
        """What chance has picked of what was not flagged; it is no incident, and counts as no event of the home's."""
        detection = replace(detection, incident=_DRAWN + channel.seq)
        flagged = self._on_its_way(channel, detection, with_audio=True, slice_probability=probability)
        delivery = self._outlets.sink.take(flagged)
        self._outlets.report.tell(f"{channel.status.name}: a sound below the threshold was drawn to count what is missed; {delivery}")

    def _on_its_way(self, channel: Channel, detection: Detection, *, with_audio: bool, slice_probability: float | None = None) -> Flagged:
        now_s = channel.base_s + channel.heard_samples / self._rate_hz
        started_at, state = self._clocks.wall() - timedelta(seconds=now_s), self._clocks.state()
        words = (detection, channel.seq, channel.boot_id, started_at, state.uncertainty_s)
        channel.seq += 1
        return Flagged(*words, with_audio=with_audio, slice_probability=slice_probability, stream=channel.status.name)

    def _hand_on(self, channel: Channel, detection: Detection) -> None:
        grant = channel.cap.take(detection.offset_s, detection.duration_s, detection.incident)
        flagged = self._on_its_way(channel, replace(detection, incident=grant.incident), with_audio=grant.with_audio)
        channel.status.events += 1
        channel.status.incidents = grant.incident + 1
        channel.status.events_without_audio += not grant.with_audio
        delivery = self._outlets.sink.take(flagged)
        self._outlets.report.event(channel.status.name, flagged, flagged.onset_at, delivery)

    def _canary(self, channel: Channel, result: CanaryResult) -> None:
        at, told = self._clocks.wall(), channel.status.canary
        told.last_at, told.is_last_heard = at.isoformat(), result.is_heard
        if result.is_heard:
            told.heard, told.last_heard_at = told.heard + 1, at.isoformat()
        else:
            told.missed += 1
        self._outlets.report.canary(channel.status.name, result, at)
        give_back_memory()
        self.tell_status()

    def _miss_canaries(self) -> None:
        """An input that is unplugged plays no canary, and the last one that it heard must not vouch for it for ever."""
        if self._muted_by or not self._canary_s:
            return
        now_s = self._clocks.monotonic()
        for channel in self.channels:
            if channel.deaf_at_s is not None and now_s >= channel.deaf_at_s:
                channel.deaf_at_s = now_s + self._canary_s
                self._canary(channel, channel.canary.miss())

    def _notice(self, channel: Channel, notice: Notice) -> None:
        told = channel.status
        if notice.state in {State.LISTENING, State.MUTED, State.ENDED}:
            channel.deaf_at_s = None
        elif notice.state in {State.DOWN, State.STALLED} and channel.deaf_at_s is None:
            channel.deaf_at_s = self._clocks.monotonic() + _DEAF_S
        told.state, told.problems = notice.state, notice.problems
        told.restarts += notice.is_restart
        if notice.is_failure:
            told.failures, told.last_failure = told.failures + 1, notice.text
        if notice.state in {State.DOWN, State.ENDED}:
            self._cut(channel)
        if notice.text or notice.state in {State.LISTENING, State.ENDED}:
            self._outlets.report.source(told.name, notice, self._clocks.wall())
        self.tell_status()

    def _check_mute(self) -> None:
        """Mute wins over everything, an event that is open included: it is forgotten, not closed."""
        reasons = self._mute.reasons
        if reasons == self._muted_by:
            return
        if reasons and not self._muted_by:
            for channel in self.channels:
                channel.detector.reset()
                self._new_stream(channel)
        if not reasons:
            self._muted_until_s = self._clocks.monotonic()
        self._muted_by = reasons
        self._outlets.report.mute(reasons, self._clocks.wall())
        self.tell_status()


def _moved(detection: Detection, channel: Channel) -> Detection:
    """The detection on the channel's clock and count of incidents."""
    return replace(
        detection,
        onset_s=detection.onset_s + channel.base_s,
        offset_s=detection.offset_s + channel.base_s,
        incident=detection.incident + channel.incidents,
        track=replace(detection.track, start_s=detection.track.start_s + channel.base_s),
    )
