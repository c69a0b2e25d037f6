"""Spoken words: your own folder, Speech Commands, or a synthesizer's."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from apps.speech import audio, sample
from apps.speech.config import Config
from shared.cli import UserError
from shared.data import Splits, Unavailable, existing_path, fingerprint, read_prepared, write_array
from shared.download import Source, fetch_archive

SPEECH_COMMANDS = Source(  # 2.4 GB
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    name="speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
UNKNOWN, SILENCE, BACKGROUND = "_unknown_", "_silence_", "_background_noise_"
PARTS = ("train", "validation", "test")
SPEAKER = re.compile(r"(.+)_nohash_\d+")  # in a file's name, as Speech Commands has it
LISTS = {1: "validation_list.txt", 2: "testing_list.txt"}  # by the number of the part
SAMPLE_SIZES = {"train": 80, "validation": 16, "test": 16}  # of each word
NOISE_SECONDS = 60  # where it has to be generated; at least twenty clips' length


class Clips(NamedTuple):
    """Waveforms `(n, samples)` of 16-bit numbers, memory-mapped; labels `(n,)`: indices into `class_names`; where from."""

    waveforms: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    sources: list[str]


class Catalogue(NamedTuple):
    """What there is to be read: for each part the recordings' words and names, in order; and how to read some of them."""

    name: str
    words: list[list[str]]
    sources: list[list[str]]
    read: Callable[[int, list[int]], Iterator[np.ndarray]]  # number of the part, rising numbers of its recordings
    noises: list[np.ndarray]


def load(config: Config) -> tuple[Splits, np.ndarray]:
    """Load train, validation and test, each a `Clips`; and background noise `(samples,)`, from -1 to 1, to train with.

    Words that are not asked for become _unknown_. Of _unknown_ and _silence_ no more are taken than an average word has, but
    for a test part that knows no others: that is a benchmark's, and stays as it is. In a part where nothing is called
    _silence_, its clips are cut from background noise, of which each part has a stretch of its own.

    Raises:
        UserError: for a folder that is not there or does not hold recordings of words.
    """
    catalogue = _catalogue_own(config) if config.data else _catalogue_public(config)
    words = _choose_words({word for part in catalogue.words for word in part}, config)
    noises = catalogue.noises
    if not noises and not all(SILENCE in part for part in catalogue.words):
        print(f"{catalogue.name} has no {BACKGROUND}, and not in every part {SILENCE}; both are made of generated noise.")
        noises = [_make_noise(config, config.seed)]
    parts = [_read_part(catalogue, part, words, noises, config) for part in range(len(PARTS))]
    if noises:
        background = _stretch(noises, 0)
    else:
        silent = parts[0].labels == parts[0].class_names.index(SILENCE)
        background = audio.to_float(parts[0].waveforms[silent].ravel())
    content = (array.tobytes() for part in parts for array in (*part.waveforms, part.labels))
    return Splits(*parts, catalogue.name, fingerprint(content)), background


def _choose_words(found: set[str], config: Config) -> tuple[str, ...]:
    """The words to tell apart, in alphabetical order."""
    there = sorted(word for word in found if word not in (UNKNOWN, SILENCE))
    if missing := [word for word in config.words if word not in there]:
        raise UserError(f"--words {' '.join(missing)}: there are no recordings of that; there are some of {', '.join(there)}.")
    words = sorted(config.words) if config.words else list(COMMANDS) if set(COMMANDS) <= found else there
    if len(words) < 2:
        raise UserError(f"Expected recordings of two words or more, a folder for each; found {', '.join(words) or 'none'}.")
    return tuple(words)


def _read_part(catalogue, part: int, words, noises, config: Config) -> Clips:
    """Read what is kept of a part: all clips of the words, as many of _unknown_ and _silence_ as a word has on average."""
    rng = np.random.default_rng([config.seed, part])
    others = (UNKNOWN,) if any(word not in (*words, SILENCE) for part in catalogue.words for word in part) else ()
    class_names = (*words, *others, SILENCE)
    found = np.array([word if word in class_names else UNKNOWN for word in catalogue.words[part]])
    for word in (*words, *others):
        if word not in found:
            what = f"'{word}'" if word in words else "any other word (for _unknown_)"
            raise UserError(
                f"{catalogue.name}: there is no recording of {what} for {PARTS[part]}. "
                "Record more, by more speakers, or leave the word out with --words."
            )
    average = round(np.mean([np.sum(found == word) for word in words]))
    limit = config.limit or len(found)
    as_it_is = part == PARTS.index("test") and set(catalogue.words[part]) <= {*words, UNKNOWN, SILENCE}
    most = dict.fromkeys((*words, UNKNOWN, SILENCE), limit)
    if not as_it_is:
        most |= {UNKNOWN: min(average, limit), SILENCE: min(average, limit)}
    kept = [rng.permutation(np.flatnonzero(found == word))[:count] for word, count in most.items()]
    rows = np.sort(np.concatenate(kept))
    labels = [class_names.index(word) for word in found[rows]]
    sources = [catalogue.sources[part][row] for row in rows]
    made = 0 if SILENCE in found else min(average, limit)

    def waveforms() -> Iterator[np.ndarray]:
        for waveform in catalogue.read(part, rows.tolist()):
            yield audio.to_int16(audio.fit_length(waveform, config.samples))
        noise = _stretch(noises, part) if made else None
        for _ in range(made):
            start = rng.integers(len(noise) - config.samples + 1)
            yield audio.to_int16(rng.uniform(0, 1) * noise[start : start + config.samples])

    labels += [class_names.index(SILENCE)] * made
    sources += ["background noise"] * made
    array = write_array(waveforms(), "int16").reshape(-1, config.samples)
    return Clips(array, np.array(labels), class_names, sources)


def _make_noise(config: Config, seed: int) -> np.ndarray:
    return audio.make_noise(round(max(NOISE_SECONDS, 20 * config.clip_seconds) * config.sample_rate), seed)


def _stretch(noises: list[np.ndarray], part: int) -> np.ndarray:
    """What one part gets of the background noise: the first 80 % of each recording, the next 10 % or the last."""
    borders = (0.0, 0.8, 0.9, 1.0)
    return np.concatenate([one[int(borders[part] * len(one)) : int(borders[part + 1] * len(one))] for one in noises])


def _catalogue_own(config: Config) -> Catalogue:
    """The user's folder: as the archive of Speech Commands is laid out, or without its lists."""
    folder = existing_path("--data", config.data)
    if not folder.is_dir():
        raise UserError(f"--data {folder} is a file; expected a folder with a folder for each word.")
    found = _recordings(folder)
    noises = [audio.read(path, config.sample_rate) for path in found if path.parent.name == BACKGROUND]
    if noises and sum(map(len, noises)) * 0.1 < config.samples + len(noises):
        raise UserError(f"{folder / BACKGROUND} holds too little: ten clips' length ({10 * config.clip_seconds} s) is needed.")
    files = [path for path in found if path.parent.name != BACKGROUND]
    if not files:
        raise UserError(
            f"--data {folder}: expected a folder for each word with {', '.join(audio.SUFFIXES)} files in it; found none."
        )
    names = [f"{path.parent.name}/{path.name}" for path in files]
    has_lists = any((folder / file).exists() for file in LISTS.values())
    number = _by_lists(folder, names) if has_lists else _by_speaker(files, config.seed)
    parts = [np.flatnonzero(number == part) for part in range(len(PARTS))]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        return (audio.read(files[parts[part][row]], config.sample_rate) for row in rows)

    words = [[files[row].parent.name for row in rows] for rows in parts]
    return Catalogue(folder.resolve().name, words, [[names[row] for row in rows] for rows in parts], read, noises)


def _recordings(folder: Path) -> list[Path]:
    """All files that can be read in the folders of a folder; what else lies there is told of."""
    found = []
    for word in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        inside = sorted(path for path in word.iterdir() if not path.name.startswith("."))
        recordings = [path for path in inside if path.suffix.lower() in audio.SUFFIXES and path.is_file()]
        others = [path for path in inside if path not in recordings and path.name != "README.md"]
        if others and not recordings:
            raise UserError(
                f"{word}: expected {', '.join(audio.SUFFIXES)} files; found none, but {others[0].name}. Convert, or remove it."
            )
        if others:
            kinds = ", ".join(audio.SUFFIXES)
            print(f"{word}: {len(others)} of {len(inside)} are no {kinds} files and left out, {others[0].name} for one.")
        found += recordings
    return found


def _by_lists(folder: Path, names: list[str]) -> np.ndarray:
    """Number of each file's part, as validation_list.txt and testing_list.txt have it; train is what stands in neither."""
    number = np.zeros(len(names), int)
    rows = {name: row for row, name in enumerate(names)}
    for part, file in LISTS.items():
        if not (folder / file).exists():
            raise UserError(f"--data {folder} has one of {' and '.join(LISTS.values())} but no {file}; add it, or remove both.")
        try:
            lines = (folder / file).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{folder / file} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
        listed = [line.strip() for line in lines if line.strip()]
        if missing := [name for name in listed if name not in rows]:
            raise UserError(f"{folder / file} names {len(missing)} files that are not there, the first one is {missing[0]}.")
        number[[rows[name] for name in listed]] = part
    print(f"{folder.name}: split by validation_list.txt and testing_list.txt.")
    return number


def _by_speaker(files: list[Path], seed: int) -> np.ndarray:
    """80 / 10 / 10 %, every word in proportion, and no speaker in two parts where the names tell who speaks.

    With fewer than ten speakers or recordings of a word, validation and test are one of so many parts each.
    """
    matches = [SPEAKER.fullmatch(path.stem) for path in files]
    groups = [match.group(1) if match else str(path) for match, path in zip(matches, files, strict=True)]
    words = [path.parent.name for path in files]
    folds = min(10, len(set(groups)), max(Counter(words).values()))
    if folds < 3:
        raise UserError(
            f"{len(set(groups))} speakers or recordings, at most {folds} of a word, can't be split in three; record more."
        )
    number = np.zeros(len(files), int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of a word that is in fewer parts than there are; _read_part says so where it matters
        warnings.simplefilter("ignore", UserWarning)
        for part, (_, rows) in zip((1, 2), splitter.split(words, words, groups), strict=False):
            number[rows] = part
    unknown = matches.count(None)
    print(
        "Split by speaker."
        if not unknown
        else f"Split by speaker where a file's name tells one; {unknown} of {len(files)} do not."
    )
    return number


def _catalogue_public(config: Config) -> Catalogue:
    if config.dataset != "sample":
        try:
            if prepared := read_prepared("speech_commands", list(PARTS)):
                return _catalogue_prepared(prepared, config)
            return _catalogue_own(replace(config, data=str(fetch_archive(SPEECH_COMMANDS)), dataset="auto"))
        except Unavailable as reason:
            if config.dataset == "speech_commands":
                raise UserError(
                    f"Speech Commands is not available: {reason}. Give --data, or leave --dataset out for the sample."
                ) from None
            print(f"{'=' * 80}\nSpeech Commands is not available: {reason}.\nGoing on with the SAMPLE, words from a")
            print(f"synthesizer. Its numbers say that the program works, nothing about real speech.\n{'=' * 80}")
    return _catalogue_sample(config)


def _catalogue_prepared(parts: list[Callable[[], Iterator[dict]]], config: Config) -> Catalogue:
    """Speech Commands (Warden, 2018) as TensorFlow Datasets has prepared it: twelve classes, 16 kHz."""
    names = [*COMMANDS, SILENCE, UNKNOWN]
    words = [[names[row["label"]] for row in rows()] for rows in parts]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        kept = set(rows)
        for number, row in enumerate(parts[part]()):
            if number in kept:
                yield audio.resample(audio.to_float(row["audio"]), 16_000, config.sample_rate)

    sources = [[f"{part} {row}" for row in range(len(found))] for part, found in zip(PARTS, words, strict=True)]
    return Catalogue("speech_commands", words, sources, read, [])


def _catalogue_sample(config: Config) -> Catalogue:
    words = [[word for word in sample.WORDS for _ in range(count)] for count in SAMPLE_SIZES.values()]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        for row in rows:
            rng = np.random.default_rng([part, row])
            yield audio.resample(sample.say(words[part][row], sample.make_voice(rng), rng), sample.RATE, config.sample_rate)

    sources = [[f"{word} {part} {row}" for row, word in enumerate(found)] for part, found in zip(PARTS, words, strict=True)]
    return Catalogue("sample", words, sources, read, [_make_noise(config, seed=0)])
