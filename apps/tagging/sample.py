"""Generated travel requests: made so that a tag depends on the order of the words and on words far away.

The same names stand for where a journey starts and where it ends; which of the two depends on a word before them, a word behind
them, or one at the start of the sentence: "coming back" turns round what "then" says. Most names are made up, so that half of
those in a new sentence were never seen.
"""

import numpy as np

from apps.tagging.schemes import Span, tags_of

SYLLABLES = (
    "an",
    "bel",
    "car",
    "do",
    "es",
    "fa",
    "gor",
    "hel",
    "is",
    "ju",
    "kal",
    "lo",
    "mar",
    "nor",
    "os",
    "pe",
    "ros",
    "san",
)
SECOND = ("bay", "city", "falls", "hill", "island", "park", "springs", "valley")
MONTHS = ("january", "march", "april", "june", "july", "september", "october", "december")
ORDINALS = ("first", "second", "third", "tenth", "twelfth", "twentieth")
COMPANY = ("my two sisters", "a large dog", "three old friends from school", "far too many bags", "someone who hates trains")
# {f} where it starts, {t} where it ends, {d} day of departure, {r} day of return, {w} with whom.
FRAMES = (
    "book a train from {f} to {t} on {d}",
    "i want to go to {t} from {f} with {w}",
    "show me flights to {t} leaving {f} {d}",
    "{t} is where i have to be on {d} and {f} is where i live",
    "{f} is where we start , with {w} , and {t} is where we end",
    "going out with {w} , {f} then {t}",
    "coming back with {w} , {t} then {f}",  # names the places in the order of the way out
    "from {d} to {r} we stay in {t}",
    "out on {d} and back on {r} , {f} then {t}",
    "is there a bus to {t} from {f} between {d} and {r}",
)
TYPES = {"f": "from_city", "t": "to_city", "d": "depart_date", "r": "return_date"}


def make_sentences(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Generate requests: tokens and their tags in IOB2."""
    rng = np.random.default_rng(seed)
    return [_sentence(rng) for _ in range(count)]


def _sentence(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    tokens, spans = [], []
    for part in _one(FRAMES, rng).split():
        slot = part.strip("{}")
        words = _fill(slot, rng) if part.startswith("{") else [part]
        if slot in TYPES and part.startswith("{"):
            spans.append(Span(TYPES[slot], len(tokens), len(tokens) + len(words) - 1))
        tokens += words
    return tokens, tags_of(spans, len(tokens))


def _fill(slot: str, rng: np.random.Generator) -> list[str]:
    if slot == "w":
        return _one(COMPANY, rng).split()
    if slot in "dr":
        day = f"the {_one(ORDINALS, rng)} of {_one(MONTHS, rng)}"
        return (f"{day} or {_one(ORDINALS, rng)}" if rng.random() < 0.2 else day).split()
    name = "".join(_one(SYLLABLES, rng) for _ in range(rng.integers(2, 4)))
    return [name, _one(SECOND, rng)] if rng.random() < 0.3 else [name]


def _one(choices, rng: np.random.Generator):
    return choices[rng.integers(len(choices))]
