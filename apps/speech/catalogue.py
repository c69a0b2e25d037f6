"""Which recordings there are, by part and word, before they are read: your own folder, Speech Commands, or a synthesizer's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from apps.speech import audio, sample, split
from apps.speech.config import SILENCE, UNKNOWN, Config
from shared.cli import UserError
from shared.data import Source, existing_path, public_or_sample, read_prepared
from shared.download import fetch_archive

SPEECH_COMMANDS = Source(  # 2.4 GB
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    name="speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
BACKGROUND = "_background_noise_"
PARTS = ("train", "validation", "test")
SAMPLE_SIZES = {"train": 80, "validation": 16, "test": 16}  # of each word
NOISE_SECONDS = 60  # where it has to be generated; at least twenty clips' length
FADE_SECONDS = 0.05  # from one piece of background noise into the next


class Catalogue(NamedTuple):
    """What there is to be read: for each part the recordings' words and names, in order; and how to read some of them."""

    name: str
    words: list[list[str]]
    sources: list[list[str]]
    read: Callable[[int, list[int]], Iterator[np.ndarray]]  # number of the part, rising numbers of its recordings
    noises: list[np.ndarray]
    speakers: list[list[str]] | None = None
    is_benchmark: bool = False  # its test part is given: others are measured on it too
    warnings: tuple[str, ...] = ()


def find_recordings(config: Config) -> Catalogue:
    """The recordings that the config asks for; those of a user's folder are not read but for their headers."""
    if config.data:
        return _of_folder(config)
    return public_or_sample(
        config.dataset,
        "Speech Commands",
        public=lambda: _of_speech_commands(config),
        sample=lambda: _of_sample(config),
        about_sample="words from a synthesizer",
    )


def choose_words(found: set[str], config: Config) -> tuple[str, ...]:
    """The words to tell apart, in alphabetical order."""
    there = sorted(word for word in found if word not in (UNKNOWN, SILENCE))
    if missing := [word for word in config.words if word not in there]:
        raise UserError(f"--words {' '.join(missing)}: there are no recordings of that; there are some of {_quoted(there)}.")
    words = sorted(config.words) if config.words else list(COMMANDS) if set(COMMANDS) <= found else there
    if len(words) < 2:
        raise UserError(f"Expected recordings of two words or more, a folder for each; found {_quoted(words) or 'none'}.")
    return tuple(words)


def _quoted(names) -> str:
    return ", ".join(f"'{name}'" for name in names)


class Files(NamedTuple):
    """The recordings in a user's folder: path, folder, speaker ("" where the name does not tell) of each."""

    folder: Path
    paths: list[Path]
    words: list[str]
    speakers: list[str]
    noises: list[Path]


def find_files(config: Config) -> Files:
    """All recordings in the folder `--data`; nothing but the files' headers is read.

    Raises:
        UserError: if it is no folder of folders of recordings, or if files are no audio; all of them are named.
    """
    folder = existing_path("--data", config.data)
    if not folder.is_dir():
        raise UserError(f"--data {folder} is a file; expected a folder with a folder for each word.")
    found = _recordings(folder)
    list(audio.collect_problems(found, audio.check_header))
    paths = [path for path in found if path.parent.name != BACKGROUND]
    if not paths:
        raise UserError(
            f"--data {folder}: expected a folder for each word with {', '.join(audio.SUFFIXES)} files in it; found none."
        )
    pattern = split.compile_pattern(config.speaker_pattern)
    speakers = [split.speaker_of(path.stem, pattern) for path in paths]
    noises = [path for path in found if path.parent.name == BACKGROUND]
    return Files(folder, paths, [path.parent.name for path in paths], speakers, noises)


def classes_of(files: Files, config: Config) -> list[str]:
    """What each recording counts as: its folder, or _unknown_."""
    class_names = choose_words(set(files.words), config)
    return [class_of(word, class_names) for word in files.words]


def _of_folder(config: Config) -> Catalogue:
    """The user's folder: as the archive of Speech Commands is laid out, or without its lists."""
    files = find_files(config)
    noises = _read_noises(files, config)
    names = [f"{path.parent.name}/{path.name}" for path in files.paths]
    has_lists = any((files.folder / file).exists() for file in split.LISTS.values())
    if has_lists and not config.test_speaker:
        number, warnings = split.by_lists(files.folder, names), ()
    else:
        number, warnings = _split_by_speaker(files, config)
    parts = [np.flatnonzero(number == part) for part in range(len(PARTS))]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        paths = [files.paths[parts[part][row]] for row in rows]
        return audio.collect_problems(paths, lambda path: audio.read(path, config.sample_rate))

    def in_parts(values: list[str]) -> list[list[str]]:
        return [[values[row] for row in rows] for rows in parts]

    words, sources, speakers = map(in_parts, (files.words, names, files.speakers))
    return Catalogue(files.folder.resolve().name, words, sources, read, noises, speakers, has_lists, warnings)


def _read_noises(files: Files, config: Config) -> list[np.ndarray]:
    noises = [audio.read(path, config.sample_rate) for path in files.noises]
    needed = config.samples + len(noises) * (1 + round(FADE_SECONDS * config.sample_rate))
    if noises and sum(map(len, noises)) * 0.1 < needed:
        raise UserError(
            f"{files.folder / BACKGROUND} holds too little: ten clips' length ({10 * config.clip_seconds} s) is needed, and "
            f"{10 * FADE_SECONDS} s more for each recording."
        )
    return noises


def _split_by_speaker(files: Files, config: Config) -> tuple[np.ndarray, tuple[str, ...]]:
    number = split.by_speaker(files.words, classes_of(files, config), files.speakers, {SILENCE}, config.test_speaker)
    if not (unknown := files.speakers.count("")):
        print(f"Split by speaker: {len(set(files.speakers))} speakers.")
        return number, ()
    example = files.paths[files.speakers.index("")].name
    return number, (
        f"the names of {unknown} of {len(files.paths)} recordings tell no speaker, for one '{example}': split by file, "
        "a speaker may be in train and test, and test scores may be too good. --speaker-pattern says where a name tells it.",
    )


def _recordings(folder: Path) -> list[Path]:
    """All files that can be read in the folders of a folder; what else lies there is reported."""
    found = []
    for word in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        inside = sorted(path for path in word.iterdir() if not path.name.startswith(".") and path.name != "README.md")
        are_audio = [path.suffix.lower() in audio.SUFFIXES and path.is_file() for path in inside]
        others = [path for path, is_audio in zip(inside, are_audio, strict=True) if not is_audio]
        kinds = ", ".join(audio.SUFFIXES)
        if others and not any(are_audio):
            raise UserError(f"'{word}': expected {kinds} files; found none, but '{others[0].name}'. Convert, or remove it.")
        if others:
            print(f"'{word}': {len(others)} of {len(inside)} are no {kinds} files and left out, '{others[0].name}' for one.")
        found += [path for path, is_audio in zip(inside, are_audio, strict=True) if is_audio]
    return found


def class_of(word: str, class_names) -> str:
    """What a recording counts as. (_silence_ that is not asked for stays what it is, and is left out.)"""
    return word if word in class_names or word == SILENCE else UNKNOWN


def make_noise(config: Config) -> np.ndarray:
    samples = round(max(NOISE_SECONDS, 20 * config.clip_seconds) * config.sample_rate)
    return audio.make_noise(samples, config.sample_rate, split.SEED)


def _of_speech_commands(config: Config) -> Catalogue:
    if prepared := read_prepared("speech_commands", list(PARTS)):
        return _of_prepared(prepared, config)
    return _of_folder(replace(config, data=str(fetch_archive(SPEECH_COMMANDS)), dataset="auto"))


def _of_prepared(parts: list[Callable[[], Iterator[dict]]], config: Config) -> Catalogue:
    """Speech Commands (Warden, 2018) as TensorFlow Datasets has prepared it: twelve classes, 16 kHz."""
    names = [*COMMANDS, SILENCE, UNKNOWN]
    words = [[names[row["label"]] for row in rows()] for rows in parts]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        kept = set(rows)
        for number, row in enumerate(parts[part]()):
            if number in kept:
                yield audio.resample(audio.to_float(row["audio"]), 16_000, config.sample_rate)

    sources = [[f"{part} {row}" for row in range(len(found))] for part, found in zip(PARTS, words, strict=True)]
    return Catalogue("speech_commands", words, sources, read, [], is_benchmark=True)


def _of_sample(config: Config) -> Catalogue:
    words = [[word for word in sample.WORDS for _ in range(count)] for count in SAMPLE_SIZES.values()]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        for row in rows:
            rng = np.random.default_rng([part, row])
            yield audio.resample(sample.say(words[part][row], sample.make_voice(rng), rng), sample.RATE, config.sample_rate)

    sources = [[f"{word} {part} {row}" for row, word in enumerate(found)] for part, found in zip(PARTS, words, strict=True)]
    return Catalogue("sample", words, sources, read, [make_noise(config)])
