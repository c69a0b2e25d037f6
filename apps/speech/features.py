"""Mel-frequency cepstral coefficients (MFCC) as layers, so that a saved model takes a raw waveform.

`LogMelSpectrogram` and then `CepstralCoefficients` give what `librosa.feature.mfcc` gives (Davis and Mermelstein, 1980). They
are two layers because what is masked in training is the mel spectrogram between them.

    waveform        -> power of each frequency -> mel bands -> decibels     -> cosine transform
    (batch, samples)                                    (batch, frames, mels)  (batch, frames, n_mfcc)
"""

import keras
import numpy as np
from keras import ops

from apps.speech import audio

PACKAGE = "apps.speech"


@keras.saving.register_keras_serializable(PACKAGE)
class LogMelSpectrogram(keras.layers.Layer):
    """Waveforms `(batch, samples)` to decibels `(batch, frames, mels)`, as librosa's `melspectrogram` and `power_to_db`.

    Args:
        sample_rate: samples per second.
        window_length: samples that one frame looks at, under a Hann window.
        hop_length: samples from one frame to the next.
        mels: bands, on Slaney's mel scale, each of area 1.
        lowest_frequency, highest_frequency: where the bands begin and end, in Hz.
        top_db: nothing lies further below a clip's loudest value than this many decibels; None leaves such a floor
            out. It has to be None where a recording is read piece by piece, as its loudest value may be still to come.
        center: frame t is centred on sample `t * hop_length`, with silence before and after the clip, so that there are
            `1 + samples // hop_length` frames. False: frame t begins there, and only whole frames count.
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        window_length: int = 400,
        hop_length: int = 160,
        mels: int = 40,
        lowest_frequency: float = 20.0,
        highest_frequency: float = 8_000.0,
        top_db: float | None = 80.0,
        center: bool = True,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.sample_rate = sample_rate
        self.window_length = window_length
        self.hop_length = hop_length
        self.mels = mels
        self.lowest_frequency = lowest_frequency
        self.highest_frequency = highest_frequency
        self.top_db = top_db
        self.center = center
        self.fft_length = audio.fft_length(window_length)
        self.filters = mel_filters(sample_rate, self.fft_length, mels, lowest_frequency, highest_frequency)

    def call(self, waveform):
        if self.center:
            half = self.fft_length // 2
            waveform = ops.pad(waveform, [[0, 0], [half, half]])
        power = ops.matmul(self.power(waveform), self.filters)
        decibels = 10 / np.log(10) * ops.log(ops.maximum(power, 1e-10))
        if self.top_db is not None:
            decibels = ops.maximum(decibels, ops.max(decibels, axis=(1, 2), keepdims=True) - self.top_db)
        return decibels

    def power(self, waveform):
        """The power of each frequency `(batch, frames, fft_length // 2 + 1)` in each whole frame."""
        real, imaginary = ops.stft(waveform, self.window_length, self.hop_length, self.fft_length, "hann", center=False)
        return ops.square(real) + ops.square(imaginary)

    def compute_output_shape(self, shape):
        samples = shape[1]
        if samples is None:
            return shape[0], None, self.mels
        frames = 1 + samples // self.hop_length if self.center else 1 + (samples - self.fft_length) // self.hop_length
        return shape[0], frames, self.mels

    def get_config(self):
        names = (
            "sample_rate",
            "window_length",
            "hop_length",
            "mels",
            "lowest_frequency",
            "highest_frequency",
            "top_db",
            "center",
        )
        return super().get_config() | {name: getattr(self, name) for name in names}


class ConvolvedLogMelSpectrogram(LogMelSpectrogram):
    """The same without the FFT, which does not convert to ONNX: a convolution with cosines and sines under the window."""

    def power(self, waveform):
        before = (self.fft_length - self.window_length) // 2
        window = np.zeros(self.fft_length)
        window[before : before + self.window_length] = np.hanning(self.window_length + 1)[:-1]  # periodic
        turns = np.outer(np.arange(self.fft_length), np.arange(self.fft_length // 2 + 1)) / self.fft_length
        waves = np.concatenate([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1)
        kernel = (window[:, None] * waves).astype("float32")[:, None]
        parts = ops.conv(ops.expand_dims(waveform, -1), kernel, strides=self.hop_length, padding="valid")
        real, imaginary = ops.split(parts, 2, axis=-1)
        return ops.square(real) + ops.square(imaginary)


@keras.saving.register_keras_serializable(PACKAGE)
class CepstralCoefficients(keras.layers.Layer):
    """Decibels `(batch, frames, mels)` to the first `n_mfcc` terms of their orthonormal discrete cosine transform (type 2).

    The lowest terms hold the shape of the spectrum, thus the vowel; the pitch of the voice lies in the highest.
    """

    def __init__(self, n_mfcc: int = 40, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.n_mfcc = n_mfcc

    def build(self, shape):
        mels = shape[-1]
        angles = np.pi / mels * np.outer(np.arange(mels) + 0.5, np.arange(self.n_mfcc))
        self.basis = (np.cos(angles) * np.sqrt(2 / mels)).astype("float32")
        self.basis[:, 0] /= np.sqrt(2)

    def call(self, decibels):
        return ops.matmul(decibels, self.basis)

    def compute_output_shape(self, shape):
        return *shape[:-1], self.n_mfcc

    def get_config(self):
        return super().get_config() | {"n_mfcc": self.n_mfcc}


def mel_filters(sample_rate: int, fft_length: int, mels: int, lowest: float, highest: float) -> np.ndarray:
    """Weights `(frequencies, mels)` of triangular bands, equally wide on Slaney's mel scale, each with area 1."""
    frequencies = np.linspace(0, sample_rate / 2, fft_length // 2 + 1)
    edges = _mel_to_hertz(np.linspace(_hertz_to_mel(lowest), _hertz_to_mel(highest), mels + 2))
    rising = (frequencies[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies[:, None]) / np.diff(edges)[1:]
    return (np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])).astype("float32")


# Slaney's Auditory Toolbox (1998): linear up to 1000 Hz (15 mel), then logarithmic, 27 mel for a factor of 6.4.
def _hertz_to_mel(hertz):
    return np.where(hertz < 1000, 0.015 * hertz, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4))


def _mel_to_hertz(mel):
    return np.where(mel < 15, mel / 0.015, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))
