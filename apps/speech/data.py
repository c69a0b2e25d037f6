"""Spoken words: your own folder, Speech Commands, or a synthesizer's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from apps.speech import audio, sample, split
from apps.speech.config import Config
from shared.cli import UserError
from shared.data import Unavailable, existing_path, fingerprint, read_prepared, write_array
from shared.download import Source, fetch_archive

SPEECH_COMMANDS = Source(  # 2.4 GB
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    name="speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
UNKNOWN, SILENCE, BACKGROUND = "_unknown_", "_silence_", "_background_noise_"
PARTS = ("train", "validation", "test")
SAMPLE_SIZES = {"train": 80, "validation": 16, "test": 16}  # of each word
NOISE_SECONDS = 60  # where it has to be generated; at least twenty clips' length
FADE_SECONDS = 0.05  # from one piece of background noise into the next


class Clips(NamedTuple):
    """Waveforms `(n, samples)` of 16-bit numbers, memory-mapped; labels `(n,)`: indices into `class_names`; where from."""

    waveforms: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    sources: list[str]
    speakers: list[str] | tuple = ()  # "" where the name does not say; () where the source names none


class Speech(NamedTuple):
    """The three parts, where they are from, and what a reader of the scores has to be warned of."""

    train: Clips
    validation: Clips
    test: Clips
    name: str
    fingerprint: str
    warnings: tuple[str, ...]


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


def load(config: Config) -> tuple[Speech, np.ndarray]:
    """Load train, validation and test; and background noise `(samples,)`, from -1 to 1, to train with.

    Words that are not asked for become _unknown_. Of _unknown_ and _silence_ no more are taken than an average word has, but
    for a benchmark's test part that knows no others: it stays as it is. Where there is a class _silence_ and a part has none
    of it, clips are cut from background noise, of which each part has a stretch of its own.

    Raises:
        UserError: for a folder that is not there or does not hold recordings of words.
    """
    catalogue = _catalogue_own(config) if config.data else _catalogue_public(config)
    for warning in catalogue.warnings:
        print(f"warning: {warning}")
    class_names, noises = _class_names(catalogue, config), catalogue.noises
    has_silence = SILENCE in class_names and all(SILENCE in part for part in catalogue.words)
    if not noises and not has_silence:
        print(f"{catalogue.name} has no {BACKGROUND}: noise for training{_and_silence(class_names)} is generated.")
        noises = [_make_noise(config)]
    parts = [_read_part(catalogue, part, class_names, noises, config) for part in range(len(PARTS))]
    if noises:
        background = _stretch(noises, 0, config.sample_rate)
    else:
        silent = parts[0].waveforms[parts[0].labels == class_names.index(SILENCE)]
        background = audio.join([audio.to_float(one) for one in silent], round(FADE_SECONDS * config.sample_rate))
    content = (array.tobytes() for part in parts for array in (*part.waveforms, part.labels))
    return Speech(*parts, catalogue.name, fingerprint(content), catalogue.warnings), background


def _and_silence(class_names: tuple[str, ...]) -> str:
    return f", and where there is none {SILENCE}," if SILENCE in class_names else ""


def _class_names(catalogue: Catalogue, config: Config) -> tuple[str, ...]:
    """The words, then _unknown_ where there are others, then _silence_ where that makes sense: a command may be missing."""
    found = {word for part in catalogue.words for word in part}
    words = _choose_words(found, config)
    others = (UNKNOWN,) if found - {*words, SILENCE} else ()
    silence = config.silence
    if silence is None:
        silence = SILENCE in found or bool(catalogue.noises) or set(COMMANDS) <= set(words)
    return (*words, *others, *([SILENCE] if silence else []))


def _choose_words(found: set[str], config: Config) -> tuple[str, ...]:
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


def _read_part(catalogue: Catalogue, part: int, class_names, noises, config: Config) -> Clips:
    """Read what is kept of a part: all clips of the words, as many of _unknown_ and _silence_ as a word has on average."""
    rng = np.random.default_rng([split.SEED, part])
    words = [name for name in class_names if name not in (UNKNOWN, SILENCE)]
    found = np.array([_class_of(word, class_names) for word in catalogue.words[part]])
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


def _class_of(word: str, class_names) -> str:
    """What a recording counts as. (_silence_ that is not asked for stays what it is, and is left out.)"""
    return word if word in class_names or word == SILENCE else UNKNOWN


def _check_complete(name: str, part: int, found: set[str], class_names) -> None:
    for word in class_names:
        if word not in found and word != SILENCE:
            what = f"'{word}'" if word != UNKNOWN else "any other word (for _unknown_)"
            raise UserError(
                f"{name}: there is no recording of {what} for {PARTS[part]}. "
                "Record more, by more speakers, or leave the word out with --words."
            )


def _make_noise(config: Config) -> np.ndarray:
    samples = round(max(NOISE_SECONDS, 20 * config.clip_seconds) * config.sample_rate)
    return audio.make_noise(samples, config.sample_rate, split.SEED)


def _stretch(noises: list[np.ndarray], part: int, sample_rate: int) -> np.ndarray:
    """What one part gets of the background noise: the first 80 % of each recording, the next 10 % or the last."""
    borders = (0.0, 0.8, 0.9, 1.0)
    pieces = [one[int(borders[part] * len(one)) : int(borders[part + 1] * len(one))] for one in noises]
    return audio.join(pieces, round(FADE_SECONDS * sample_rate))


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
    class_names = _choose_words(set(files.words), config)
    return [_class_of(word, class_names) for word in files.words]


def _catalogue_own(config: Config) -> Catalogue:
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
    return Catalogue("speech_commands", words, sources, read, [], is_benchmark=True)


def _catalogue_sample(config: Config) -> Catalogue:
    words = [[word for word in sample.WORDS for _ in range(count)] for count in SAMPLE_SIZES.values()]

    def read(part: int, rows: list[int]) -> Iterator[np.ndarray]:
        for row in rows:
            rng = np.random.default_rng([part, row])
            yield audio.resample(sample.say(words[part][row], sample.make_voice(rng), rng), sample.RATE, config.sample_rate)

    sources = [[f"{word} {part} {row}" for row, word in enumerate(found)] for part, found in zip(PARTS, words, strict=True)]
    return Catalogue("sample", words, sources, read, [_make_noise(config)])
