"""Words from a small formant synthesizer: for where there is no network and no data.

A voice is a pulse train, filtered by the resonances (formants) of a throat whose shape glides from sound to sound; hissing
and bursts are filtered noise (Klatt, 1980, much reduced). The frequencies are those of Peterson and Barney (1952).
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import signal

RATE = 16_000
NUM_HARMONICS = 40
HIGHEST = 4_500.0  # Hz: harmonics above are left out
WIDTHS = np.array([80.0, 110.0, 150.0])  # of the three formants, in Hz

# Voiced sounds: three formants in Hz, and loudness.
VOICED = {
    "i": (270, 2290, 3010, 1.0), "e": (530, 1840, 2480, 1.0), "a": (730, 1090, 2440, 1.0), "o": (570, 840, 2410, 1.0),
    "u": (300, 870, 2240, 1.0), "A": (640, 1190, 2390, 1.0), "r": (420, 1300, 1600, 0.6), "l": (360, 1100, 2700, 0.6),
    "n": (280, 1700, 2600, 0.4), "m": (280, 1000, 2200, 0.4), "w": (300, 610, 2200, 0.6), "j": (280, 2200, 2900, 0.6),
    "g": (250, 1900, 2500, 0.15), "d": (250, 1700, 2600, 0.15), "b": (250, 900, 2300, 0.15),
}  # fmt: skip
# Hissing sounds: band in Hz, loudness, seconds. A burst after silence is a t, p or k.
HISSED = {
    "s": (4000, 7500, 0.20, 0.12), "f": (1500, 7500, 0.06, 0.12), "S": (2000, 5000, 0.20, 0.12), "h": (500, 3000, 0.06, 0.08),
    "t": (3000, 7000, 0.20, 0.03), "p": (300, 1500, 0.15, 0.03), "k": (1200, 3000, 0.20, 0.03),
}  # fmt: skip
VOICED_SECONDS = {"g": 0.04, "d": 0.04, "b": 0.04, "n": 0.08, "m": 0.08, "l": 0.07, "r": 0.07, "w": 0.06, "j": 0.06}
CLOSURE_SECONDS = 0.05  # silence before a burst

WORDS = {
    "down": "dAaun", "go": "goou", "left": "leeft", "no": "noou", "off": "ooof", "on": "aaan", "right": "raait",
    "stop": "staap", "up": "AAp", "yes": "jees",
    "bird": "brrd", "cat": "keet", "happy": "heepii", "house": "haaus", "marvin": "maarbin", "sheila": "SiilA", "wow": "waau",
}  # fmt: skip


class Voice(NamedTuple):
    pitch: float  # Hz
    throat: float  # all formants times this: children 1.2, men 0.9
    pace: float  # all durations times this
    breath: float  # loudness of the noise in the voice


def make_voice(rng: np.random.Generator) -> Voice:
    """A speaker."""
    throat = rng.uniform(0.85, 1.2)
    pitch = 110 * (throat / 0.9) ** 2.5 * rng.uniform(0.85, 1.2)
    return Voice(pitch, throat, rng.uniform(0.8, 1.4), rng.uniform(0.0, 0.03))


def say(word: str, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """The word's waveform at 16 kHz, `(samples,)` from -1 to 1. No two are alike."""
    sounds, times, formants, loudness, hisses = WORDS[word], [0.0], [], [], []
    now = 0.0
    for sound in sounds:
        seconds = (
            (HISSED[sound][3] if sound in HISSED else VOICED_SECONDS.get(sound, 0.10)) * voice.pace * rng.uniform(0.8, 1.25)
        )
        if sound in HISSED:
            if sound in "tpk" and now:
                now += CLOSURE_SECONDS * voice.pace
            hisses.append((sound, now, seconds))
            shape, volume = (formants[-1] if formants else _formants("A", voice, rng)), 0.0
        else:
            shape, volume = _formants(sound, voice, rng), VOICED[sound][3]
        times.append(now + seconds / 2)
        formants.append(shape)
        loudness.append(volume)
        now += seconds
    length = int(RATE * (now + 0.03))
    time = np.arange(length) / RATE
    knots = [*times[1:], now + 0.03]
    track = np.stack([np.interp(time, knots, [*column, column[-1]]) for column in zip(*formants, strict=True)])
    volume = np.interp(time, [0.0, *knots], [0.0, *loudness, 0.0])
    waveform = _voiced(track, volume, voice, rng)
    for sound, start, seconds in hisses:
        _add_hiss(waveform, sound, start, seconds, rng)
    return (waveform / np.abs(waveform).max() * rng.uniform(0.1, 0.8)).astype(np.float32)


def _formants(sound: str, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    return np.array(VOICED[sound][:3]) * voice.throat * rng.uniform(0.95, 1.05, 3)


def _voiced(track: np.ndarray, volume: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Harmonics of a falling pitch, each as loud as the three resonances `(3, samples)` let it through."""
    length = track.shape[1]
    pitch = voice.pitch * np.linspace(rng.uniform(1.0, 1.2), rng.uniform(0.75, 1.0), length)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    waveform = voice.breath * rng.normal(size=length)
    for number in range(1, NUM_HARMONICS + 1):
        frequency = number * pitch
        if frequency.min() >= HIGHEST:
            break
        resonance = (WIDTHS[:, None] ** 2 / (WIDTHS[:, None] ** 2 + (frequency - track) ** 2)).sum(axis=0)
        waveform += np.where(frequency < HIGHEST, resonance / number**0.5, 0.0) * np.sin(number * phase)
    return waveform * volume


def _add_hiss(waveform: np.ndarray, sound: str, start: float, seconds: float, rng: np.random.Generator) -> None:
    low, high, loudness, _ = HISSED[sound]
    first, count = int(start * RATE), int(seconds * RATE)
    noise = signal.sosfilt(_bandpass(low, high), rng.normal(size=count + 200))[200:]
    piece = slice(first, min(first + count, len(waveform)))
    waveform[piece] += (loudness * 5 * noise * np.hanning(count))[: piece.stop - first]


@functools.cache
def _bandpass(low: float, high: float) -> np.ndarray:
    return signal.butter(2, (low, high), "bandpass", fs=RATE, output="sos")
