"""Spoken words as waveforms of one length, in three parts, and background noise to train with."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from apps.speech import audio, split
from apps.speech.catalogue import (
    BACKGROUND,
    COMMANDS,
    FADE_SECONDS,
    PARTS,
    Catalogue,
    choose_words,
    class_of,
    find_recordings,
    make_noise,
)
from apps.speech.config import SILENCE, UNKNOWN, Config
from shared.cli import UserError
from shared.data import fingerprint, write_array


class Clips(NamedTuple):
    """Waveforms `(n, samples)` of 16-bit numbers, memory-mapped; labels `(n,)`: indices into `class_names`; where from."""

    waveforms: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    sources: list[str]
    speakers: list[str] | tuple = ()  # "" where the name does not say; () where the source names none


class Speech(NamedTuple):
    """As `shared.data.Splits`; and background noise `(samples,)`, from -1 to 1, and what readers have to be warned of."""

    train: Clips
    validation: Clips
    test: Clips
    name: str
    fingerprint: str
    noise: np.ndarray
    warnings: tuple[str, ...]


def load(config: Config) -> Speech:
    """Load train, validation and test, and background noise to train with.

    Words that are not asked for become _unknown_. Of _unknown_ and _silence_ no more are taken than an average word has, but
    for a benchmark's test part that knows no others: it stays as it is. Where there is a class _silence_ and a part has none
    of it, clips are cut from background noise, of which each part has a stretch of its own.

    Raises:
        UserError: for a folder that is not there or does not hold recordings of words.
    """
    catalogue = find_recordings(config)
    for warning in catalogue.warnings:
        print(f"warning: {warning}")
    class_names, noises = _class_names(catalogue, config), catalogue.noises
    has_silence = SILENCE in class_names and all(SILENCE in part for part in catalogue.words)
    if not noises and not has_silence:
        print(f"{catalogue.name} has no {BACKGROUND}: noise for training{_and_silence(class_names)} is generated.")
        noises = [make_noise(config)]
    parts = [_read_part(catalogue, part, class_names, noises, config) for part in range(len(PARTS))]
    if noises:
        background = _stretch(noises, 0, config.sample_rate)
    else:
        silent = parts[0].waveforms[parts[0].labels == class_names.index(SILENCE)]
        background = audio.join([audio.to_float(one) for one in silent], round(FADE_SECONDS * config.sample_rate))
    content = (array.tobytes() for part in parts for array in (*part.waveforms, part.labels))
    return Speech(*parts, catalogue.name, fingerprint(content), background, catalogue.warnings)


def _and_silence(class_names: tuple[str, ...]) -> str:
    return f", and where there is none {SILENCE}," if SILENCE in class_names else ""


def _class_names(catalogue: Catalogue, config: Config) -> tuple[str, ...]:
    """The words, then _unknown_ where there are others, then _silence_ where that makes sense: a command may be missing."""
    found = {word for part in catalogue.words for word in part}
    words = choose_words(found, config)
    others = (UNKNOWN,) if found - {*words, SILENCE} else ()
    silence = config.silence
    if silence is None:
        silence = SILENCE in found or bool(catalogue.noises) or set(COMMANDS) <= set(words)
    return (*words, *others, *([SILENCE] if silence else []))


def _read_part(catalogue: Catalogue, part: int, class_names, noises, config: Config) -> Clips:
    """Read what is kept of a part: all clips of the words, as many of _unknown_ and _silence_ as a word has on average."""
    rng = np.random.default_rng([split.SEED, part])
    words = [name for name in class_names if name not in (UNKNOWN, SILENCE)]
    found = np.array([class_of(word, class_names) for word in catalogue.words[part]])
    _check_complete(catalogue.name, part, set(found), class_names)
    average = round(np.mean([np.sum(found == word) for word in words]))
    limit = config.limit or len(found)
    as_it_is = catalogue.is_benchmark and PARTS[part] == "test" and set(catalogue.words[part]) <= {*words, UNKNOWN, SILENCE}
    most = dict.fromkeys((*words, UNKNOWN, SILENCE), limit)
    if not as_it_is:
        most |= {UNKNOWN: min(average, limit), SILENCE: min(average, limit)}
    kept = [rng.permutation(np.flatnonzero(found == word))[:count] for word, count in most.items() if word in class_names]
    rows = np.sort(np.concatenate(kept))
    labels = [class_names.index(word) for word in found[rows]]
    sources = [catalogue.sources[part][row] for row in rows]
    made = 0 if SILENCE in found or SILENCE not in class_names else min(average, limit)

    def waveforms() -> Iterator[np.ndarray]:
        for waveform in catalogue.read(part, rows.tolist()):
            yield audio.to_int16(audio.fit_length(waveform, config.samples))
        noise = _stretch(noises, part, config.sample_rate) if made else None
        for _ in range(made):
            start = rng.integers(len(noise) - config.samples + 1)
            yield audio.to_int16(rng.uniform(0, 1) * noise[start : start + config.samples])

    speakers = [catalogue.speakers[part][row] for row in rows] + [""] * made if catalogue.speakers else ()
    labels += [len(class_names) - 1] * made  # it is the last one
    sources += ["background noise"] * made
    array = write_array(waveforms(), "int16").reshape(-1, config.samples)
    return Clips(array, np.array(labels), class_names, sources, speakers)


def _check_complete(name: str, part: int, found: set[str], class_names) -> None:
    for word in class_names:
        if word not in found and word != SILENCE:
            what = f"'{word}'" if word != UNKNOWN else "any other word (for _unknown_)"
            raise UserError(
                f"{name}: there is no recording of {what} for {PARTS[part]}. "
                "Record more, by more speakers, or leave the word out with --words."
            )


def _stretch(noises: list[np.ndarray], part: int, sample_rate: int) -> np.ndarray:
    """What one part gets of the background noise: the first 80 % of each recording, the next 10 % or the last."""
    borders = (0.0, 0.8, 0.9, 1.0)
    pieces = [one[int(borders[part] * len(one)) : int(borders[part + 1] * len(one))] for one in noises]
    return audio.join(pieces, round(FADE_SECONDS * sample_rate))
