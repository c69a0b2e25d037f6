"""Recordings as numbers from -1 to 1: reading any format, one length for all, generated noise."""

import struct
from pathlib import Path

import librosa
import numpy as np
import soundfile

from shared.cli import UserError

SUFFIXES = (".wav", ".flac", ".ogg")


def read(path: Path, sample_rate: int) -> np.ndarray:
    """A recording's samples `(n,)`: channels averaged, resampled to `sample_rate`.

    Raises:
        UserError: if it can't be read or holds nothing.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file (looked from {Path.cwd()}).")
    try:
        content, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        raise UserError(f"{path} can't be read as audio ({reason}). WAV, FLAC and OGG are; convert or remove it.") from None
    if not len(content):
        raise UserError(f"{path} is a recording of length 0; remove it.")
    if not np.isfinite(content).all():
        raise UserError(f"{path} holds samples that are no numbers (NaN or infinite); mend or remove it.")
    if (announced := _announced_bytes(path)) > path.stat().st_size:
        raise UserError(
            f"{path} is cut off: {announced:,} bytes by its header, {path.stat().st_size:,} there. Mend or remove it."
        )
    return np.clip(resample(content.mean(axis=1), rate, sample_rate), -1, 1)


def _announced_bytes(path: Path) -> int:
    """How long a WAV file is by its header, 0 where that says nothing. (libsndfile reads what is there, without a word.)"""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return 0
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                return 0 if size >= 0x7FFFF000 else file.tell() + size  # so large: written into a pipe, length unknown
            file.seek(size + size % 2, 1)
    return 0


def resample(waveform: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """The same sound with other samples a second."""
    return waveform if rate == sample_rate else librosa.resample(waveform, orig_sr=rate, target_sr=sample_rate)


def fit_length(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Exactly `samples` of them: silence on both sides of a shorter clip, the loudest part of a longer one."""
    missing = samples - len(waveform)
    if missing >= 0:
        return np.pad(waveform, (missing // 2, missing - missing // 2))
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return waveform[start : start + samples]


def to_int16(waveform: np.ndarray) -> np.ndarray:
    return np.round(np.clip(waveform, -1, 32767 / 32768) * 32768).astype(np.int16)


def to_float(waveform: np.ndarray) -> np.ndarray:
    return waveform.astype(np.float32) / 32768


def make_noise(samples: int, seed: int) -> np.ndarray:
    """Background noise `(samples,)`: hiss, rumble and what lies between, now louder, now softer."""
    rng = np.random.default_rng(seed)
    frequencies = np.fft.rfftfreq(samples, 1 / samples)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    colours = [np.fft.irfft(spectrum * np.maximum(frequencies, 1) ** -slope, samples) for slope in (0, 0.5, 1)]
    times = np.linspace(0, samples, max(4, samples // 8_000))
    noise = sum(
        colour / colour.std() * np.interp(np.arange(samples), times, rng.uniform(0, 1, len(times)) ** 2) for colour in colours
    )
    return (0.1 * noise / np.abs(noise).max()).astype(np.float32)
