"""The baseline: a linear conditional random field on features of a word and of its neighbours, two to each side."""

import tempfile
from pathlib import Path

import pycrfsuite

from apps.tagging.data import Sentences
from apps.tagging.words import normalise

AROUND = (-2, -1, 0, 1, 2)
OPTIONS = {"c1": 0.1, "c2": 0.01, "max_iterations": 100, "feature.possible_transitions": True}  # L1, L2 of the weights


class Baseline:
    """Trained with L-BFGS by CRFsuite (Okazaki, 2007)."""

    def __init__(self, train: Sentences):
        trainer = pycrfsuite.Trainer(verbose=False)
        for tokens, tags in zip(train.tokens, train.tags, strict=True):
            trainer.append(features(tokens), tags)
        trainer.set_params(OPTIONS)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model")
            trainer.train(str(file))
            self.content = file.read_bytes()  # the tagger reads from it, and does not keep it
        self.tagger = pycrfsuite.Tagger()
        self.tagger.open_inmemory(self.content)

    def __call__(self, sentences: list[list[str]]) -> list[list[str]]:
        """The tags of each."""
        return [self.tagger.tag(features(tokens)) for tokens in sentences]


def features(tokens: list[str]) -> list[list[str]]:
    """Of each token the names of its features: words around it, and its own beginning, ending and shape."""
    words = [normalise(token) for token in tokens]
    around = [
        [f"{offset}={words[place + offset]}" for offset in AROUND if 0 <= place + offset < len(words)]
        for place in range(len(words))
    ]
    return [known + _spelling(token, word) for known, token, word in zip(around, tokens, words, strict=True)]


def _spelling(token: str, word: str) -> list[str]:
    parts = {f"starts={word[:length]}" for length in (1, 2, 3)} | {f"ends={word[-length:]}" for length in (1, 2, 3)}
    kinds = {"title": token.istitle(), "upper": token.isupper(), "digit": token.isdigit(), "alphanumeric": token.isalnum()}
    return [*parts, *(kind for kind, has in kinds.items() if has)]
