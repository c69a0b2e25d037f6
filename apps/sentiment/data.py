"""Reviews and their labels: your own file or folder, IMDB, or the generated sample."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from apps.sentiment.config import Config
from apps.sentiment.sample import make_reviews
from shared.cli import UserError
from shared.data import Source, Splits, existing_path, fingerprint, public_or_sample, read_prepared
from shared.download import fetch_archive
from shared.tables import read_table, read_text

IMDB = Source(
    "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    name="aclImdb_v1.tar.gz",
    sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
SAMPLE_SIZES = 20_000, 5_000  # train, test


class Reviews(NamedTuple):
    """Texts, and labels `(n,)`: indices into `class_names`."""

    texts: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]


def load(config: Config) -> Splits:
    """Load train, validation and test, each a `Reviews`. Validation is cut from train, with every class in proportion.

    Raises:
        UserError: for a file that is not there or does not hold labelled reviews.
    """
    if config.data:
        name, train, test = Path(config.data).resolve().name, *_load_own(config)
    else:
        name, train, test = _load_public(config)
    if config.positive is not None and config.positive not in train.class_names:
        raise UserError(f"--positive '{config.positive}': there is no such class; there are {', '.join(train.class_names)}.")
    train, test = (take(part, config.limit, config.training.seed) for part in (train, test))
    train, validation = _split(train, config.validation_split, config.training.seed, "validation")
    everything = (text.encode(errors="surrogatepass") for part in (train, validation, test) for text in part.texts)
    labels = (part.labels.tobytes() for part in (train, validation, test))
    return Splits(train, validation, test, name, fingerprint([*everything, *labels]))


def _load_public(config: Config) -> tuple[str, Reviews, Reviews]:
    return public_or_sample(
        config.dataset,
        "IMDB",
        public=lambda: ("imdb_reviews", *_load_imdb(config.limit)),
        sample=lambda: ("sample", *_load_sample(config.limit)),
        about_sample="generated reviews",
    )


def _load_sample(limit: int | None) -> list[Reviews]:
    counts = (min(size, limit or size) for size in SAMPLE_SIZES)
    return [Reviews(*make_reviews(count, seed), ("negative", "positive")) for seed, count in enumerate(counts)]


def _load_imdb(limit: int | None) -> list[Reviews]:
    """The Large Movie Review Dataset (Maas et al., ACL 2011), 25,000 reviews to train with, 25,000 to test.

    As TensorFlow Datasets has prepared it, or as its authors publish it.
    """
    first = f"[:{limit}]" if limit else ""
    if prepared := read_prepared("imdb_reviews/plain_text", [f"train{first}", f"test{first}"]):
        parts = (zip(*((row["text"].decode(), row["label"]) for row in rows()), strict=True) for rows in prepared)
        return [Reviews(list(texts), np.array(labels), ("negative", "positive")) for texts, labels in parts]
    folder = fetch_archive(IMDB) / "aclImdb"
    tables = (_read_tree(folder / part) for part in ("train", "test"))
    return [
        Reviews(table["text"].tolist(), (table["label"] == "pos").to_numpy(np.int64), ("negative", "positive"))
        for table in tables
    ]


def _load_own(config: Config) -> tuple[Reviews, Reviews]:
    """Train and test from the user's path; a file or a folder without a test part gives every fifth review to test."""
    path = existing_path("--data", config.data)
    if path.is_dir() and (path / "train").is_dir() and (path / "test").is_dir():
        train, test = _clean(_read_tree(path / "train"), path), _clean(_read_tree(path / "test"), path)
        if train.class_names != test.class_names:
            raise UserError(f"--data {path}: train has the classes {train.class_names}, test has {test.class_names}.")
        return train, test
    table = _read_tree(path) if path.is_dir() else _read_table(path, config)
    reviews = _clean(table, path, drop_repeated=True)  # the same text on both sides would be a leak
    return _split(reviews, 0.2, config.training.seed, "test")


def _read_tree(folder: Path) -> pd.DataFrame:
    """A folder for each class with a text file for each review, as in aclImdb/train; `unsup` there has no labels."""
    files = [file for file in sorted(folder.glob("*/*")) if file.suffix.lower() == ".txt" and file.parent.name != "unsup"]
    if not files:
        raise UserError(f"--data {folder}: expected a folder for each class with .txt files in it; there are none.")
    return pd.DataFrame({"text": [read_text(file) for file in files], "label": [file.parent.name for file in files]})


def _read_table(path: Path, config: Config) -> pd.DataFrame:
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        raise UserError(f"--data {path}: expected .csv, .tsv, .jsonl or a folder; got '{path.suffix}'.")
    table = read_table(path)
    for flag, column in (("--text-column", config.text_column), ("--label-column", config.label_column)):
        if column not in table.columns:
            raise UserError(f"--data {path} has no column '{column}'; it has {[*table.columns]}. Name it with {flag}.")
    return pd.DataFrame({"text": table[config.text_column], "label": table[config.label_column]})


def _clean(table: pd.DataFrame, path: Path, drop_repeated: bool = False) -> Reviews:
    """Check labels, drop what holds no text and say so."""
    texts, labels = table["text"].str.strip(), table["label"].str.strip()
    if (unlabelled := np.flatnonzero(labels == "")).size:
        rows = ", ".join(str(row + 1) for row in unlabelled[:5])
        raise UserError(f"--data {path}: {unlabelled.size} rows have no label, first rows {rows}. Label or remove them.")
    kept = texts != ""
    if drop_repeated:
        kept &= ~texts.duplicated()
    if dropped := int((~kept).sum()):
        print(f"{path}: {dropped} of {len(table)} rows dropped, {int((texts == '').sum())} empty, the rest repeated.")
    class_names = tuple(sorted(labels[kept].unique()))
    if len(class_names) < 2:
        found = f"found one, '{class_names[0]}'" if class_names else "found none, as there are no texts"
        raise UserError(f"--data {path}: expected two or more classes; {found}. Is --label-column the right one?")
    _warn_of_spellings(class_names, path)
    return Reviews(texts[kept].tolist(), np.searchsorted(class_names, labels[kept]), class_names)


def _warn_of_spellings(class_names: tuple[str, ...], path: Path) -> None:
    spellings = pd.Series(class_names).groupby([" ".join(name.casefold().split()) for name in class_names]).agg(list)
    for names in spellings[spellings.str.len() > 1]:
        print(f"WARNING: {path}: {names} differ in their spelling alone, and are taken for {len(names)} classes.")


def _split(reviews: Reviews, fraction: float, seed: int, part: str) -> tuple[Reviews, Reviews]:
    """Cut a fraction off, with every class in proportion."""
    counts = np.bincount(reviews.labels, minlength=len(reviews.class_names))
    if counts.min() * min(fraction, 1 - fraction) < 1:
        rare = reviews.class_names[int(counts.argmin())]
        raise UserError(
            f"Class '{rare}' has {counts.min()} reviews, too few to cut {fraction:.0%} off for {part}. "
            f"At least {int(np.ceil(1 / min(fraction, 1 - fraction)))} are needed; add some or remove the class. There are "
            f"{len(counts)} classes; if that is not so, name the column that holds them with --label-column."
        )
    rest, cut = train_test_split(np.arange(len(reviews.labels)), test_size=fraction, stratify=reviews.labels, random_state=seed)
    return _pick(reviews, np.sort(rest)), _pick(reviews, np.sort(cut))


def take(reviews: Reviews, limit: int | None, seed: int) -> Reviews:
    """At most `limit` of them, chosen at random."""
    if limit is None or limit >= len(reviews.labels):
        return reviews
    return _pick(reviews, np.sort(np.random.default_rng(seed).permutation(len(reviews.labels))[:limit]))


def _pick(reviews: Reviews, rows: np.ndarray) -> Reviews:
    return Reviews([reviews.texts[row] for row in rows], reviews.labels[rows], reviews.class_names)
