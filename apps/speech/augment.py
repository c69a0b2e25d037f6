"""Made for every batch: what a microphone, a room and another voice do to a clip. Training sees no clip twice.

On the waveform, while the network computes the batch before, at `--augmentation 1`:

    speed and shift     up to 15 % faster or slower, 0.1 s earlier or later; pitch and formants move with the speed
    gain                up to 10 dB louder or softer
    background noise    70 % of the clips get a random piece of it, at a signal-to-noise ratio of 0 to 30 dB
    lead                with `--lead-seconds`, the end of another clip of the batch stands before each

On the mel spectrogram, inside the network and in training alone: `SpectrogramAugmentation`.
"""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from apps.speech.config import Config
from apps.speech.features import PACKAGE
from shared.batches import in_order, prepared_ahead, shuffled

# At --augmentation 1
SPEED_CHANGE = 0.15  # fraction
TIME_SHIFT = 0.1  # seconds
GAIN_CHANGE = 10.0  # decibels
NOISE_FRACTION = 0.7  # of the clips
SNR = 0.0, 30.0  # decibels, lowest and highest; not scaled
MASK_SECONDS = 0.15  # longest stretch of time that is hidden
MASK_BANDS = 7 / 40  # widest stretch of bands that is hidden, as a fraction of all
MEL_WARP = 0.1  # largest change of the mel axis, as a fraction


def training_batches(clips, noise: np.ndarray, config: Config, first_epoch: int = 0, replicas: int = 1) -> tf.data.Dataset:
    """Augmented batches of clips in random order, epoch after epoch without end, see `shared.batches.shuffled`.

    Args:
        clips: the training part, see `apps.speech.data.Clips`.
        noise: `(samples,)`, one long recording of background noise, from -1 to 1.
        config: the settings.
        first_epoch: number of the first epoch, counted from 0.
        replicas: see `shared.batches.indices_by_length`.

    Returns:
        Waveforms `(batch, samples)`, or longer ones with `--lead-seconds`, and one-hot labels `(batch, classes)`.
    """
    count, samples = clips.waveforms.shape
    seed, batch_size = config.training.seed, config.training.batch_size
    first_step = first_epoch * -(-count // batch_size)

    def pieces() -> Iterator[tuple]:
        for step, rows in enumerate(shuffled(np.arange(count), batch_size, seed, first_epoch, replicas), start=first_step):
            yield clips.waveforms[rows], clips.labels[rows], [seed, step]

    signature = (tf.TensorSpec([None, samples], tf.int16), tf.TensorSpec([None], tf.int64), tf.TensorSpec([2], tf.int32))
    background = tf.constant(noise, tf.float32)

    def batch(waveforms, labels, seed):
        waveforms = augment(_to_float(waveforms), background, config.sample_rate, config.augmentation, seed)
        if config.lead_seconds:
            waveforms = with_lead(waveforms, round(config.lead_seconds * config.sample_rate), seed)
        return waveforms, tf.one_hot(labels, len(clips.class_names))

    return prepared_ahead(pieces, signature, tf.data.INFINITE_CARDINALITY, batch)


def evaluation_batches(clips, batch_size: int, replicas: int = 1) -> tf.data.Dataset:
    """Clips as they are, in their order: waveforms and one-hot labels; `replicas`: see `shared.batches.in_order`."""
    batches = in_order(np.arange(len(clips.labels)), batch_size, replicas)

    def batch(waveforms, labels):
        return _to_float(waveforms), tf.one_hot(labels, len(clips.class_names))

    signature = (tf.TensorSpec([None, clips.waveforms.shape[1]], tf.int16), tf.TensorSpec([None], tf.int64))
    pieces = lambda: ((clips.waveforms[rows], clips.labels[rows]) for rows in batches)  # noqa: E731
    return prepared_ahead(pieces, signature, len(batches), batch)


def augment(waveforms, noise, sample_rate: int, strength: float, seed):
    """Change waveforms `(batch, samples)` at random; the same `seed` `(2,)` gives the same."""
    seeds = tf.unstack(tf.random.split(seed, 6))
    count, samples = tf.shape(waveforms)[0], tf.shape(waveforms)[1]

    def uniform(number: int, low: float, high: float):
        return tf.random.stateless_uniform([count, 1], seeds[number], low, high)

    speed = 1 + min(strength * SPEED_CHANGE, 0.9) * uniform(0, -1.0, 1.0)
    shift = uniform(1, -1.0, 1.0) * strength * TIME_SHIFT * sample_rate
    waveforms = read_at(waveforms, speed, shift)
    waveforms *= _ratio(strength * GAIN_CHANGE * uniform(2, -1.0, 1.0))

    starts = tf.random.stateless_uniform([count, 1], seeds[3], 0, tf.shape(noise)[0] - samples + 1, tf.int32)
    pieces = tf.gather(noise, starts + tf.range(samples))
    loudness = _loudness(waveforms) / tf.maximum(_loudness(pieces), 1e-5)
    noisy = tf.cast(uniform(4, 0.0, 1.0) < strength * NOISE_FRACTION, tf.float32)
    waveforms += noisy * pieces * loudness * _ratio(-uniform(5, *SNR))
    return tf.clip_by_value(waveforms, -1.0, 1.0)


def with_lead(waveforms, longest: int, seed):
    """Waveforms `(batch, samples)` with the end of another one of the batch before each: 0 to `longest` samples, for all alike.

    What a network's state holds at the start of a word is then what another sound has left there, as in a stream.
    """
    length = tf.random.stateless_uniform([], seed, 0, longest + 1, tf.int32)
    return tf.concat([tf.roll(waveforms, 1, axis=0)[:, tf.shape(waveforms)[1] - length :], waveforms], axis=1)


def read_at(waveforms, speed, shift):
    """Read waveforms `(batch, samples)` at other times: `speed` and `shift` (in samples) `(batch, 1)`, about the middle.

    What lies between two samples is interpolated linearly, what lies outside is silence.
    """
    samples = tf.shape(waveforms)[1]
    time = tf.cast(tf.range(samples), tf.float32)[None]
    middle = tf.cast(samples - 1, tf.float32) / 2
    position = middle + (time - middle) * speed + shift
    before = tf.floor(position)
    fraction = position - before
    padded = tf.pad(waveforms, [[0, 0], [1, 1]])
    index = tf.cast(tf.clip_by_value(before, -1.0, tf.cast(samples, tf.float32) - 1), tf.int32) + 1
    inside = tf.cast((position > -1) & (position < tf.cast(samples, tf.float32)), tf.float32)
    left, right = (tf.gather(padded, index + step, batch_dims=1) for step in (0, 1))
    return inside * (left * (1 - fraction) + right * fraction)


def _to_float(waveforms):
    return tf.cast(waveforms, tf.float32) / 32768.0


def _loudness(waveforms):
    return tf.sqrt(tf.reduce_mean(tf.square(waveforms), axis=1, keepdims=True))


def _ratio(decibels):
    return 10.0 ** (decibels / 20)


@keras.saving.register_keras_serializable(PACKAGE)
class SpectrogramAugmentation(keras.layers.Layer):
    """In training, warp the mel axis and hide bands and stretches of time of `(batch, frames, mels)`.

    The masks are those of SpecAugment (Park et al., 2019), filled with the clip's mean. The warp stretches the spectrum
    as a longer or shorter vocal tract would (Jaitly and Hinton, 2013).

    Args:
        masks: how many of each kind.
        longest: the longest time mask, in frames.
        strength: of the masks and the warp.
        seed: of the random numbers.
    """

    def __init__(self, masks: int, longest: int, strength: float, seed: int, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.masks, self.longest, self.strength, self.seed = masks, longest, strength, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, decibels, training=False):
        if not training or not self.strength:
            return decibels
        batch, frames, mels = ops.shape(decibels)
        decibels = self._warped(decibels, batch, mels)
        shown = ops.ones((1, 1, 1))
        for _ in range(self.masks):
            shown = shown * ops.reshape(self._mask(batch, frames, self.strength * self.longest), (batch, frames, 1))
            shown = shown * ops.reshape(self._mask(batch, mels, self.strength * MASK_BANDS * mels), (batch, 1, mels))
        mean = ops.mean(decibels, axis=(1, 2), keepdims=True)
        return mean + shown * (decibels - mean)

    def _mask(self, batch, length, most: float):
        """`(batch, length)`: 0 within a stretch of at most `most`, 1 outside."""
        length_as_float = ops.cast(length, "float32")
        size = self._uniform(batch) * (ops.minimum(float(int(most)), length_as_float) + 1)
        start = self._uniform(batch) * (length_as_float - size)
        places = ops.cast(ops.arange(length), "float32")[None]
        return ops.cast((places < start) | (places >= start + ops.floor(size)), "float32")

    def _warped(self, decibels, batch, mels):
        factor = 1 + min(self.strength * MEL_WARP, 0.9) * (2 * self._uniform(batch) - 1)
        position = ops.clip(ops.cast(ops.arange(mels), "float32")[None] * factor, 0, mels - 1)
        # Linear interpolation as a matrix (batch, from, to): 1 - distance, where that is above 0
        distance = ops.abs(position[:, None, :] - ops.cast(ops.arange(mels), "float32")[None, :, None])
        return ops.matmul(decibels, ops.maximum(0, 1 - distance))

    def _uniform(self, batch):
        return keras.random.uniform((batch, 1), seed=self.seed_generator)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        names = "masks", "longest", "strength", "seed"
        return super().get_config() | {name: getattr(self, name) for name in names}
