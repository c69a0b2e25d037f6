"""Look at a text before training on it: make textgen-check."""

import numpy as np
import pandas as pd
from scipy.stats import entropy

from apps.textgen import characters
from apps.textgen.config import Config
from apps.textgen.train import prepare
from shared.check import Findings, repeated, tell
from shared.data import Splits
from shared.plots import plt

MIN_ENTROPY = 0.5  # nats per character, of the characters by themselves; English has about 3
MAX_UNKNOWN = 0.2  # fraction of the characters
MAX_REPEATED = 0.9  # fraction of the lines
LONGEST_LOOKED_AT = 5_000_000  # characters of a part, for its lines


def check(config: Config, text: Splits) -> None:
    """Print what the text holds, what speaks against training on it and, if nothing does, how long training takes."""
    tell(look(text), config, lambda: {"training": (prepare(config, text), config.training.epochs)})


def look(text: Splits) -> Findings:
    """Count the characters and lines of each part; see how much of one part is unknown to, or stands in, another."""
    parts = {"train": text.train, "validation": text.validation, "test": text.test}
    counts = {part: _count(found) for part, found in parts.items()}
    known = np.zeros(0x110000, bool)
    vocabulary = characters.learn_vocabulary(text.train)
    known[[ord(character) for character in vocabulary]] = True
    lines = {part: _lines(found) for part, found in parts.items()}
    in_train = set(lines["train"])
    about = pd.DataFrame(
        {
            part: {
                "characters": len(found.characters),
                "documents": len(found.document_lengths),
                "different characters": int(np.count_nonzero(counts[part])),
                "not in the vocabulary, %": 100 * counts[part][~known].sum() / counts[part].sum(),
                "entropy, nats per character": float(entropy(counts[part])),
                "lines": len(lines[part]),
                "lines that stood before, %": 100 * repeated(lines[part]) / max(1, len(lines[part])),
                "lines that also stand in train, %": 0.0
                if part == "train"
                else 100 * sum(line in in_train for line in lines[part]) / max(1, len(lines[part])),
            }
            for part, found in parts.items()
        },
        dtype=object,
    )
    rare = [chr(code) for code in np.flatnonzero((counts["train"] > 0) & ~known)]
    remarks = [f"The vocabulary has {len(vocabulary)} characters. {_most_frequent(counts['train'])}"]
    if rare:
        remarks.append(f"{len(rare)} rarer ones become the unknown character: {' '.join(map(repr, rare[:10]))}")
    obstacles = []
    if about.loc["entropy, nats per character", "train"] < MIN_ENTROPY:
        obstacles.append("the text is hardly more than one character over and over; there is nothing to learn.")
    for part in ("validation", "test"):
        if (unknown := about.loc["not in the vocabulary, %", part]) > 100 * MAX_UNKNOWN:
            obstacles.append(f"{unknown:.0f} % of {part} are characters that training never sees: is it in another language?")
    if about.loc["lines that stood before, %", "train"] > 100 * MAX_REPEATED:
        obstacles.append("nearly all lines stood in the text before: remove what is repeated.")
    figures = {"characters": _plot_frequencies(counts["train"])}
    return Findings("textgen", text.name, {"parts": about}, figures, remarks, obstacles)


def _count(text: characters.Text) -> np.ndarray:
    """How often each code point stands there."""
    return sum(np.bincount(chunk, minlength=0x110000) for chunk in characters.in_chunks(text.characters))


def _lines(text: characters.Text) -> list[str]:
    """The lines that are not short; short ones come again in any text."""
    content = text.characters[:LONGEST_LOOKED_AT].tobytes().decode("utf-32-le")
    return [line for line in content.splitlines() if len(line) >= 20]


def _most_frequent(counts: np.ndarray) -> str:
    first = np.argsort(-counts)[:8]
    fractions = ", ".join(f"{chr(code)!r} {counts[code] / counts.sum():.1%}" for code in first if counts[code])
    return f"The most frequent: {fractions}."


def _plot_frequencies(counts: np.ndarray):
    figure, axes = plt.subplots(figsize=(8, 4.5))
    found = np.sort(counts[counts > 0])[::-1]
    axes.loglog(np.arange(1, len(found) + 1), found / found.sum(), "o-")
    axes.set(xlabel="rank of a character", ylabel="its fraction of the training text")
    return figure
