"""Beam search, both versions of it, against enumeration of all sequences and a plain search that never stops early."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from shared.beam import search
from shared.beam_tf import BeamSearch
from shared.cli import UserError

START, END = 0, 1
TWO_TOKENS = 31  # sequences of two tokens, at most 4 of them: 1 + 2 + 4 + 8 that end, 16 that do not


class Network:
    """Written for both versions: what differs between rows is in `constants`, the past in `states`."""

    def __init__(self, states, constants):
        self.states, self.constants, self.steps = states, constants, tf.Variable(0, trainable=False)

    def answer(self, tokens, states, constants):
        """Log-probabilities and new states; counts the steps."""
        self.steps.assign_add(1)
        return self.step(tokens, states, constants)


class Chain(Network):
    """A Markov chain of second order, another one in each row: the state is the token before the last one."""

    def __init__(self, probabilities):
        rows, self.vocabulary = len(probabilities), probabilities.shape[-1]
        with np.errstate(divide="ignore"):
            self.table = np.log(probabilities).astype("float32").reshape(-1, self.vocabulary)
        super().__init__([np.full(rows, START, np.int32)], [np.arange(rows, dtype=np.int32)])

    def step(self, tokens, states, constants):
        place = (constants[0] * self.vocabulary + states[0]) * self.vocabulary + tokens
        return ops.take(self.table, place, axis=0), [tokens]


class Recurrent(Network):
    """A random Elman network that is told something else in each row at every step."""

    def __init__(self, rows, vocabulary, seed, units=8):
        rng = np.random.default_rng(seed)
        self.kernel, self.embedding, self.outputs = (
            rng.normal(0, scale, shape).astype("float32")
            for scale, shape in ((0.5, (units, units)), (1, (vocabulary, units)), (2, (units, vocabulary)))
        )
        super().__init__([np.zeros((rows, units), "float32")], [rng.normal(size=(rows, units)).astype("float32")])

    def step(self, tokens, states, constants):
        state = ops.tanh(ops.matmul(states[0], self.kernel) + ops.take(self.embedding, tokens, axis=0) + constants[0])
        return ops.log_softmax(ops.matmul(state, self.outputs)), [state]


def in_numpy(network, beam, **options):
    """The n best by the version without TensorFlow."""
    states, constants = ([np.repeat(part, beam, axis=0) for part in parts] for parts in (network.states, network.constants))

    def step(tokens, states):
        log_probabilities, states = network.answer(tokens, states, constants)
        return np.asarray(log_probabilities), [np.asarray(state) for state in states]

    return search(step, states, len(network.constants[0]), start=START, end=END, beam=beam, **options)


def in_tensorflow(network, max_length, **options):
    """The n best by the compiled version."""
    given = [[tf.constant(part) for part in parts] for parts in (network.states, network.constants)]
    return compiled(network, **options)(*given, max_length=max_length)


def compiled(network, **options):
    """The search for a network's own states and constants, of any number of rows."""
    signature = [
        [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in parts] for parts in (network.states, network.constants)
    ]
    return BeamSearch(lambda *given: given, network.answer, signature, start=START, end=END, **options)


both = pytest.mark.parametrize("find", [in_numpy, in_tensorflow])
penalties = pytest.mark.parametrize("length_penalty", [0, 1])


def random_chain(rows, vocabulary, seed, possible=100):
    """Only the first `possible` tokens have a probability, the start none."""
    weights = np.random.default_rng(seed).exponential(size=(rows, *[vocabulary] * 3)) ** 2
    weights[..., START] = 0
    weights[..., possible:] = 0
    return Chain(weights / weights.sum(axis=-1, keepdims=True))


def memoryless(*of_end):
    """In each row: the end, with this probability, or a token that stands for all others."""
    probabilities = np.array([[0, chance, 1 - chance] for chance in of_end])
    return Chain(np.broadcast_to(probabilities[:, None, None], (len(of_end), 3, 3, 3)))


def log_probability(network, row, sequence):
    """Of a sequence of a chain's tokens, the end among them if it is meant, looked up one by one and added up in 64 bits."""
    table = network.table.reshape(-1, *[network.vocabulary] * 3)[row].astype("float64")
    tokens = [START, START, *sequence]
    return sum(table[before, last, token] for before, last, token in zip(tokens, tokens[1:], tokens[2:], strict=False))


def plain_search(network, row, beam, max_length, length_penalty):
    """The same search of one row, with Python's lists; it stops when all have ended, never before."""
    beginnings, finished = [((), 0.0)], []
    while beginnings:
        longer = [(*tokens, token) for tokens, _ in beginnings for token in range(network.vocabulary)]
        continued = [(tokens, log_probability(network, row, tokens)) for tokens in longer]
        kept = sorted((one for one in continued if one[1] > -np.inf), key=lambda one: -one[1])[:beam]
        is_closed = [tokens[-1] == END or len(tokens) == max_length for tokens, _ in kept]
        finished += itertools.compress(kept, is_closed)
        beginnings = [one for one, closed in zip(kept, is_closed, strict=True) if not closed]
    return best_of([(*one, one[1] / len(one[0]) ** length_penalty) for one in finished])[:beam]


def best_of(hypotheses):
    """Sorted by score; the tokens without the end."""
    ranked = sorted(hypotheses, key=lambda one: -one[2])
    return [([token for token in tokens if token != END], total, score) for tokens, total, score in ranked]


def assert_same(found, expected):
    """The n best of a row: the same sequences in the same order, with the same numbers."""
    assert [list(one[0]) for one in found] == [list(one[0]) for one in expected]
    np.testing.assert_allclose([one[1:] for one in found], [one[1:] for one in expected], atol=1e-4)


@both
@penalties
@pytest.mark.parametrize("beam", [TWO_TOKENS, TWO_TOKENS + 1])
def test_a_beam_as_wide_as_the_search_space_finds_what_enumeration_finds(find, length_penalty, beam):
    network = random_chain(2, TWO_TOKENS + 1, seed=0, possible=4)
    found = find(network, beam=beam, max_length=4, length_penalty=length_penalty)
    for row in range(2):
        sequences = [(*tokens, END)[:4] for length in range(5) for tokens in itertools.product(range(2, 4), repeat=length)]
        totals = [log_probability(network, row, sequence) for sequence in sequences]
        scored = [(one, total, total / len(one) ** length_penalty) for one, total in zip(sequences, totals, strict=True)]
        assert len(scored) == TWO_TOKENS
        assert_same(found[row], best_of(scored))


@both
@penalties
def test_a_beam_of_1_is_greedy(find, length_penalty):
    network = random_chain(20, 6, seed=1)
    found = find(network, beam=1, max_length=8, length_penalty=length_penalty)
    for row, [hypothesis] in enumerate(found):
        sequence = []
        while len(sequence) < 8 and END not in sequence:
            continued = [log_probability(network, row, [*sequence, token]) for token in range(6)]
            sequence.append(int(np.argmax(continued)))
        total = log_probability(network, row, sequence)
        assert_same([hypothesis], best_of([(sequence, total, total / len(sequence) ** length_penalty)]))
    assert {1, 2, 3, 8} <= {len(hypothesis.tokens) for [hypothesis] in found}  # some ended, some did not


@both
@penalties
@pytest.mark.parametrize("beam", [2, 7])
def test_stopping_early_loses_nothing(find, length_penalty, beam):
    network = random_chain(6, 7, seed=2)
    found = find(network, beam=beam, max_length=6, length_penalty=length_penalty)
    for row in range(6):
        assert_same(found[row], plain_search(network, row, beam, 6, length_penalty))


@penalties
@pytest.mark.parametrize("beam", [1, 5, 12])
@pytest.mark.parametrize("seed", range(2))
def test_numpy_and_tensorflow_find_the_same(length_penalty, beam, seed):
    options = {"beam": beam, "max_length": 15, "length_penalty": length_penalty}
    for network in (Recurrent(5, 12, seed), random_chain(5, 12, seed)):
        found, other = (find(network, **options) for find in (in_numpy, in_tensorflow))
        for row in range(5):
            assert_same(found[row], other[row])
            assert len(found[row]) == beam
            assert len({tuple(hypothesis.tokens) for hypothesis in found[row]}) == beam
            assert {hypothesis.tokens.dtype for hypothesis in (*found[row], *other[row])} == {np.dtype("int32")}


@both
@pytest.mark.parametrize(
    ("of_end", "beam", "length_penalty", "steps"),
    [
        (0.6, 1, 1, 1),  # the end is the likeliest token
        (0.6, 2, 0, 2),  # 0.4 ** 2 is less than 0.4 * 0.6, the second best
        (0.3, 2, 0, 5),  # 0.7 ** 5 is the first power that is less than 0.7 * 0.3
        (0.9, 2, 1, math.ceil(20 * math.log(0.1 * 0.9) / 2 / math.log(0.1))),  # 11 tokens in 20 would do better if they ended
        (0.3, 2, 1, 20),  # the longer the better
        (0.0, 2, 0, 20),  # never ends
    ],
)
def test_search_stops_when_nothing_can_get_better(find, of_end, beam, length_penalty, steps):
    find(network := memoryless(of_end), beam=beam, max_length=20, length_penalty=length_penalty)
    assert int(network.steps) == steps


@both
def test_a_row_that_is_done_waits_for_the_others(find):
    network = memoryless(0.6, 0.0, 0.3)
    done, endless, later = find(network, beam=2, max_length=20, length_penalty=0)
    assert int(network.steps) == 20
    assert [len(hypothesis.tokens) for hypothesis in done + later] == [0, 1, 0, 1]
    [hypothesis] = endless  # nothing else has a probability
    assert (hypothesis.tokens.tolist(), hypothesis.score) == ([2] * 20, 0)


@both
def test_rows_do_not_influence_each_other(find):
    options = {"beam": 4, "max_length": 15, "length_penalty": 0.6}
    network = Recurrent(3, 12, seed=4)
    together = find(network, **options)
    states, constants = network.states, network.constants
    for row in range(3):
        network.states, network.constants = [part[[row]] for part in states], [part[[row]] for part in constants]
        [alone] = find(network, **options)
        assert_same(together[row], alone)


@both
@penalties
@pytest.mark.parametrize("beam", [1, 4])
def test_rows_may_take_different_numbers_of_steps(find, length_penalty, beam):
    """Each row is searched as if it were alone."""
    limits = np.array([2, 15, 6])
    network = Recurrent(3, 12, seed=5)
    options = {"beam": beam, "length_penalty": length_penalty}
    found = find(network, max_length=limits, **options)
    states, constants = network.states, network.constants
    for row, limit in enumerate(limits):
        network.states, network.constants = [part[[row]] for part in states], [part[[row]] for part in constants]
        [alone] = in_numpy(network, max_length=limit, **options)
        assert_same(found[row], alone)
    assert max(len(one.tokens) for one in found[0]) == 2


@both
def test_no_rows_give_nothing(find):
    assert find(Recurrent(0, 12, seed=0), beam=3, max_length=5, length_penalty=0) == []


@both
@pytest.mark.parametrize(
    ("beam", "message"),
    [(0, "--beam is 1 or more; got 0."), (8, "--beam 8 is wider than the vocabulary, 7 tokens. Give 7 or less.")],
)
def test_a_beam_of_0_or_wider_than_the_vocabulary_is_a_users_mistake(find, beam, message):
    with pytest.raises(UserError, match=message):
        find(random_chain(2, 7, seed=0), beam=beam, max_length=5, length_penalty=0)


def test_another_batch_is_not_traced_again():
    beams = compiled(Recurrent(5, 12, seed=0), beam=3, length_penalty=1)
    for rows, max_length in ((5, 9), (4, 6), (7, np.arange(1, 8))):
        network = Recurrent(rows, 12, seed=0)
        given = [[tf.constant(part) for part in parts] for parts in (network.states, network.constants)]
        beams(*given, max_length=max_length)
    assert beams.search.experimental_get_tracing_count() == 1


def test_the_version_in_numpy_needs_no_tensorflow():
    code = "import sys, shared.beam; print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    repository = Path(__file__).parent.parent
    answer = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
