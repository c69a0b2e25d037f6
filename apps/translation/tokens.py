"""From texts to ids and back in plain Python, for training and, without TensorFlow, for predictions.

A text is normalised first: accents composed (NFC), spaces, tabs and line ends squeezed to one space each, none at either end.
"▁", which stands for a space in sentencepiece, is one, too.
"""

import base64
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shared.cli import UserError

PADDING, UNKNOWN, START, END = 0, 1, 2, 3
SPECIAL = ("", "�", "", "")  # how these are shown
FILE = "vocabulary.json"
SEPARATOR = {"characters": "", "words": " "}


def normalise(text: str) -> str:
    """The text as it is compared, cut and scored."""
    return " ".join(unicodedata.normalize("NFC", text).replace("▁", " ").split())


class Tokenizer:
    """Characters, or words that stand between spaces, and their ids.

    Args:
        kind: "characters" or "words".
        known: the pieces by id, from `len(SPECIAL)` on.
        lower: whether the training texts hold lower case alone; new ones are then made so.
    """

    def __init__(self, kind: str, known: list[str], lower: bool):
        self.kind, self.known, self.lower = kind, known, lower
        self.ids = {piece: number for number, piece in enumerate(known, start=len(SPECIAL))}

    @classmethod
    def learn(cls, kind: str, texts: Iterable[str]) -> "Tokenizer":
        """All pieces of the texts; the most frequent first, of equally frequent ones the smaller."""
        counts = Counter(piece for text in texts for piece in cut(kind, normalise(text)))
        return cls(kind, sorted(counts, key=lambda piece: (-counts[piece], piece)), _is_lower(counts))

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.known)

    def encode(self, text: str) -> list[int]:
        """Ids, without start and end; `UNKNOWN` for a piece that training did not hold."""
        return [self.ids.get(piece, UNKNOWN) for piece in self._pieces_of(text)]

    def unknown(self, text: str) -> list[str]:
        """The pieces of a text that training did not hold, each once."""
        return [piece for piece in dict.fromkeys(self._pieces_of(text)) if piece not in self.ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text before the first `END`, without what stands for no piece."""
        return SEPARATOR[self.kind].join(self.pieces(before_end(ids)))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """How each id is shown."""
        return [self.known[number - len(SPECIAL)] if number >= len(SPECIAL) else SPECIAL[number] for number in ids]

    def describe(self) -> dict:
        """All that `_from_description` needs, for JSON."""
        return {"kind": self.kind, "known": self.known, "lower": self.lower}

    def _pieces_of(self, text: str) -> list[str]:
        return cut(self.kind, normalise(text.lower() if self.lower else text))


class Subwords:
    """The same for pieces of words: a unigram model of sentencepiece (Kudo, 2018), whose special ids are set to ours.

    Args:
        model: the serialised model.
        lower: see `Tokenizer`.
    """

    kind = "subwords"

    def __init__(self, model: bytes, lower: bool):
        import sentencepiece

        self.model, self.lower = model, lower
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Subwords":
        """At most `size` pieces, special ones included; every character of the texts is one.

        Raises:
            UserError: if the texts hold more characters than that, or if none can be learned from.
        """
        import sentencepiece

        texts, model = [*map(normalise, texts)], io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=size,
                hard_vocab_limit=False,  # little text holds fewer
                character_coverage=1.0,
                normalization_rule_name="identity",  # ours, above, changes no character that is seen
                max_sentence_length=1_000_000,  # bytes; longer ones would be left out without a word
                pad_id=PADDING,
                unk_id=UNKNOWN,
                bos_id=START,
                eos_id=END,
                minloglevel=3,
            )
        except RuntimeError as error:
            raise UserError(_cannot_learn(texts, size, error)) from None
        return cls(model.getvalue(), _is_lower(texts))

    def __len__(self) -> int:
        return len(self.processor)

    def encode(self, text: str) -> list[int]:
        """As `Tokenizer.encode`."""
        return self.processor.encode(self._prepared(text))

    def unknown(self, text: str) -> list[str]:
        """As `Tokenizer.unknown`."""
        pieces = dict.fromkeys(self.processor.encode(self._prepared(text), out_type=str))
        return [piece for piece in pieces if self.processor.piece_to_id(piece) == UNKNOWN]

    def decode(self, ids: Iterable[int]) -> str:
        """As `Tokenizer.decode`."""
        return self.processor.decode(before_end(ids))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """How each id is shown; "▁" stands where a word begins."""
        return [self.processor.id_to_piece(number) if number >= len(SPECIAL) else SPECIAL[number] for number in map(int, ids)]

    def describe(self) -> dict:
        """As `Tokenizer.describe`."""
        return {"kind": self.kind, "model": base64.b64encode(self.model).decode(), "lower": self.lower}

    def _prepared(self, text: str) -> str:
        return normalise(text.lower() if self.lower else text)


class Vocabulary:
    """What cuts sources and what cuts targets; where both are cut into subwords, it is one and the same object.

    Args:
        source, target: of each side.
        max_lengths: how many tokens are written at most, the end counted, for a source of 0, 1, 2 ... tokens; the last entry
            for all longer ones.
    """

    def __init__(self, source: Tokenizer | Subwords, target: Tokenizer | Subwords, max_lengths: list[int]):
        self.source, self.target, self.max_lengths = source, target, np.array(max_lengths, np.int32)

    @classmethod
    def learn(cls, kinds: tuple[str, str], sources: list[str], targets: list[str], size: int, max_tokens: int) -> "Vocabulary":
        """From training texts.

        Args:
            kinds: of the sources' pieces and of the targets': "characters", "words" or "subwords".
            sources: texts; what is repeated counts once for subwords.
            targets: of each source one.
            size: subwords, at most.
            max_tokens: of a target that is trained on; longer ones are not written either.

        Raises:
            UserError: if no subwords can be learned; see `Subwords.learn`.
        """
        if kinds == ("subwords", "subwords"):
            source = target = Subwords.learn(dict.fromkeys([*sources, *targets]), size)
        else:
            source, target = (_learn(kind, texts, size) for kind, texts in zip(kinds, (sources, targets), strict=True))
        read, written = (
            np.array([min(len(side.encode(text)), max_tokens) for text in texts])
            for side, texts in ((source, sources), (target, targets))
        )
        return cls(source, target, _longest_so_far(read, written + 1))

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        source = _from_description(**stored["source"])
        target = _from_description(**stored["target"]) if stored["target"] else source
        return cls(source, target, stored.get("max_lengths") or [stored["max_length"]])  # the latter in older runs

    def save(self, folder: Path) -> None:
        """Write vocabulary.json; a sentencepiece model stands in it as base64."""
        target = None if self.target is self.source else self.target.describe()
        stored = {"source": self.source.describe(), "target": target, "max_lengths": self.max_lengths.tolist()}
        (folder / FILE).write_text(json.dumps(stored), encoding="utf-8")

    def limits(self, lengths) -> np.ndarray:
        """How many tokens are written at most for sources of `lengths` tokens `(n,)`: `max_lengths` of each, `(n,)`."""
        return self.max_lengths[np.minimum(lengths, len(self.max_lengths) - 1)]

    def encode_sources(self, texts: list[str]) -> np.ndarray:
        """Ids `(n, time)` int32, padded with `PADDING` to the longest of them, and to one at least."""
        rows = [self.source.encode(text) for text in texts]
        ids = np.full((len(rows), max(map(len, rows), default=0) or 1), PADDING, np.int32)
        for row, found in enumerate(rows):
            ids[row, : len(found)] = found
        return ids


def _longest_so_far(read: np.ndarray, written: np.ndarray) -> np.ndarray:
    """Of sources of 0, 1, 2 ... tokens: the longest target of one that is no longer, or of the shortest one."""
    longest = np.zeros(read.max() + 1, int)
    np.maximum.at(longest, read, written)
    longest[: read.min()] = longest[read.min()]
    return np.maximum.accumulate(longest)


def before_end(ids: Iterable[int]) -> list[int]:
    """Ids of pieces alone, up to the first `END`."""
    ids = [int(number) for number in ids]
    until = ids.index(END) if END in ids else len(ids)
    return [number for number in ids[:until] if number >= len(SPECIAL)]


def cut(kind: str, text: str) -> list[str]:
    """The characters of a text, or its words."""
    return list(text) if kind == "characters" else text.split()


def _is_lower(texts: Iterable[str]) -> bool:
    return all(text == text.lower() for text in texts)


def _learn(kind: str, texts: list[str], size: int) -> Tokenizer | Subwords:
    return Subwords.learn(dict.fromkeys(texts), size) if kind == "subwords" else Tokenizer.learn(kind, texts)


def _from_description(kind: str, **description) -> Tokenizer | Subwords:
    if kind == "subwords":
        return Subwords(base64.b64decode(description["model"]), description["lower"])
    return Tokenizer(kind, **description)


def _cannot_learn(texts: list[str], size: int, error: RuntimeError) -> str:
    characters = len({character for text in texts for character in text})
    if characters + len(SPECIAL) >= size:
        return (
            f"--vocabulary-size {size} is too small: the texts hold {characters} different characters, and each needs a place. "
            f"Give {2 * characters + 100} or more, or cut by characters: --source-tokens characters --target-tokens characters."
        )
    return f"No subwords can be learned from {len(texts)} texts ({error}). Cut by words: --source-tokens words."
