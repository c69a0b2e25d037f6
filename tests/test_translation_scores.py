"""Scores of what was written, and the baselines: each against another way of counting the same."""

import itertools
import random
from functools import cache

import numpy as np
import pytest
import sacrebleu

from apps.translation import alignment, joint, scores
from apps.translation.alignment import Aligner, Numbers
from apps.translation.baseline import Baseline, Memory
from apps.translation.data import Pairs
from apps.translation.joint import JointNGrams, NGrams

WORDS = ["the", "cat", "sees", "a", "dog", ".", "and", "runs"]


def some_texts(count: int, seed: int, words: int = 9) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, words))) for _ in range(count)]


def some_references(count: int) -> list[list[str]]:
    """One to three of each."""
    sides = [some_texts(count, seed) for seed in (1, 2, 3)]
    return [list(dict.fromkeys(texts[: 1 + row % 3])) for row, texts in enumerate(zip(*sides, strict=True))]


def test_the_edit_distance_is_that_of_its_definition():
    @cache
    def distance(one: str, other: str) -> int:
        if not one or not other:
            return len(one) + len(other)
        if one[0] == other[0]:
            return distance(one[1:], other[1:])
        return 1 + min(distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:]))

    rng = random.Random(0)
    for _ in range(300):
        one, other = ("".join(rng.choices("abc", k=rng.randint(0, 7))) for _ in range(2))
        assert scores.edit_distance([*one], [*other]) == distance(one, other)


def test_error_rates_count_every_reference_and_the_nearest_one():
    found = ["K AE T", "D AO G", "T AH M AA T OW", "R AH N Z", ""]
    references = [["K AE T"], ["D AA G", "D AO G"], ["T AH M EY T OW"], ["R AH N", "R AH N T AH"], ["AY D"]]
    expected = [(0, 0, 3), (0, 0, 3), (1, 1, 6), (1, 1, 3), (1, 2, 2)]
    np.testing.assert_array_equal(scores.errors("words", found, references), expected)
    figures = scores.measure("words", found, references)
    assert figures == pytest.approx({"word_error_rate": 3 / 5, "phoneme_error_rate": 4 / 17})


def test_of_references_that_are_as_near_the_longest_counts():
    np.testing.assert_array_equal(scores.errors("words", ["A B C"], [["A B", "A B C D"]]), [(1, 1, 4)])


def test_characters_have_error_rates_of_their_own():
    figures = scores.measure("characters", ["1998-05-03", "1998-05-04"], [["1998-05-03"], ["1998-06-14"]])
    assert figures == pytest.approx({"word_error_rate": 0.5, "character_error_rate": 2 / 20})


def test_sentences_are_scored_by_sacrebleu_with_all_references():
    found, references = some_texts(60, seed=1), some_references(60)
    found = [text if row % 2 else text[::-1] for row, text in enumerate(found)]
    streams = [[right[number] if number < len(right) else None for right in references] for number in range(3)]
    figures = scores.measure("subwords", found, references)
    assert figures["bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, streams).score)
    assert figures["chrf"] == pytest.approx(sacrebleu.corpus_chrf(found, streams).score)
    assert 0 < figures["bleu"] < 100


def test_a_reference_found_is_a_hundred_and_more_references_never_hurt():
    references = some_references(40)
    assert scores.measure("subwords", [right[-1] for right in references], references)["bleu"] == pytest.approx(100)
    found = some_texts(40, seed=1)
    one, all_of_them = (scores.measure("subwords", found, part)["chrf"] for part in ([r[:1] for r in references], references))
    assert one <= all_of_them


def test_the_sum_of_the_counts_gives_bleu():
    """Summed over any rows, as the bootstrap draws them."""
    found, references = some_texts(50, seed=7), some_references(50)
    counts = scores.bleu_counts(found, references)
    assert counts.shape == (50, 10)
    for rows in (np.arange(50), np.random.default_rng(0).integers(50, size=50)):
        drawn = [found[row] for row in rows], [references[row] for row in rows]
        assert scores.bleu(*counts[rows].sum(axis=0)) == pytest.approx(scores.measure("subwords", *drawn)["bleu"])


def test_signatures_say_how_sacrebleu_was_asked():
    found = scores.signatures(some_references(5))
    assert found["bleu"].startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrf"].startswith("nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    assert scores.signatures([["one"], ["two"]])["bleu"].startswith("nrefs:1|")


@pytest.mark.parametrize("kind", ["words", "subwords"])
def test_a_lead_is_above_0_where_the_network_is_better(kind):
    references = some_references(80)
    good = [right[0] for right in references[:60]] + some_texts(20, seed=8)
    bad = some_texts(80, seed=9)
    lead = scores.lead(kind, good, bad, references)
    figures = [scores.measure(kind, found, references)[scores.METRIC[kind]] for found in (good, bad)]
    ahead = figures[0] - figures[1] if scores.higher_is_better(kind) else figures[1] - figures[0]
    assert (lead.verdict, lead.mean) == ("better", pytest.approx(ahead))
    assert scores.lead(kind, bad, good, references).mean == pytest.approx(-ahead)


def pairs_of(sources: list[str], targets: list[str]) -> Pairs:
    return Pairs(sources, targets, [[target] for target in targets])


@pytest.mark.parametrize("kind", ["subwords", "characters"])
def test_the_memory_gives_the_target_of_the_nearest_source(kind, monkeypatch):
    monkeypatch.setattr("apps.translation.baseline.ROWS", 7)
    sources = [*dict.fromkeys(some_texts(80, seed=4))]
    targets, queries = [f"t{number}" for number in range(len(sources))], [*sources, *some_texts(30, seed=5), "@", "Кот"]
    memory = Memory(pairs_of(sources, targets), kind)
    known, asked = (memory.vectorizer.transform(texts).toarray().astype(float) for texts in (sources, queries))
    found = memory(queries)
    for query, target in zip(asked, found, strict=True):
        alike = known @ query
        assert alike[targets.index(target)] == pytest.approx(alike.max(), abs=1e-6)
    assert found[-1] == "t0"  # nothing is alike


def test_the_memory_weighs_words_and_pairs_by_tf_idf():
    sources = ["the cat", "the dog", "cat the"]
    memory = Memory(pairs_of(sources, ["1", "2", "3"]), "subwords")
    names = ["the", "cat", "dog", "the cat", "the dog", "cat the"]
    held = np.array([[1, 1, 0, 1, 0, 0], [1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1]])
    weights = held * (np.log(4 / (1 + held.sum(axis=0))) + 1)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    columns = [memory.vectorizer.vocabulary_[name] for name in names]
    np.testing.assert_allclose(memory.memory.T.toarray()[:, columns], weights, rtol=1e-6)


def test_a_source_with_several_targets_gives_the_first():
    memory = Memory(Pairs(["a b", "c", "a b"], ["2", "3", "1"], [["1", "2"], ["3"], ["1", "2"]]), "words")
    assert memory(["a b", "c"]) == ["1", "3"]


def test_an_alignment_is_the_likeliest_of_all():
    rng = np.random.default_rng(0)
    emission, count = np.log(rng.dirichlet(np.ones(4), 3)), np.log(rng.dirichlet(np.ones(3), 3))
    sources, targets = np.full((40, 5), -1), np.full((40, 7), -1)
    for row in range(40):
        lengths = rng.integers(1, 6), rng.integers(1, 8)
        sources[row, : lengths[0]], targets[row, : lengths[1]] = (
            rng.integers(3, size=lengths[0]),
            rng.integers(4, size=lengths[1]),
        )
    found = alignment._align(sources, targets, emission, count)
    for source, target, counts in zip(sources, targets, found, strict=True):
        source, target = source[source >= 0], target[target >= 0]

        def score(counts, source=source, target=target):
            owners = np.repeat(source, counts)
            return emission[owners, target].sum() + count[source, list(counts)].sum()

        possible = [one for one in itertools.product(range(3), repeat=len(source)) if sum(one) == len(target)]
        if possible:
            assert score(counts[: len(source)]) == pytest.approx(max(map(score, possible)))
        assert counts.sum() == (len(target) if possible else 0)


def test_a_target_too_long_for_its_source_is_not_aligned(monkeypatch):
    monkeypatch.setattr(alignment, "ROWS", 1)
    sources, targets = np.array([[0, -1], [0, 1], [1, -1]]), np.array([[0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 3, -1]])
    np.testing.assert_array_equal(Aligner(sources, targets)(sources, targets), [[0, 0], [2, 2], [0, 0]])


SPELLING = {"c": "K", "a": "AE", "t": "T", "x": "K S", "h": "HH", "i": "IH", "e": "", "s": "S"}


def spelled(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Words and their sounds: a silent e, an x that is two sounds, and an i that an e behind it changes."""
    rng, pairs = random.Random(seed), []
    while len(pairs) < count:
        word = rng.choices([*SPELLING], k=rng.randint(2, 7))
        sounds = [
            ("AY" if letter == "i" and next_ == "e" else SPELLING[letter])
            for letter, next_ in itertools.zip_longest(word, word[1:])
        ]
        if target := " ".join(sounds).split():
            pairs.append((word, target))
    return pairs


def test_the_aligner_finds_which_letter_is_which_sound():
    pairs = spelled(500, seed=0)
    sources, targets = (Numbers([pair[side] for pair in pairs]) for side in (0, 1))
    ids = sources.ids([source for source, _ in pairs]), targets.ids([target for _, target in pairs])
    counts = Aligner(*ids)(*ids)
    expected = [[len(SPELLING[letter].split()) for letter in source] for source, _ in pairs]
    right = [counts[row, : len(one)].tolist() == one for row, one in enumerate(expected)]
    told = [is_right or "ie" in "".join(source) for is_right, (source, _) in zip(right, pairs, strict=True)]
    assert all(told)  # of "ie" and AY, either letter may be the silent one


def test_a_joint_model_learns_rules_that_depend_on_the_neighbours():
    train, test = spelled(3000, seed=1), spelled(200, seed=2)
    model = JointNGrams(*map(list, zip(*train, strict=True)))
    found = model([source for source, _ in test])
    assert np.mean([one == target for one, (_, target) in zip(found, test, strict=True)]) > 0.97
    assert model([[], ["?"], ["c", "?", "a", "t"]]) == [[], [], ["K", "AE", "T"]]


def plain_probability(sequences: list[list[int]], units: int, context: tuple[int, ...], unit: int, order: int) -> float:
    """Interpolated Kneser-Ney, written down from its definition."""
    grams = {n: [tuple(row[i : i + n]) for row in sequences for i in range(len(row) - n + 1)] for n in range(1, order + 1)}

    def count(gram):
        n = len(gram)
        before = {other[0] for other in grams.get(n + 1, []) if other[1:] == gram}
        return len(before) or grams[n].count(gram)

    def probability(context, unit):
        counts = {one: count((*context, one)) for one in range(units)}
        lower = 1 / units if not context else None
        if not sum(counts.values()):
            return probability(context[1:], unit) if context else lower
        lower = lower or probability(context[1:], unit)
        kinds = sum(value > 0 for value in counts.values())
        own = max(counts[unit] - joint.DISCOUNT, 0)
        return (own + joint.DISCOUNT * kinds * lower) / sum(counts.values())

    return probability(context[-(order - 1) :], unit)


def test_n_grams_have_the_probabilities_of_kneser_and_ney(monkeypatch):
    monkeypatch.setattr(joint, "ORDER", 3)
    rng, units = np.random.default_rng(0), 5
    rows = [rng.integers(units, size=rng.integers(1, 8)).tolist() for _ in range(25)]
    padded = np.full((25, 8), -1)
    for row, one in zip(padded, rows, strict=True):
        row[: len(one)] = one
    model = NGrams(padded, units)
    for _ in range(20):
        node, context = np.zeros(1, int), ()
        for unit in rng.integers(units, size=6).tolist():
            logs, after = model.step(np.repeat(node, units), np.arange(units))
            assert np.exp(logs).sum() == pytest.approx(1)
            assert np.exp(logs) == pytest.approx([plain_probability(rows, units, context, one, 3) for one in range(units)])
            node, context = after[unit : unit + 1], (*context, unit)


def test_a_wide_beam_finds_the_likeliest_units(monkeypatch):
    monkeypatch.setattr(joint, "BEAM", 1000)
    train = [("ab", "A B"), ("aab", "A B"), ("ba", "B"), ("bab", "A B B"), ("abb", "B A"), ("b", "A A")] * 2
    model = JointNGrams([[*source] for source, _ in train], [target.split() for _, target in train])

    def log_probability(units):
        node, total = np.zeros(1, int), 0.0
        for place, unit in enumerate([joint.START, *units, joint.END]):
            gain, node = model.ngrams.step(node, np.array([model.units.number[unit]]))
            total += gain[0] * (place > 0)
        return total

    for source in ("ab", "abab", "bba"):
        choices = [[unit for unit in model.units.tokens if unit[0] == letter] for letter in source]
        best = max(itertools.product(*choices), key=log_probability)
        assert model([[*source]]) == [[token for unit in best for token in unit[1]]]


def test_characters_to_words_are_written_by_the_joint_model_where_that_is_possible():
    pairs = spelled(300, seed=3)
    pairs.append((["c"] * 2000, ["K"] * 2000))  # no memory is taken for all its alignments
    train = pairs_of(["".join(source) for source, _ in pairs], [" ".join(target) for _, target in pairs])
    joined, memory = Baseline(train, ("characters", "words")), Baseline(train, ("subwords", "subwords"))
    assert (joined.name, memory.name) == ("a joint n-gram model", "a translation memory")
    assert joined(["cat", "tax"]) == ["K AE T", "T AE K S"]
    assert joined(["cat", "猫"])[1] == ""
    long = pairs_of(["a", "b"], ["A B C", "D E F"])
    assert Baseline(long, ("characters", "words"))(["b"]) == ["D E F"]
