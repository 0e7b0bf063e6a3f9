"""Checks of what comes in and of what is made of it: inputs, their level, the bundle, its thresholds, a canary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from earmark_edge.decide import DecideConfig
from earmark_edge.doctor.check import Check, fail, ok, warn
from earmark_edge.listen.canary import hears_canary
from earmark_edge.listen.health import ADVICE, HealthConfig, SignalHealth
from earmark_edge.listen.inputs import Input
from earmark_edge.listen.microphone import MicrophoneSource, load_sounddevice
from earmark_edge.listen.source import Samples, SourceEndedError, SourceError
from earmark_edge.oneline import one_line
from earmark_edge.scorer import Scorer, ScoringError
from earmark_model.contract import BundleError, BundleSpec

LISTEN_S = 2.0
_PATIENCE_S = 10.0
_FAINT_DBFS = -75.0
_LEAST_POWER = 1e-12


def check_input(each: Input, sample_rate_hz: int, *, clock: Callable[[], float] = time.monotonic) -> list[Check]:
    """Open an input, listen for two seconds, and look at the level; nothing of it is kept."""
    name = f"input {each.name}"
    try:
        samples = _listen(each, sample_rate_hz, clock)
    except (SourceError, OSError) as error:
        advice = f"microphones here: {microphones()}" if isinstance(each.source, MicrophoneSource) else "check the address and the cable"
        return [fail(name, one_line(error), advice)]
    finally:
        each.source.close()
    if not samples.size:
        return [fail(name, f"it opens, but no sample comes within {_PATIENCE_S:.0f} s", "check the cable; try another input")]
    return [ok(name, f"{samples.size / sample_rate_hz:.1f} s heard"), _level(samples, sample_rate_hz)]


def microphones() -> str:
    """The microphones that PortAudio finds, in one line."""
    try:
        devices = load_sounddevice().query_devices()
    except SourceError as error:
        return str(error)
    found = [f"mic:{number} ({device['name']})" for number, device in enumerate(devices) if device["max_input_channels"] > 0]
    return one_line(", ".join(found) or "none; is one plugged in, and may this user use it (group audio)?")


def check_bundle(load: Callable[[], Scorer], config: DecideConfig) -> tuple[Scorer | None, list[Check]]:
    """Load the bundle, look at its thresholds, and let it hear a canary."""
    try:
        scorer = load()
    except BundleError as error:
        return None, [fail("bundle", one_line(error), "copy the bundle again, or name another with EARMARK_BUNDLE")]
    spec = scorer.spec
    return scorer, [ok("bundle", f"graph {spec.graph_sha256[:12]}, hash verified"), _thresholds(spec), _canary(scorer, config)]


def _listen(each: Input, sample_rate_hz: int, clock: Callable[[], float]) -> Samples:
    """Up to two seconds of an input; fewer where it ends or is silent."""
    each.source.open()
    parts: list[Samples] = []
    began_s = clock()
    while sum(map(len, parts)) < LISTEN_S * sample_rate_hz and clock() - began_s < _PATIENCE_S:
        try:
            part = each.source.read(0.2)
        except SourceEndedError:
            break
        if part is not None:
            parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _level(samples: Samples, sample_rate_hz: int) -> Check:
    length_s = len(samples) / sample_rate_hz
    health = SignalHealth(sample_rate_hz, HealthConfig(silent_s=0.9 * length_s, span_s=0.9 * length_s))
    fit, changes = health.feed(samples, 0.0)
    rms_dbfs = 10 * np.log10(max(_LEAST_POWER, float(np.mean(np.square(fit), dtype=np.float64))))
    peak_dbfs = 20 * np.log10(max(1e-6, float(np.abs(fit).max())))
    said = f"{rms_dbfs:.0f} dBFS on average, peak {peak_dbfs:.0f} dBFS"
    if changes:
        problem = changes[0].problem
        return fail("level", f"{said}; {problem.value.replace('_', ' ')}", ADVICE[problem])
    if rms_dbfs < _FAINT_DBFS:
        return warn("level", said, "very faint; raise the input gain (alsamixer, F4) unless the room is silent")
    return ok("level", said)


def _thresholds(spec: BundleSpec) -> Check:
    if spec.unverified:
        said = f"no guarantee for {', '.join(spec.unverified)}: every event says routed_unverified"
        return warn("thresholds", said, "`earmark model guarantee` sets thresholds with one, from recordings like those of this place")
    bounds = ", ".join(f"{label} misses at most {_alpha(spec, label):.0%}" for label in spec.sensitive)
    return ok("thresholds", bounds)


def _alpha(spec: BundleSpec, label: str) -> float:
    guarantee = spec.thresholds[label].guarantee
    assert guarantee is not None, "a verified label has a guarantee"
    return guarantee.alpha


def _canary(scorer: Scorer, config: DecideConfig) -> Check:
    try:
        result = hears_canary(scorer, config)
    except ScoringError as error:
        return fail("canary", one_line(error), "the bundle is unfit; use another")
    said = f"a synthetic scream scores {result.peak_score:.2f} as {result.label}, threshold {result.threshold:.2f}"
    if result.is_heard:
        return ok("canary", said)
    return fail("canary", f"{said}: it is missed", "use another bundle; this one would miss a real scream too")


def inputs_checks(inputs: list[Input], sample_rate_hz: int, muted_by: tuple[str, ...]) -> Iterator[Check]:
    """Every input, unless the device is muted: then none is opened."""
    if muted_by:
        yield warn("input", f"muted by {' and '.join(muted_by)}, so no input was opened", "unmute to check the microphone")
        return
    for each in inputs:
        yield from check_input(each, sample_rate_hz)
