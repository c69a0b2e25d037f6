"""Recordings as numbers from -1 to 1: reading any format, one length for all, generated noise."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr

from shared.cli import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
LOWEST_HERTZ = 20.0  # of generated noise: what is below is inaudible
PROBLEMS_NAMED = 10
UNKNOWN_LENGTH = 2**62  # frames, from which libsndfile means that it does not know
MAX_PEAK = 16.0  # a floating-point recording may exceed 1 a little; beyond this it holds another unit, say 16-bit numbers
Result = TypeVar("Result")


def read(path: Path, sample_rate: int) -> np.ndarray:
    """A recording's samples `(n,)`: channels averaged, resampled to `sample_rate`.

    Raises:
        UserError: if it can't be read or holds nothing.
    """
    check_header(path)
    try:
        content, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise _unreadable(path, error) from None
    return np.clip(resample(_to_mono(path, content), rate, sample_rate), -1, 1)


def read_blocks(path: Path, sample_rate: int, seconds: float) -> Iterator[np.ndarray]:
    """What `read` gives, in blocks of about `seconds`: a recording of any length takes the same memory, but for MP3.

    Raises:
        UserError: see `read`; for samples that are not numbers, only when their block is reached.
    """
    check_header(path)
    info = soundfile.info(path)
    if info.format == "MP3":  # soundfile seeks after each block, which an MP3's decoder does not survive: noise from there on
        whole, size = read(path, sample_rate), max(1, round(seconds * sample_rate))
        yield from (whole[start : start + size] for start in range(0, len(whole), size))
        return
    resampler = soxr.ResampleStream(info.samplerate, sample_rate, 1, dtype="float32")
    try:
        for block in soundfile.blocks(path, max(1, round(seconds * info.samplerate)), dtype="float32", always_2d=True):
            yield np.clip(resampler.resample_chunk(_to_mono(path, block)), -1, 1)
    except (OSError, soundfile.SoundFileError) as error:
        raise _unreadable(path, error) from None
    yield np.clip(resampler.resample_chunk(np.zeros(0, np.float32), last=True), -1, 1)


def check_header(path: Path) -> None:
    """Look at no more than the header of a recording.

    Raises:
        UserError: if it is not there, no audio, cut off, or of length 0 or unknown.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a recording. Give the files in it, for example {path}/*.wav")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file (looked from {Path.cwd()}).")
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        raise _unreadable(path, error) from None
    if not info.frames:
        raise UserError(f"{path} is a recording of length 0; remove it.")
    if info.frames >= UNKNOWN_LENGTH:
        raise UserError(f"{path} does not say how long it is, as FLAC written into a pipe; convert it again, into a file.")
    if (announced := _announced_bytes(path)) > path.stat().st_size:
        raise UserError(
            f"{path} is cut off: {announced:,} bytes by its header, {path.stat().st_size:,} there. Fix or remove it."
        )


def check_samples(name: object, samples: np.ndarray) -> None:
    """Look at what a recording holds; `name` is what a message calls it.

    Raises:
        UserError: if that is not finite, or far beyond -1 to 1.
    """
    if not np.isfinite(samples).all():
        raise UserError(f"{name} holds samples that are no numbers (NaN or infinite); fix or remove it.")
    if (peak := np.abs(samples).max(initial=0)) > MAX_PEAK:
        raise UserError(
            f"{name} holds floating-point samples up to {peak:,.0f}; expected -1 to 1. Scale them and save it again."
        )


def _to_mono(path: Path, content: np.ndarray) -> np.ndarray:
    """Samples `(n, channels)` to `(n,)`: the mean of the channels."""
    check_samples(path, content)
    return content.mean(axis=1)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    if "not recognised" in reason:
        return UserError(f"{path} is no audio, whatever its name says: it is neither WAV nor FLAC, OGG or MP3. Remove it.")
    return UserError(f"{path} can't be read as audio ({reason}). WAV, FLAC, OGG and MP3 are; convert or remove it.")


def collect_problems(paths: list[Path], act: Callable[[Path], Result]) -> Iterator[Result]:
    """`act(path)` of each path, one after the other.

    Raises:
        UserError: at the end, if `act` has raised some: how many, and the first ones.
    """
    problems = []
    for path in paths:
        try:
            yield act(path)
        except UserError as problem:
            problems.append(str(problem))
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        more = len(problems) - PROBLEMS_NAMED
        named = "\n".join(problems[:PROBLEMS_NAMED] + ([f"and {more} more."] if more > 0 else []))
        raise UserError(f"{len(problems)} of {len(paths)} recordings can't be used:\n{named}")


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
    """The same sound with other samples per second, as `librosa.resample` gives it."""
    if rate == sample_rate:
        return waveform
    samples = int(np.ceil(len(waveform) * (sample_rate / rate)))
    resampled = soxr.resample(waveform, rate, sample_rate)[:samples]
    return np.pad(resampled, (0, samples - len(resampled)))


def fft_length(window_length: int) -> int:
    """Samples that a window is filled up to for the FFT: the next power of 2."""
    return 1 << (window_length - 1).bit_length()


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


def join(pieces: list[np.ndarray], overlap: int) -> np.ndarray:
    """Pieces of noise one behind the other, each faded into the next over `overlap` samples, so that nothing jumps.

    The fades keep the power: the squares of what a sample is multiplied with add up to 1.
    """
    overlap = min(overlap, min(map(len, pieces)) // 2)
    rising = np.sin(np.linspace(0, np.pi / 2, overlap)).astype(np.float32)
    joined = np.zeros(sum(map(len, pieces)) - overlap * (len(pieces) - 1), np.float32)
    start = 0
    for number, piece in enumerate(pieces):
        faded = piece.astype(np.float32)
        if number > 0:
            faded[:overlap] *= rising
        if number < len(pieces) - 1:
            faded[len(piece) - overlap :] *= rising[::-1]
        joined[start : start + len(piece)] += faded
        start += len(piece) - overlap
    return joined


def make_noise(samples: int, sample_rate: int, seed: int) -> np.ndarray:
    """Background noise `(samples,)`: hiss, rumble and what lies between, now louder, now softer; nothing below 20 Hz."""
    rng = np.random.default_rng(seed)
    hertz = np.fft.rfftfreq(samples, 1 / sample_rate)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    colours = [np.fft.irfft(spectrum * np.maximum(hertz, LOWEST_HERTZ) ** -slope, samples) for slope in (0, 0.5, 1)]
    times = np.linspace(0, samples, max(4, 2 * samples // sample_rate))
    noise = sum(
        colour / colour.std() * np.interp(np.arange(samples), times, rng.uniform(0, 1, len(times)) ** 2) for colour in colours
    )
    noise = np.fft.irfft(np.fft.rfft(noise) * (hertz >= LOWEST_HERTZ), samples)
    return (0.1 * noise / np.abs(noise).max()).astype(np.float32)
