"""Source and filter: a larynx with its irregularities drives a tube with resonances (Fant, 1960; Klatt and Klatt, 1990).

The voiced part is a sum of harmonics of a moving f0, each with the complex gain of the vocal tract at its frequency, so that
nothing aliases and the tract's phases are its own. The breath is noise through the same tract.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earmark_data.synth.contour import FRAME_SAMPLES, SAMPLE_RATE_HZ, Array, to_samples
from earmark_data.synth.noise import CENTRES_HZ, shaped_noise

SOUND_SPEED_CM_PER_S = 35_000.0
TOP_HZ = 7_800.0
WIDEST_HZ = 250.0


@dataclass(frozen=True, slots=True)
class Larynx:
    """Irregularities of the folds, all as fractions of 1.

    `jitter` and `shimmer`: deviation of period and amplitude from cycle to cycle; about 0.01 and 0.05 in calm voices.
    `subharmonic`: depth of a second rhythm at f0 / 2. `rough`: depth of amplitude modulation at `rough_hz`. All three may be `[frames]`.
    """

    jitter: float = 0.008
    shimmer: float = 0.04
    subharmonic: Array | float = 0.0
    rough: Array | float = 0.0
    rough_hz: Array | float = 70.0


@dataclass(frozen=True, slots=True)
class Phonation:
    """One stretch of voice, frame by frame.

    `f0_hz`, `voicing` and `breath` are `[frames]` (amplitudes are linear); `formants_hz` is `[frames, formants]`.
    `tilt_db`: fall of the source per octave, about 12 in a soft voice, 6 in speech, 3 in a scream.
    `damping`: bandwidths of the formants relative to a closed tract; a loud or breathy voice has more.
    """

    f0_hz: Array
    voicing: Array
    breath: Array
    formants_hz: Array
    tilt_db: float = 6.0
    damping: float = 1.3
    larynx: Larynx = Larynx()

    @property
    def frames(self) -> int:
        """Length in frames."""
        return len(self.f0_hz)


def neutral_formants(tract_cm: float) -> Array:
    """Resonances below 12 kHz of a tube closed at one end: odd quarter waves (17.5 cm gives 500, 1500, 2500 ... Hz)."""
    first = SOUND_SPEED_CM_PER_S / (4 * tract_cm)
    return first * np.arange(1, 12_000 / first, 2)


def tract_gain(hertz: Array, formants_hz: Array, damping: float) -> npt.NDArray[np.complex64]:
    """Complex gain of the tract, `[frames, frequencies]`, from `hertz` of that shape and `formants_hz` `[frames, formants]`.

    A cascade of resonances, 1 at 0 Hz; bandwidths after Fant (1972) for a closed tract, times `damping`.
    """
    opposition = np.ones(hertz.shape, dtype=np.complex64)
    real = hertz.astype(np.float32)
    for formant in formants_hz.T[:, :, None]:
        ratio = formant / 500
        bandwidth = damping * np.minimum(15 / ratio**2 + 20 * np.sqrt(ratio) + 5 * ratio**2, WIDEST_HZ)
        resonance = 1j * (bandwidth / formant**2).astype(np.float32) * real
        resonance += 1 - (real / formant.astype(np.float32)) ** 2
        opposition *= resonance
    return 1 / opposition


def phonate(phonation: Phonation, rng: np.random.Generator) -> Array:
    """The sound of `phonation`, `[frames * FRAME_SAMPLES]`, at an arbitrary level."""
    phase = _phase(phonation, rng)
    voiced = _harmonics(phonation, phase) * _unsteadiness(phonation.larynx, phase, phonation.frames, rng)
    if not phonation.breath.any():
        return voiced
    hertz = np.broadcast_to(CENTRES_HZ, (phonation.frames, len(CENTRES_HZ)))
    # The turbulence itself holds little below 1 kHz (Stevens, 1998).
    shape = np.abs(tract_gain(hertz, phonation.formants_hz, 1.5 * phonation.damping)) * np.minimum(1, CENTRES_HZ / 1_000)
    breath = shaped_noise(shape * phonation.breath[:, None], rng)
    pulsing = 1 + 0.5 * np.cos(phase) * to_samples(phonation.voicing > 0)  # air flows while the folds are open
    return voiced + breath * pulsing


def _phase(phonation: Phonation, rng: np.random.Generator) -> Array:
    f0_hz = to_samples(phonation.f0_hz)
    cycle = np.cumsum(f0_hz / SAMPLE_RATE_HZ).astype(int)
    f0_hz = f0_hz * (1 + phonation.larynx.jitter * rng.normal(size=cycle[-1] + 1).clip(-3, 3)[cycle])
    return np.asarray(2 * np.pi * np.cumsum(f0_hz / SAMPLE_RATE_HZ))


def _unsteadiness(larynx: Larynx, phase: Array, frames: int, rng: np.random.Generator) -> Array:
    cycle = (phase / (2 * np.pi)).astype(int)
    shimmer = 1 + larynx.shimmer * rng.normal(size=cycle[-1] + 1).clip(-3, 3)[cycle]
    shimmer = np.convolve(shimmer, np.full(9, 1 / 9), "same")  # no clicks where cycles meet
    subharmonic = 1 + _drawn(larynx.subharmonic, frames) * np.cos(phase / 2)
    beat = 2 * np.pi * np.cumsum(_drawn(larynx.rough_hz, frames)) / SAMPLE_RATE_HZ
    depth = _drawn(larynx.rough, frames)
    return np.asarray(shimmer * subharmonic * (1 + depth * np.cos(beat)) / (1 + depth))


def _drawn(curve: Array | float, frames: int) -> Array:
    return to_samples(np.broadcast_to(curve, frames))


def _harmonics(phonation: Phonation, phase: Array) -> Array:
    lowest_hz = phonation.f0_hz[phonation.voicing > 0].min(initial=TOP_HZ)
    orders = np.arange(1, int(TOP_HZ / lowest_hz) + 1)
    hertz = orders * phonation.f0_hz[:, None]  # [frames, harmonics]
    source = orders ** (-phonation.tilt_db / 6.02) * np.clip((TOP_HZ - hertz) / 300, 0, 1)
    gains = source * tract_gain(hertz, phonation.formants_hz, phonation.damping) * phonation.voicing[:, None]
    gains = np.concatenate([gains, gains[-1:]]).astype(np.complex64)
    along = np.linspace(0, 1, FRAME_SAMPLES, endpoint=False, dtype=np.float32)
    turn = np.exp(1j * phase).astype(np.complex64).reshape(-1, FRAME_SAMPLES)
    carrier = np.ones_like(turn)
    sound = np.zeros(turn.shape, dtype=np.float32)
    for gain in gains.T:
        carrier *= turn
        sound += ((gain[:-1, None] + (gain[1:] - gain[:-1])[:, None] * along) * carrier).real
    return sound.ravel().astype(np.float64)
