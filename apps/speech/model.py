"""The network: waveform -> MFCC -> convolutions -> recurrent stack -> pooling -> a logit for each word."""

import keras
import numpy as np
from keras import layers, ops

from apps.speech import audio
from apps.speech.augment import MASK_SECONDS, SpectrogramAugmentation
from apps.speech.config import HALVINGS, Config
from apps.speech.features import CepstralCoefficients, LogMelSpectrogram
from shared import rnn

KERNEL = 5  # frames and coefficients that a convolution looks at


def build_features(config: Config) -> keras.Model:
    """Waveforms `(batch, samples)` to "mel" `(batch, frames, mels)` and "mfcc" `(batch, frames, mels)`."""
    waveform = keras.Input((config.samples,), name="waveform")
    mel = _augmented(config, _log_mel(config)(waveform))
    return keras.Model(waveform, {"mel": mel, "mfcc": _mfcc(config, mel)}, name="features")


def coefficient_statistics(features: keras.Model, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each coefficient `(mels,)` over at most 2,000 of the training clips."""
    rows = waveforms[:: -(-len(waveforms) // 2_000)]
    mfcc = np.concatenate([features.predict_on_batch(audio.to_float(part))["mfcc"] for part in np.array_split(rows, 16)])
    return mfcc.mean(axis=(0, 1)), mfcc.var(axis=(0, 1))


def build_model(config: Config, num_classes: int, mean, variance) -> keras.Model:
    """Build the network.

    Args:
        config: the settings.
        num_classes: how many words, with _unknown_ and _silence_.
        mean, variance: of the training clips' coefficients, `(mels,)` each.

    Returns:
        Uncompiled model from waveforms `(batch, samples)`, from -1 to 1, to logits `(batch, num_classes)`. With
        `--lead-seconds` they may have any length.
    """
    waveform = keras.Input((None if config.lead_seconds else config.samples,), name="waveform")
    mel = _augmented(config, _log_mel(config)(waveform))
    x, _, _ = _layers(config, _mfcc(config, mel), mean, variance)
    x = rnn.pool(x, config.pooling, bidirectional=config.recurrent.bidirectional)
    return keras.Model(waveform, _logits(config, num_classes, x), name="network")


def build_servable(network: keras.Model) -> keras.Model:
    """What is saved: waveforms `(batch, samples)` in, from -1 to 1, probabilities `(batch, classes)` out."""
    waveform = keras.Input(network.input_shape[1:], name="waveform")
    uncompiled = keras.Model(network.input, network.output, name="network")  # leaves the optimizer behind
    return keras.Model(waveform, layers.Softmax(dtype="float32", name="probabilities")(uncompiled(waveform)), name="servable")


def build_streamer(config: Config, network: keras.Model, from_mfcc: bool = False) -> keras.Model:
    """Build the same network to compute a stream block by block, see `apps.speech.stream.CarriedState`.

    Returns:
        Model from a dict of "waveform" `(batch, samples)`, or "mfcc" `(batch, frames, mels)`, and "memory", see
        `zero_memory`, to a dict of "probabilities" `(batch, frames, classes)` and "memory", that after the last frame. The
        frames of a block have to be a multiple of `config.frames_per_output`, and every so many frames there are probabilities.
    """
    sound = keras.Input((None, config.mels), name="mfcc") if from_mfcc else keras.Input((None,), name="waveform")
    memory = keras.tree.map_structure(lambda zeros: keras.Input(zeros.shape[1:]), zero_memory(config))
    mfcc = sound if from_mfcc else _mfcc(config, _log_mel(config, center=False)(sound))
    normalization = network.get_layer("normalization")
    mean, variance = np.ravel(normalization.mean), np.ravel(normalization.variance)
    x, pasts, states = _layers(config, mfcc, mean, variance, **memory)
    probabilities = layers.Softmax(name="probabilities")(_logits(config, network.output_shape[-1], x))
    outputs = {"probabilities": probabilities, "memory": {"pasts": pasts, "states": states}}
    streamer = keras.Model({sound.name: sound, "memory": memory}, outputs, name="streamer")
    streamer.set_weights(network.get_weights())
    return streamer


def zero_memory(config: Config) -> dict[str, list]:
    """What a streamer remembers before the first sample: the last inputs of each convolution, and recurrent states."""
    pasts, width, channels = [], config.mels, 1
    for filters in config.filters:
        pasts.append(np.zeros((1, KERNEL - 1, width, channels), np.float32))
        width, channels = (width + 1) // 2, filters
    one = np.zeros((1, config.recurrent.units), np.float32)
    return {"pasts": pasts, "states": [[one] * rnn.STATES_PER_LAYER[config.recurrent.cell]] * config.recurrent.num_layers}


def _log_mel(config: Config, center: bool = True) -> keras.layers.Layer:
    return LogMelSpectrogram(
        config.sample_rate,
        config.window_length,
        config.hop_length,
        config.mels,
        highest_frequency=config.sample_rate / 2,
        top_db=config.top_db,
        center=center,
        name="log_mel",
    )


def _augmented(config: Config, mel):
    """In training; else as it is."""
    longest = round(MASK_SECONDS * config.sample_rate / config.hop_length)
    seed = config.training.seed
    return SpectrogramAugmentation(config.masks, longest, config.augmentation, seed, name="augmentation")(mel)


def _mfcc(config: Config, mel):
    return CepstralCoefficients(config.mels, name="mfcc")(mel)


def _layers(config: Config, mfcc, mean, variance, pasts=None, states=None):
    """From coefficients to the recurrent stack's outputs `(batch, frames, features)`, pasts and states."""
    x = layers.Normalization(mean=mean, variance=variance, name="normalization")(mfcc)
    x, pasts = _convolutions(config, ops.expand_dims(x, -1), pasts)
    x, states = rnn.recurrent_stack(x, **vars(config.recurrent), return_state=True, initial_state=states)
    return x, pasts, states


def _convolutions(config: Config, x, pasts=None):
    """From `(batch, frames, coefficients, channels)` to `(batch, fewer frames, features)`, and the inputs to remember.

    They look at the past alone (what is before the clip is 0), so that a stream can be computed frame by frame.
    """
    new_pasts = []
    for number, filters in enumerate(config.filters, start=1):
        before = [[0, 0], [KERNEL - 1, 0], [0, 0], [0, 0]]
        x = ops.concatenate([pasts[number - 1], x], axis=1) if pasts else ops.pad(x, before)
        new_pasts.append(x[:, 1 - KERNEL :])
        x = ops.pad(x, [[0, 0], [0, 0], [KERNEL // 2, KERNEL // 2], [0, 0]])
        strides = (2 if number <= HALVINGS else 1, 2)
        x = layers.Conv2D(filters, KERNEL, strides, use_bias=False, name=f"convolution_{number}")(x)
        x = layers.BatchNormalization(name=f"convolution_{number}_batch_normalization")(x)
        x = layers.ReLU(name=f"convolution_{number}_relu")(x)
    return layers.Reshape((-1, x.shape[2] * x.shape[3]), name="features_of_frames")(x), new_pasts


def _logits(config: Config, num_classes: int, x):
    x = layers.Dropout(config.recurrent.dropout, name="head_dropout")(x)
    return ops.cast(layers.Dense(num_classes, name="logits")(x), "float32")
