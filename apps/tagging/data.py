"""Sentences and their tags: your own files, or the generated sample."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from apps.tagging import reading, schemes
from apps.tagging.config import Config
from apps.tagging.reading import SUFFIXES, Sentence
from apps.tagging.sample import make_sentences
from apps.tagging.schemes import OUTSIDE
from shared.cli import UserError
from shared.data import Splits, existing_path, fingerprint

SAMPLE_SIZES = 5_000, 1_000  # train, test
NAMES = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
TEST_SPLIT = 0.2  # where there is no test file


class Sentences(NamedTuple):
    """Tokens and tags of each sentence, and all tags of the training part.

    Tags that name spans are in IOB2. `tag_names` then starts with O, and B and I of each type follow each other.
    """

    tokens: list[list[str]]
    tags: list[list[str]]
    tag_names: tuple[str, ...]

    @property
    def has_spans(self) -> bool:
        """Whether tags name spans; if not, as for parts of speech, each stands for itself."""
        return any(schemes.split(tag)[1] for tag in self.tag_names)


def load(config: Config) -> Splits:
    """Load train, validation and test, each a `Sentences`.

    Raises:
        UserError: for a file that is not there or does not hold tagged sentences.
    """
    parts = _load_own(config) if config.data else _load_sample()
    if not config.data and config.dataset == "auto":
        print("No --data: going on with the SAMPLE, generated travel requests. It shows that the program works.")
    name = Path(config.data).resolve().name if config.data else "sample"
    tag_names = _names([tags for _, tags in parts["train"]])
    rng = np.random.default_rng(config.training.seed)
    if "test" not in parts:
        parts["train"], parts["test"] = _cut(parts["train"], TEST_SPLIT, config.training.seed, "test")
    parts = {part: _take(found, config.limit, rng) for part, found in parts.items()}
    if "validation" not in parts:
        parts["train"], parts["validation"] = _cut(parts["train"], config.validation_split, config.training.seed, "validation")
    splits = [Sentences(*map(list, zip(*parts[part], strict=True)), tag_names) for part in ("train", "validation", "test")]
    return Splits(*splits, name, fingerprint(json.dumps(pair).encode() for part in splits for pair in part[:2]))


Pairs = list[tuple[list[str], list[str]]]  # tokens and tags


def _load_sample() -> dict[str, Pairs]:
    return {
        part: make_sentences(count, seed)
        for seed, (part, count) in enumerate(zip(("train", "test"), SAMPLE_SIZES, strict=True))
    }


def _load_own(config: Config) -> dict[str, Pairs]:
    path = existing_path("--data", config.data)
    files = _files_of(path) if path.is_dir() else {"train": path}
    found = {part: reading.read(file, config.token_column, config.tag_column) for part, file in files.items()}
    scheme = _scheme_of(found, files)
    parts = {part: _converted(sentences, scheme, files[part]) for part, sentences in found.items()}
    if not path.is_dir():
        parts["train"] = _without_repeated(parts["train"], path)
    _check_tags(found, parts, files)
    return parts


def _files_of(folder: Path) -> dict[str, Path]:
    """train, validation (valid, dev) and test in a folder."""
    files = {}
    for file in sorted(folder.iterdir()):
        part = NAMES.get(file.stem.lower())
        if part and file.suffix.lower() in SUFFIXES:
            if part in files:
                raise UserError(f"--data {folder}: {files[part].name} and {file.name} are both taken for {part}. Remove one.")
            files[part] = file
    if "train" not in files:
        raise UserError(
            f"--data {folder}: expected a file train ({', '.join(SUFFIXES)}), maybe validation and test beside it; there are "
            f"{', '.join(sorted(file.name for file in folder.iterdir())[:10]) or 'none'}."
        )
    return files


def _scheme_of(found: dict[str, list[Sentence]], files: dict[str, Path]) -> schemes.Scheme:
    """The scheme of all files, said where it is another than IOB2."""
    for part, sentences in found.items():
        _check_mixture(sentences, files[part])
    of_parts = {part: schemes.recognise(one.tags for one in sentences) for part, sentences in found.items()}
    for part, scheme in of_parts.items():
        if (scheme in ("BIOES", "plain")) + (of_parts["train"] in ("BIOES", "plain")) and scheme != of_parts["train"]:
            raise UserError(f"{files[part]} has {scheme} tags, {files['train']} has {of_parts['train']} tags. Use one scheme.")
    scheme = schemes.recognise(one.tags for sentences in found.values() for one in sentences)
    if scheme not in ("IOB2", "plain"):
        print(f"The tags are in {scheme}; they are converted to IOB2.")
    return scheme


def _check_mixture(sentences: list[Sentence], file: Path) -> None:
    """Tags either all have the form of IOB or BIOES, or none has, but for O."""
    pairs = [(tag, line) for one in sentences for tag, line in zip(one.tags, one.lines, strict=True)]
    plain = next(((tag, line) for tag, line in pairs if not schemes.names_spans(tag)), None)
    span = next(((tag, line) for tag, line in pairs if schemes.split(tag)[1]), None)
    if plain and span:
        raise UserError(
            f"{file}: two schemes of tags: '{span[0]}' on line {span[1]} names a span, '{plain[0]}' on line {plain[1]} none. "
            "Is --tag-column the right one?"
        )


def _converted(sentences: list[Sentence], scheme: schemes.Scheme, file: Path) -> Pairs:
    if scheme == "plain":
        return [(one.tokens, one.tags) for one in sentences]
    pairs, broken = [], []
    for one in sentences:
        tags, count = schemes.to_iob2(one.tags, scheme)
        pairs.append((one.tokens, tags))
        broken += [one.lines[0]] * count
    if broken:
        shown = ", ".join(map(str, dict.fromkeys(broken[:5])))
        print(
            f"{file}: {len(broken)} tags continue nothing, or end nothing ({scheme}); each was read as the start of a span. "
            f"Sentences from line {shown}."
        )
    return pairs


def _without_repeated(pairs: Pairs, path: Path) -> Pairs:
    """The same sentence in train and test would be a leak."""
    kept = {tuple(tokens): (tokens, tags) for tokens, tags in reversed(pairs)}
    if dropped := len(pairs) - len(kept):
        print(f"{path}: {dropped} of {len(pairs)} sentences dropped, which are repeated.")
    return [*reversed(kept.values())]


def _check_tags(found: dict[str, list[Sentence]], parts: dict[str, Pairs], files: dict[str, Path]) -> None:
    """Raise a UserError where there is nothing to learn, or something that train does not have."""
    known = set(_names([tags for _, tags in parts["train"]]))
    if len(known) < 2:
        raise UserError(
            f"{files['train']}: every tag is '{next(iter(known))}', so there is nothing to learn. Is --tag-column right?"
        )
    for part in parts.keys() - {"train"}:
        for sentence, (_, tags) in zip(found[part], parts[part], strict=True):
            for tag, line in zip(tags, sentence.lines, strict=True):
                if tag not in known:
                    raise UserError(
                        f"{files[part]}, line {line}: the tag '{tag}' does not stand in {files['train']}: it can't be learned. "
                        "Correct it, remove the sentence, or move some with it to train."
                    )


def _names(sentences: list[list[str]]) -> tuple[str, ...]:
    """All tags, sorted; where they name spans: O, then B and I of each type, whether both were seen or not."""
    tags = {tag for sentence in sentences for tag in sentence}
    if types := sorted({schemes.split(tag)[1] for tag in tags} - {""}):
        return OUTSIDE, *(f"{prefix}-{one}" for one in types for prefix in "BI")
    return tuple(sorted(tags))


def _take(pairs: Pairs, limit: int | None, rng: np.random.Generator) -> Pairs:
    """At most `limit` of them, chosen at random."""
    if limit is None or limit >= len(pairs):
        return pairs
    return [pairs[row] for row in np.sort(rng.permutation(len(pairs))[:limit])]


def _cut(pairs: Pairs, fraction: float, seed: int, part: str) -> tuple[Pairs, Pairs]:
    """Cut a fraction off; a sentence that stands there twice stands on one side."""
    groups = np.unique([" ".join(tokens) for tokens, _ in pairs], return_inverse=True)[1]
    if len(set(groups)) < 1 / fraction:
        raise UserError(f"{len(set(groups))} different sentences are too few to cut {fraction:.0%} off for {part}. Add some.")
    rest, cut = next(GroupShuffleSplit(1, test_size=fraction, random_state=seed).split(pairs, groups=groups))
    return [pairs[row] for row in rest], [pairs[row] for row in cut]
