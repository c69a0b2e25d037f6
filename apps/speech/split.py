"""Which recording is for training, validation or test: by lists, else by speaker, else by file."""

import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from shared.cli import UserError

LISTS = {1: "validation_list.txt", 2: "testing_list.txt"}  # by the number of the part
SPEAKER = r"^(.+)_nohash_\d+$"  # as Speech Commands names its files
SEPARATORS = re.compile(r"[-_. ]+")
SEED = 0  # not that of --seed: runs with different seeds are judged on the same test part


def compile_pattern(pattern: str | None) -> re.Pattern | int:
    """`--speaker-pattern` as a regular expression with a group, or as a position, counted from 1.

    Raises:
        UserError: if it is neither.
    """
    if pattern and pattern.isdecimal() and int(pattern):
        return int(pattern)
    try:
        compiled = re.compile(pattern or SPEAKER)
    except re.error as error:
        raise UserError(f"--speaker-pattern '{pattern}' is no regular expression ({error}).") from None
    if not compiled.groups:
        raise UserError(
            f"--speaker-pattern '{pattern}' has no group for the speaker, as '_(.+)_' has; or give 2 for a name's second part."
        )
    return compiled


def speaker_of(stem: str, pattern: re.Pattern | int) -> str:
    """Who speaks, by a file's name without its ending; "" where that does not tell."""
    if isinstance(pattern, int):
        pieces = SEPARATORS.split(stem)
        return pieces[pattern - 1] if pattern <= len(pieces) else ""
    found = pattern.search(stem)
    return (found.group(1) or "") if found else ""


def by_lists(folder: Path, names: list[str]) -> np.ndarray:
    """Number of each file's part, as validation_list.txt and testing_list.txt have it; train is what is in neither.

    Files of a folder that was removed as a whole are passed over: that leaves a word out.
    """
    number, rows = np.zeros(len(names), int), {name: row for row, name in enumerate(names)}
    removed = set()
    for part, file in LISTS.items():
        listed = _lines(folder, file)
        removed |= {word for word in {name.split("/")[0] for name in listed} if not (folder / word).is_dir()}
        listed = [name for name in listed if name.split("/")[0] not in removed]
        if missing := [name for name in listed if name not in rows]:
            raise UserError(f"{folder / file} names {len(missing)} files that are not there, the first one is {missing[0]}.")
        number[[rows[name] for name in listed]] = part
    print(f"{folder.name}: split by {' and '.join(LISTS.values())}.")
    if removed:
        print(f"The lists name files of folders that are not there, which are left out: {', '.join(sorted(removed))}.")
    return number


def _lines(folder: Path, file: str) -> list[str]:
    if not (folder / file).exists():
        raise UserError(f"--data {folder} has one of {' and '.join(LISTS.values())} but no {file}; add it, or remove both.")
    try:
        lines = (folder / file).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{folder / file} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    return [line.strip() for line in lines if line.strip()]


def by_speaker(
    words: list[str], classes: list[str], speakers: list[str], optional: set[str], test_speaker: str | None = None
) -> np.ndarray:
    """80 / 10 / 10 %, every word in proportion, and no speaker in two parts.

    Args:
        words: `(n,)`, the folder of each recording.
        classes: `(n,)`, what each counts as; each part is to hold all of them
            but those that are `optional`.
        speakers: `(n,)`; one whose speaker is "" is taken for the only recording of its speaker.
        test_speaker: all of this speaker's recordings, and no others, are the test part.

    Returns:
        `(n,)`: 0 for train, 1 for validation, 2 for test.
    """
    words, classes = np.array(words), np.array(classes)
    groups = np.array([speaker or f"/{row}" for row, speaker in enumerate(speakers)])
    number = np.where(groups == test_speaker, 2, 0)
    if test_speaker and not number.any():
        raise UserError(f"--test-speaker '{test_speaker}': there are no recordings of that speaker.")
    rest = np.flatnonzero(number == 0)
    parts, needed = (1,) if test_speaker else (1, 2), set(classes) - optional
    for part, rows in zip(parts, _folds(words[rest], classes[rest], groups[rest], needed, len(parts)), strict=True):
        number[rest[rows]] = part
    return number


def _folds(words: np.ndarray, classes: np.ndarray, groups: np.ndarray, needed: set[str], count: int) -> list[np.ndarray]:
    """Rows of `count` folds: a tenth of all each, or more where a tenth does not hold every class."""
    speakers = len(set(groups))
    most = min(10, speakers, max(Counter(words.tolist()).values()))
    if most <= count:
        raise UserError(_too_few(groups, most, count))
    splitter, first = StratifiedGroupKFold if speakers < len(groups) else StratifiedKFold, None
    for number in range(most, count, -1):
        with warnings.catch_warnings():  # of words in fewer folds than there are, which is what is looked for here
            warnings.simplefilter("ignore", UserWarning)
            folds = [rows for _, rows in splitter(number, shuffle=True, random_state=SEED).split(words, words, groups)]
        first = first or folds[:count]
        whole = [rows for rows in folds if set(classes[rows]) >= needed][:count]
        if len(whole) == count and set(np.delete(classes, np.concatenate(whole))) >= needed:
            return whole
    return first


def _too_few(groups: np.ndarray, most: int, count: int) -> str:
    """What is wrong where there is too little to be split."""
    named = sorted({str(group) for group in groups if not group.startswith("/")})
    if len(named) == len(set(groups)) < count + 1:
        return (
            f"All recordings are of {len(named)} speaker(s) ({', '.join(map(repr, named[:5]))}), by the files' names; a split "
            f"by speaker needs {count + 1}. Record others, or, if the names say something else, give --speaker-pattern; "
            "--speaker-pattern '(.+)' splits by file."
        )
    return f"{len(set(groups))} speakers or recordings, at most {most} of a word, can't be split in three; record more."
