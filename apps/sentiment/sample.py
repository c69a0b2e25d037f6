"""Generated reviews, for machines that can't get IMDB: made so that word order matters.

A review holds one opinion, or two of opposite sign of which "but", "although" and the like tell the verdict; and any
opinion may be turned round by a negation some words before it. So the same words come up in both classes: counting them says
little, reading them in order says all.
"""

from collections.abc import Sequence

import numpy as np

PRAISE = ["wonderful", "moving", "clever", "brilliant", "gripping", "charming", "funny", "superb", "touching", "great"]
BLAME = ["dull", "boring", "clumsy", "terrible", "tedious", "silly", "weak", "awful", "pointless", "bad"]
SUBJECTS = [
    "plot",
    "cast",
    "ending",
    "script",
    "music",
    "direction",
    "pacing",
    "dialogue",
    "camera work",
    "leading actor",
]
PLAIN = ("{s} was {very}{a}", "I found {s} {very}{a}", "{s} struck me as {very}{a}")
NEGATED = (
    "{s} was not in any way {a}",
    "nobody in the room would have called {s} {very}{a}",
    "I never for a moment found {s} {very}{a}",
    "{s} was anything but what I would call {a}",
)
# The verdict is {v}, what speaks against it {o}.
FRAMES = (
    "{o}, but {v}",
    "{v}, although {o}",
    "although {o}, {v}",
    "{o}. And yet, all in all, {v}",
    "{v}, even if {o}",
    "granted, {o}; what counts is that {v}",
)
FILLER = (
    "I saw it on a rainy evening with two friends.",
    "It runs for about two hours.",
    "The story is set in a small town by the sea.",
    "My sister had read the book before.",
    "There is a sequel on its way, they say.",
    "We came home late and talked about it.",
)


def make_reviews(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Generate reviews.

    Returns:
        Texts, and labels `(count,)`: 0 negative, 1 positive, half of each.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    return [_review(bool(label), rng) for label in labels], labels


def _review(positive: bool, rng: np.random.Generator) -> str:
    sentence = _opinion(positive, rng) + "."
    if rng.random() < 0.6:
        sentence = _one(FRAMES, rng).format(v=sentence[:-1], o=_opinion(not positive, rng)) + "."
    filler = list(rng.choice(FILLER, size=rng.integers(0, 4), replace=False))
    filler.insert(rng.integers(0, len(filler) + 1), sentence[0].upper() + sentence[1:])
    return " ".join(filler)


def _opinion(positive: bool, rng: np.random.Generator) -> str:
    negated = rng.random() < 1 / 3
    adjective = _one(PRAISE if positive != negated else BLAME, rng)
    very = _one(("", "", "really ", "so very "), rng)
    frame = _one(NEGATED if negated else PLAIN, rng)
    return frame.format(s="the " + _one(SUBJECTS, rng), a=adjective, very=very)


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    """As `rng.choice`, which would make an array of the choices each time."""
    return choices[rng.integers(len(choices))]
