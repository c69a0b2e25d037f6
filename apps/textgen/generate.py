"""Text from a trained network, a character at a time: what it wrote is what it reads next."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from apps.textgen.characters import UNKNOWN, Text
from apps.textgen.config import Config
from apps.textgen.data import block_size
from apps.textgen.model import zero_states
from apps.textgen.sampling import CHUNK, MIN_TEMPERATURE, Sampling
from shared import kernels
from shared.bptt import contiguous_batches, contiguous_windows

EVALUATION_LENGTH = 256  # steps in a window
MAX_LOGITS = 2**24  # numbers (64 MiB) of an evaluation window; a script of thousands of characters gets fewer streams


class Sampler:
    """Makes text with a network whose weights may still change.

    Args:
        config: the one that the network was built with.
        generator: see `apps.textgen.model.build_generator`.
        sampling: see there.
    """

    def __init__(self, config: Config, generator: keras.Model, sampling: Sampling):
        self.config = config
        self.generator = generator
        self.sampling = sampling
        on_cudnn = any(kernel.name == "cuDNN" for kernel in kernels.explain_kernels(generator, jit_compile=False).values())
        self.loop = tf.function(self._make_chunk, jit_compile=not on_cudnn)  # XLA has no kernel for cuDNN's operation

    def generate(self, prompt: np.ndarray, samples: int, length: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Make `samples` continuations of a prompt side by side.

        Args:
            prompt: ids `(time,)`, one or more. The state is primed with them once.
            samples: how many.
            length: characters of each.
            seed: the same seed gives the same text.

        Yields:
            Ids and the probabilities that the network gave them (before temperature, top-k and top-p), both
            `(samples, at most 32)`, until all is made.
        """
        primed = self.generator({"ids": tf.constant(prompt)[None], "states": zero_states(self.config, 1)})
        logits = ops.repeat(primed["logits"][:, -1], samples, axis=0)
        states = keras.tree.map_structure(lambda state: ops.repeat(state, samples, axis=0), primed["states"])
        for first in range(0, length, CHUNK):
            ids, probabilities, logits, states = self.loop(logits, states, tf.constant([seed, first], tf.int32))
            left = length - first
            yield ids.numpy()[:, :left], probabilities.numpy()[:, :left]

    def _make_chunk(self, logits, states, seed):
        """32 characters in one compiled loop: a call of Python for each would cost more than the network."""

        def step(number, logits, states, ids, probabilities):
            chosen = choose(logits, self.sampling, tf.stack([seed[0], seed[1] + number]))
            probability = ops.take_along_axis(ops.softmax(logits), chosen[:, None], axis=1)[:, 0]
            after = self.generator({"ids": chosen[:, None], "states": states})
            ids, probabilities = ids.write(number, chosen), probabilities.write(number, probability)
            return number + 1, after["logits"][:, 0], after["states"], ids, probabilities

        made = tf.TensorArray("int32", CHUNK), tf.TensorArray("float32", CHUNK)
        _, logits, states, *made = tf.while_loop(lambda number, *_: number < CHUNK, step, (0, logits, states, *made))
        return *(tf.transpose(array.stack()) for array in made), logits, states


def choose(logits, sampling: Sampling, seed):
    """Draw ids `(samples,)` from logits `(samples, num_ids)`. Padding and the unknown character are never chosen."""
    num_ids = logits.shape[-1]
    logits = ops.where(ops.arange(num_ids) > UNKNOWN, logits, -np.inf)
    if sampling.temperature < MIN_TEMPERATURE:
        return ops.cast(ops.argmax(logits, axis=-1), "int32")
    logits = logits / sampling.temperature
    if sampling.top_k and sampling.top_k < num_ids:
        least = ops.top_k(logits, sampling.top_k)[0][:, -1:]
        logits = ops.where(logits < least, -np.inf, logits)
    if sampling.top_p < 1:
        probabilities = ops.softmax(logits)
        ranked = -ops.sort(-probabilities, axis=-1)
        before = ops.cumsum(ranked, axis=-1) - ranked  # what all likelier characters have together
        least = ops.min(ops.where(before < sampling.top_p, ranked, np.inf), axis=-1, keepdims=True)
        logits = ops.where(probabilities < least, -np.inf, logits)
    # keras.random takes no tensor for a seed. The largest of logits with Gumbel noise is a draw from their softmax.
    uniform = tf.random.stateless_uniform(tf.shape(logits), seed, minval=1e-20)
    return ops.cast(ops.argmax(logits - ops.log(-ops.log(uniform)), axis=-1), "int32")


def nats_by_block(config: Config, generator: keras.Model, text: Text) -> np.ndarray:
    """Negative log likelihood of each block of a text, in nats, `(blocks,)`; see `apps.textgen.data.block_size`.

    The text is read in windows of 256 steps, in streams, the state carried from window to window. A stream has 10,000
    characters or more (a shorter text is one stream), so that it hardly matters that it starts from zero.
    """
    size = block_size(text)
    blocks = np.zeros(-(-len(text.characters) // size))
    most = MAX_LOGITS // (EVALUATION_LENGTH * generator.output["logits"].shape[-1])
    streams = int(np.clip(len(text.characters) // 10_000, 1, np.clip(most, 1, 64)))
    windows = contiguous_windows(text.document_lengths, streams, EVALUATION_LENGTH)
    states = zero_states(config, streams)

    @tf.function
    def read(inputs, targets, weights, states, kept):
        states = keras.tree.map_structure(lambda state: state * kept, states)
        after = generator({"ids": inputs, "states": states})
        nats = ops.sparse_categorical_crossentropy(targets, after["logits"], from_logits=True)
        return nats * weights, after["states"]

    batches = contiguous_batches(text.characters, windows, EVALUATION_LENGTH)
    for batch, starts, fresh in zip(batches, windows.starts, windows.fresh, strict=True):
        nats, states = read(*batch, states, tf.constant(~fresh[:, None], tf.float32))
        block = (starts[:, None] + 1 + np.arange(EVALUATION_LENGTH)) // size  # of the targets
        np.add.at(blocks, np.minimum(block, len(blocks) - 1), nats.numpy())  # what lies behind the end has weight 0
    return blocks
