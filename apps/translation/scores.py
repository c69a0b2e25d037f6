"""How good what was written is: BLEU and chrF of sentences, error rates of other sequences; every reference counts.

BLEU and chrF are those of `sacrebleu` (Post, 2018). A sequence is right if it equals any of its references; its tokens are
compared with the nearest one. The error rates are those of pronunciation: a target is a word's, its tokens are phonemes.
"""

from itertools import zip_longest

import numpy as np
from sacrebleu import BLEU, CHRF

from apps.translation.tokens import cut
from shared.comparison import Lead, paired_bootstrap, paired_bootstrap_of_totals

METRIC = {"subwords": "bleu", "words": "word_error_rate", "characters": "word_error_rate"}  # by kind: what a run is judged by
TOKEN_METRIC = {"words": "phoneme_error_rate", "characters": "character_error_rate"}
ORDERS = 4  # of BLEU's n-grams


def higher_is_better(kind: str) -> bool:
    """Whether `METRIC[kind]` is one to be large."""
    return METRIC[kind] == "bleu"


def measure(kind: str, found: list[str], references: list[list[str]]) -> dict[str, float]:
    """Compare what was written with what is right.

    Args:
        kind: of the targets' tokens; "subwords" are sentences.
        found: `n` texts.
        references: of each text all that are right, one or more.

    Returns:
        bleu and chrf (0 to 100) of sentences; word_error_rate, the fraction of the texts that equal no reference, and
        phoneme_error_rate (of characters: character_error_rate), edits per token of the nearest reference, of the others.
    """
    if kind == "subwords":
        streams = _streams(references)
        bleu, chrf = (metric.corpus_score(found, streams).score for metric in (BLEU(), CHRF()))
        return {"bleu": bleu, "chrf": chrf}
    wrong, edits, tokens = errors(kind, found, references).T
    return {METRIC[kind]: float(wrong.mean()), TOKEN_METRIC[kind]: float(edits.sum() / tokens.sum())}


def signatures(references: list[list[str]]) -> dict[str, str]:
    """How sacrebleu was asked, by metric: to be published beside its figures."""
    metrics, streams = {"bleu": BLEU(), "chrf": CHRF()}, _streams(references)
    for metric in metrics.values():
        metric.corpus_score(streams[0], streams)
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def errors(kind: str, found: list[str], references: list[list[str]]) -> np.ndarray:
    """Of each text `(n, 3)`: 1 if it equals no reference, edits from the nearest reference, and the tokens of that one.

    Of several that are as near, the longest counts.
    """
    rows = []
    for text, right in zip(found, references, strict=True):
        tokens, others = cut(kind, text), [cut(kind, one) for one in right]
        edits, minus_length = min((edit_distance(tokens, other), -len(other)) for other in others)
        rows.append((text not in right, edits, -minus_length))
    return np.array(rows, int)


def edit_distance(one: list[str], other: list[str]) -> int:
    """Fewest tokens to be inserted, deleted or replaced (Levenshtein, 1966)."""
    if one == other:
        return 0
    row = [*range(len(other) + 1)]
    for count, token in enumerate(one, start=1):
        diagonal, row[0] = row[0], count
        for place, against in enumerate(other, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (token != against))
    return row[-1]


def bleu_counts(found: list[str], references: list[list[str]]) -> np.ndarray:
    """Of each sentence `(n, 10)`: its length, that of the nearest reference, and by order n-grams that are right and all."""
    metric = BLEU(effective_order=True)  # of one sentence; `bleu` does without
    scores = [metric.sentence_score(text, right) for text, right in zip(found, references, strict=True)]
    return np.array([(one.sys_len, one.ref_len, *one.counts, *one.totals) for one in scores], int)


def bleu(*totals: int) -> float:
    """BLEU of the sums over the rows of `bleu_counts`."""
    length, expected, *counts = map(int, totals)
    return BLEU.compute_bleu(counts[:ORDERS], counts[ORDERS:], length, expected, smooth_method="exp").score


def lead(kind: str, network: list[str], baseline: list[str], references: list[list[str]]) -> Lead:
    """How far the network's texts are ahead of the baseline's by `METRIC[kind]`, with the interval of a paired bootstrap."""
    if kind == "subwords":
        return paired_bootstrap_of_totals(*(bleu_counts(found, references) for found in (network, baseline)), bleu)
    wrong = (errors(kind, found, references)[:, 0] for found in (network, baseline))
    return paired_bootstrap(*wrong, higher_is_better=False)


def _streams(references: list[list[str]]) -> list[list[str | None]]:
    """The first reference of each text, the second of each, ...; None where there are no more."""
    return [[*stream] for stream in zip_longest(*references)]
