"""Made for every batch: what a microphone, a room and another voice do to a clip. Training sees no clip twice.

On the waveform, while the network computes the batch before:

    speed and shift     the clip is read faster or slower, earlier or later; pitch and formants move with the speed
    gain                louder or softer
    background noise    a random piece of it, at a random signal-to-noise ratio

On the mel spectrogram, inside the network and in training alone: `SpectrogramAugmentation`.
"""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from apps.speech.config import Config
from apps.speech.features import PACKAGE
from shared.batches import prepared_ahead


def training_batches(clips, noise: np.ndarray, config: Config, first_epoch: int = 0):
    """Augmented batches of clips in random order, epoch after epoch without end.

    What an epoch looks like depends on the seed and its number alone, so that a resumed run sees what an uninterrupted
    one would have seen.

    Args:
        clips: the training part, see `apps.speech.data.Clips`.
        noise: `(samples,)`, one long recording of background noise, from -1 to 1.
        config: the settings.
        first_epoch: number of the first epoch, counted from 0.

    Returns:
        A `tf.data.Dataset` of waveforms `(batch, samples)` and one-hot labels `(batch, classes)`, and the number of
        batches in an epoch.
    """
    count, samples = clips.waveforms.shape
    steps = -(-count // config.batch_size)

    def order() -> Iterator[tuple]:
        epoch = first_epoch
        while True:
            rows = np.random.default_rng([config.seed, epoch]).permutation(count)
            for step in range(steps):
                picked = rows[step * config.batch_size : (step + 1) * config.batch_size]
                yield clips.waveforms[picked], clips.labels[picked], [config.seed, epoch * steps + step]
            epoch += 1

    signature = (tf.TensorSpec([None, samples], tf.int16), tf.TensorSpec([None], tf.int64), tf.TensorSpec([2], tf.int32))
    background = tf.constant(noise, tf.float32)

    def batch(waveforms, labels, seed):
        return augment(_to_float(waveforms), background, config, seed), tf.one_hot(labels, len(clips.class_names))

    return prepared_ahead(order, signature, tf.data.INFINITE_CARDINALITY, batch), steps


def evaluation_batches(clips, batch_size: int):
    """Clips as they are, in their order: a `tf.data.Dataset` of waveforms and one-hot labels."""
    starts = range(0, len(clips.labels), batch_size)

    def pieces() -> Iterator[tuple]:
        return ((clips.waveforms[start : start + batch_size], clips.labels[start : start + batch_size]) for start in starts)

    def batch(waveforms, labels):
        return _to_float(waveforms), tf.one_hot(labels, len(clips.class_names))

    signature = (tf.TensorSpec([None, clips.waveforms.shape[1]], tf.int16), tf.TensorSpec([None], tf.int64))
    return prepared_ahead(pieces, signature, len(starts), batch)


def augment(waveforms, noise, config: Config, seed):
    """Change waveforms `(batch, samples)` at random; the same `seed` `(2,)` gives the same."""
    seeds = tf.unstack(tf.random.split(seed, 6))
    count, samples = tf.shape(waveforms)[0], tf.shape(waveforms)[1]

    def uniform(number: int, low: float, high: float):
        return tf.random.stateless_uniform([count, 1], seeds[number], low, high)

    speed = uniform(0, 1 - config.speed_change, 1 + config.speed_change)
    shift = uniform(1, -1.0, 1.0) * config.time_shift * config.sample_rate
    waveforms = read_at(waveforms, speed, shift)
    waveforms *= _ratio(uniform(2, -config.gain_change, config.gain_change))

    starts = tf.random.stateless_uniform([count, 1], seeds[3], 0, tf.shape(noise)[0] - samples + 1, tf.int32)
    pieces = tf.gather(noise, starts + tf.range(samples))
    loudness = _loudness(waveforms) / tf.maximum(_loudness(pieces), 1e-5)
    noisy = tf.cast(uniform(4, 0.0, 1.0) < config.noise_share, tf.float32)
    waveforms += noisy * pieces * loudness * _ratio(-uniform(5, config.lowest_snr, config.highest_snr))
    return tf.clip_by_value(waveforms, -1.0, 1.0)


def read_at(waveforms, speed, shift):
    """Read waveforms `(batch, samples)` at other times: `speed` and `shift` (in samples) `(batch, 1)`, about the middle.

    What lies between two samples is interpolated linearly, what lies outside is silence.
    """
    samples = tf.shape(waveforms)[1]
    time = tf.cast(tf.range(samples), tf.float32)[None]
    middle = tf.cast(samples - 1, tf.float32) / 2
    position = middle + (time - middle) * speed + shift
    before = tf.floor(position)
    share = position - before
    padded = tf.pad(waveforms, [[0, 0], [1, 1]])
    index = tf.cast(tf.clip_by_value(before, -1.0, tf.cast(samples, tf.float32) - 1), tf.int32) + 1
    inside = tf.cast((position > -1) & (position < tf.cast(samples, tf.float32)), tf.float32)
    left, right = (tf.gather(padded, index + step, batch_dims=1) for step in (0, 1))
    return inside * (left * (1 - share) + right * share)


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
        time_masks, frequency_masks: how many.
        longest: the longest time mask, in frames.
        widest: the widest frequency mask, in bands.
        warp: largest change of the mel axis, as a share.
        seed: of the random numbers.
    """

    def __init__(
        self,
        time_masks: int,
        longest: int,
        frequency_masks: int,
        widest: int,
        warp: float,
        seed: int,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.time_masks, self.longest = time_masks, longest
        self.frequency_masks, self.widest = frequency_masks, widest
        self.warp = warp
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, decibels, training=False):
        if not training:
            return decibels
        batch, frames, mels = ops.shape(decibels)
        if self.warp:
            decibels = self._warped(decibels, batch, mels)
        shown = ops.ones((1, 1, 1))
        for count, length, most, axis in (
            (self.time_masks, frames, self.longest, (batch, frames, 1)),
            (self.frequency_masks, mels, self.widest, (batch, 1, mels)),
        ):
            for _ in range(count):
                shown = shown * ops.reshape(self._mask(batch, length, most), axis)
        mean = ops.mean(decibels, axis=(1, 2), keepdims=True)
        return mean + shown * (decibels - mean)

    def _mask(self, batch, length, most):
        """`(batch, length)`: 0 within a stretch of at most `most`, 1 outside."""
        size = self._uniform(batch) * (most + 1)
        start = self._uniform(batch) * (length - size)
        places = ops.cast(ops.arange(length), "float32")[None]
        return ops.cast((places < start) | (places >= start + ops.floor(size)), "float32")

    def _warped(self, decibels, batch, mels):
        factor = 1 + self.warp * (2 * self._uniform(batch) - 1)
        position = ops.clip(ops.cast(ops.arange(mels), "float32")[None] * factor, 0, mels - 1)
        # Linear interpolation as a matrix (batch, from, to): 1 - distance, where that is above 0
        distance = ops.abs(position[:, None, :] - ops.cast(ops.arange(mels), "float32")[None, :, None])
        return ops.matmul(decibels, ops.maximum(0, 1 - distance))

    def _uniform(self, batch):
        return keras.random.uniform((batch, 1), seed=self.seed_generator)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        names = "time_masks", "longest", "frequency_masks", "widest", "warp", "seed"
        return super().get_config() | {name: getattr(self, name) for name in names}
