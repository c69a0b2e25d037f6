"""Sources and targets: your own file, English words and their phonemes, English and Spanish sentences, or generated dates."""

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from apps.translation import pronunciation
from apps.translation.config import Config
from apps.translation.sample import make_pairs
from apps.translation.split import TEST, TRAIN, VALIDATION, split
from apps.translation.tokens import Vocabulary, normalise
from shared.cli import UserError
from shared.data import Source, Splits, Unavailable, existing_path, fingerprint, public_or_sample
from shared.download import fetch
from shared.tables import read_table, read_text

SPA_ENG = Source("https://storage.googleapis.com/download.tensorflow.org/data/spa-eng.zip", name="spa-eng.zip")
SPA_ENG_DIR = "SPA_ENG_DIR"  # environment variable: a folder that holds spa.txt already
SAMPLE_SIZE = 20_000
KINDS = {"pronunciation": ("characters", "words"), "sample": ("characters", "characters")}
OTHER_KINDS = "subwords", "subwords"


class Pairs(NamedTuple):
    """Sources, a target of each, and all targets of that source.

    For training, a source that has several targets stands there once with each; for validation and test it stands there once,
    and `targets` holds the first of its `references`.
    """

    sources: list[str]
    targets: list[str]
    references: list[list[str]]


def load(config: Config) -> Splits:
    """Load train, validation and test, each `Pairs` of normalised texts; see split.py for what goes where.

    Raises:
        UserError: for a file that is not there or does not hold pairs, or for too few of them.
    """
    name, found = _load_own(config) if config.data else _load_public(config)
    pairs = _clean(found, name)
    numbers = split(pairs, config.validation_split, config.test_split, name)
    parts = [[pairs[row] for row in np.flatnonzero(numbers == part)] for part in (TRAIN, VALIDATION, TEST)]
    if not all(parts):
        raise UserError(
            f"{name}: {', '.join(f'{len(part)} pairs' for part in parts)} for train, validation and test: one part is empty. "
            "Add pairs, or raise --validation-split and --test-split."
        )
    references = _references_of(pairs)
    splits = [_make_part(part, references, once=number > 0) for number, part in enumerate(parts)]
    splits = [_take(part, config.limit) for part in splits]
    content = (text.encode() for part in splits for texts in (part.sources, part.targets, *part.references) for text in texts)
    return Splits(*splits, name, fingerprint(content))


def token_kinds(config: Config, name: str) -> tuple[str, str]:
    """How sources and targets are cut, as the settings say or, where they do not, as suits the data of that name."""
    source, target = KINDS.get(name, OTHER_KINDS)
    return config.source_tokens or source, config.target_tokens or target


def short_enough(part: Pairs, vocabulary: Vocabulary, max_tokens: int, name: str) -> Pairs:
    """The pairs of which neither side has more than `max_tokens` tokens; how many have is said.

    Args:
        part: what a loss is computed on. (What is decoded and scored is not shortened.)
        vocabulary: what the texts are cut by.
        max_tokens: see `Config`.
        name: of the part, for messages.

    Raises:
        UserError: if none is left.
    """
    sides = (vocabulary.source, part.sources), (vocabulary.target, part.targets)
    lengths = np.array([[len(tokenizer.encode(text)) for text in texts] for tokenizer, texts in sides])
    kept = np.flatnonzero((lengths <= max_tokens).all(axis=0))
    if not len(kept):
        raise UserError(
            f"Each of {lengths.shape[1]} pairs to {name} with has more than --max-tokens {max_tokens} tokens. Raise it."
        )
    if left_out := lengths.shape[1] - len(kept):
        print(
            f"{left_out:,} of {lengths.shape[1]:,} pairs to {name} with are left out: more than --max-tokens {max_tokens} "
            f"tokens on a side; the longest has {lengths.max():,}."
        )
    return _pick(part, kept)


def pairs_of(parts: Iterable[Pairs]) -> list[tuple[str, str]]:
    """The pairs of several parts, each once."""
    return [
        *dict.fromkeys(
            (source, target)
            for part in parts
            for source, targets in zip(part.sources, part.references, strict=True)
            for target in targets
        )
    ]


def _load_public(config: Config) -> tuple[str, list[tuple[str, str]]]:
    if config.dataset == "spa-eng":
        return "spa-eng", _load_spa_eng()
    return public_or_sample(
        config.dataset,
        "The CMU Pronouncing Dictionary",
        public=lambda: ("pronunciation", pronunciation.make_pairs()),
        sample=lambda: ("sample", make_pairs(SAMPLE_SIZE, seed=0)),
        about_sample="generated dates",
    )


def _load_spa_eng() -> list[tuple[str, str]]:
    """118,964 English sentences and their translations, of tatoeba.org by manythings.org/anki (2018, CC BY 2.0)."""
    text = _read_spa_eng()
    rows = [line.split("\t") for line in text.split("\n") if line.strip()]
    if bad := [row for row in rows if len(row) < 2]:
        raise UserError(f"spa.txt: expected English, a tab, Spanish on each line; got '{bad[0][0][:80]}'.")
    return [(row[0], row[1]) for row in rows]


def _read_spa_eng() -> str:
    if folder := os.environ.get(SPA_ENG_DIR):
        file = Path(folder).expanduser() / "spa.txt"
        if not file.is_file():
            raise UserError(f"--dataset spa-eng: {SPA_ENG_DIR} is {folder}, which holds no spa.txt. Correct it, or unset it.")
        return read_text(file)
    try:
        archive = fetch(SPA_ENG)
    except Unavailable as reason:
        raise UserError(f"--dataset spa-eng: {reason}. A folder with spa.txt can be named by {SPA_ENG_DIR}.") from None
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.read("spa-eng/spa.txt").decode("utf-8").replace("\r\n", "\n")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        archive.unlink()
        raise UserError(f"--dataset spa-eng: {archive} can't be read ({error}); it was removed. Start again.") from None


def _load_own(config: Config) -> tuple[str, list[tuple[str, str]]]:
    path = existing_path("--data", config.data)
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl") or path.is_dir():
        raise UserError(f"--data {path}: expected a .csv, .tsv or .jsonl file with a source and a target in each row.")
    table = read_table(path)
    columns = {"--source-column": config.source_column, "--target-column": config.target_column}
    for flag, column in columns.items():
        if column not in table.columns:
            raise UserError(
                f"--data {path} has no column '{column}'; it has {', '.join(map(repr, table.columns))}. Name it with {flag}; "
                "if the first line is a pair already, write a line with the columns' names above it."
            )
    return path.resolve().name, [*zip(*(table[column].tolist() for column in columns.values()), strict=True)]


def _clean(found: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    """Normalised pairs, each once, with text on both sides; what was dropped, or looks wrong, is counted and said."""
    pairs = [(normalise(source), normalise(target)) for source, target in found]
    whole = [pair for pair in pairs if all(pair)]
    kept = [*dict.fromkeys(whole)]
    if dropped := len(pairs) - len(kept):
        empty, repeated = len(pairs) - len(whole), len(whole) - len(kept)
        print(f"{name}: {dropped:,} of {len(pairs):,} pairs dropped, {empty:,} with an empty side, {repeated:,} repeated.")
    if not kept:
        raise UserError(f"{name} holds no pair of a source and a target.")
    if same := sum(source == target for source, target in kept):
        print(f"{name}: {same:,} of {len(kept):,} pairs have the same text on both sides. They are kept; is that right?")
    return kept


def _references_of(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    references = {}
    for source, target in pairs:
        references.setdefault(source, []).append(target)
    return references


def _make_part(pairs: list[tuple[str, str]], references: dict[str, list[str]], once: bool) -> Pairs:
    if once:
        pairs = [(source, references[source][0]) for source in dict.fromkeys(source for source, _ in pairs)]
    return Pairs(*map(list, zip(*pairs, strict=True)), [references[source] for source, _ in pairs])


def _take(part: Pairs, limit: int | None) -> Pairs:
    """At most `limit` rows, chosen at random; the same for every --seed, so that runs are judged on the same ones."""
    count = len(part.sources)
    if limit is None or limit >= count:
        return part
    return _pick(part, np.sort(np.random.default_rng(0).permutation(count)[:limit]))


def _pick(part: Pairs, rows: np.ndarray) -> Pairs:
    return Pairs(*([column[row] for row in rows] for column in part))
