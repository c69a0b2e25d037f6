"""How fast translations are written; measured by make speed."""

import time

import numpy as np
import pytest

from apps.translation import model
from apps.translation.config import DEFAULT
from apps.translation.decoding import BATCH, Translator
from apps.translation.tokens import END, START, Tokenizer, Vocabulary

SOURCES, LENGTH = 2 * BATCH, 10
pytestmark = pytest.mark.speed


@pytest.fixture(scope="module")
def translating():
    """A network of the default's size, its vocabulary, and sources of ten characters."""
    vocabulary = Vocabulary(*(Tokenizer("characters", [*"abcdefghijklmnopqrstuvwxyz"], True) for _ in "st"), [LENGTH + 1])
    network = model.build_model(DEFAULT, len(vocabulary.source), len(vocabulary.target))
    letters = np.random.default_rng(0).choice([*"abcdefghijklmnopqrstuvwxyz"], (SOURCES, LENGTH))
    return network, vocabulary, ["".join(row) for row in letters]


def measure(translate, sources: list[str]) -> tuple[float, int]:
    """Seconds, and tokens that were written, ends counted. What is traced is traced before."""
    translate(sources[:1])
    start = time.perf_counter()
    found = translate(sources)
    return time.perf_counter() - start, sum(len(best.tokens) + 1 for best, *_ in found)


def predict_per_token(encoder, decoder, vocabulary, source: str) -> list[int]:
    """What tutorials do: Keras's `predict` for each token of each source."""
    ids, tokens = vocabulary.encode_sources([source]), [START]
    encoded = encoder.predict({"source": ids}, verbose=0)
    states, constants = encoded["states"], {"source": ids, "memory": encoded["memory"]}
    while tokens[-1] != END and len(tokens) <= LENGTH + 1:
        found = decoder.predict({"tokens": np.array([tokens[-1:]]), "states": states, **constants}, verbose=0)
        states = found["states"]
        tokens.append(int(found["log_probabilities"][0].argmax()))
    return tokens[1:]


def test_one_compiled_loop_writes_fifty_times_as_many_tokens_as_predict_per_token(translating):
    network, vocabulary, sources = translating
    seconds, tokens = measure(Translator(DEFAULT, network, vocabulary), sources)
    encoder, decoder = model.split(DEFAULT, network)
    predict_per_token(encoder, decoder, vocabulary, sources[0])
    start = time.perf_counter()
    found = predict_per_token(encoder, decoder, vocabulary, sources[0])
    slow = len(found) / (time.perf_counter() - start)
    print(f"\ngreedy: {tokens / seconds:,.0f} tokens per second, {BATCH} sources side by side; predict per token: {slow:,.0f}")
    assert tokens / seconds > 50 * slow


def test_milliseconds_per_sentence_of_greedy_and_beam(translating):
    network, vocabulary, sources = translating
    milliseconds = {}
    for beam in (1, 5):
        seconds, _ = measure(Translator(DEFAULT, network, vocabulary, beam), sources)
        milliseconds[beam] = 1000 * seconds / len(sources)
    print(f"\nmilliseconds per source: greedy {milliseconds[1]:.2f}, beam of 5 {milliseconds[5]:.2f}")
    assert milliseconds[5] < 10 * milliseconds[1]
