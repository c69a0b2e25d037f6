"""MFCC in the model against librosa; augmentation against closed forms."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from apps.speech import audio, augment
from apps.speech.config import DEFAULT
from apps.speech.data import Clips
from apps.speech.features import CepstralCoefficients, ConvolvedLogMelSpectrogram, LogMelSpectrogram, mel_filters
from apps.speech.model import build_features
from shared.settings import Training

RATE = 16_000


def waveforms(samples):
    """A gliding tone, noise at two levels, clipped noise, a click, and silence."""
    rng, time = np.random.default_rng(0), np.arange(samples) / RATE
    click = np.zeros(samples)
    click[samples // 3] = 1.0
    noise = rng.normal(size=samples)
    tone = np.sin(2 * np.pi * (300 + 900 * time) * time)
    # What lies 140 dB below a pure tone is the rounding of 32-bit numbers, in librosa and here: a little hiss drowns it.
    rows = [0.5 * tone + 1e-4 * noise, 0.1 * noise, 1e-4 * noise, np.clip(5 * noise, -1, 1), click]
    return np.stack([*rows, np.zeros(samples)]).astype("float32")


SETTINGS = [
    {},
    {"window_length": 480, "hop_length": 200, "mels": 64},
    {"window_length": 512, "hop_length": 256, "mels": 80, "lowest_frequency": 0.0, "top_db": None},
    {"window_length": 300, "mels": 26, "highest_frequency": 6_000.0, "top_db": 40.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("samples", [16_000, 9_999, 600])
@pytest.mark.parametrize("kind", [LogMelSpectrogram, ConvolvedLogMelSpectrogram])
def test_mfcc_equals_librosa_clip_by_clip(settings, samples, kind):
    layer = kind(**settings)
    found = np.asarray(CepstralCoefficients(20)(layer(waveforms(samples))))
    for row, waveform in zip(found, waveforms(samples), strict=True):
        power = librosa.feature.melspectrogram(
            y=waveform,
            sr=RATE,
            n_fft=layer.fft_length,
            win_length=layer.window_length,
            hop_length=layer.hop_length,
            n_mels=layer.mels,
            fmin=layer.lowest_frequency,
            fmax=layer.highest_frequency,
        )
        expected = librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=layer.top_db), n_mfcc=20).T
        assert row.shape == expected.shape == (layer.compute_output_shape((1, samples))[1], 20)
        assert np.abs(row - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_convolution_gives_the_power_of_numpys_fft(settings):
    layer, rows = ConvolvedLogMelSpectrogram(**settings), waveforms(5_000)
    window = np.zeros(layer.fft_length)
    before = (layer.fft_length - layer.window_length) // 2
    window[before : before + layer.window_length] = signal.get_window("hann", layer.window_length)
    frames = np.lib.stride_tricks.sliding_window_view(rows.astype("float64"), layer.fft_length, axis=1)[:, :: layer.hop_length]
    expected = np.abs(np.fft.rfft(frames * window)) ** 2
    found = np.asarray(layer.power(rows))
    assert found.shape == expected.shape
    assert (np.abs(found - expected).max(-1) <= 3e-6 * expected.max(-1)).all()  # in each frame by itself


def test_default_call_equals_librosa_with_its_own_names():
    waveform = waveforms(16_000)[0]
    expected = librosa.feature.mfcc(
        y=waveform, sr=RATE, n_mfcc=40, n_fft=512, win_length=480, hop_length=160, n_mels=40, fmin=20, fmax=8_000
    ).T
    found = np.asarray(build_features(DEFAULT)(waveform[None])["mfcc"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("mels", [26, 40, 80])
def test_mel_filters_equal_librosas(mels):
    expected = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=mels, fmin=20, fmax=7_600)
    np.testing.assert_allclose(mel_filters(RATE, 512, mels, 20, 7_600), expected.T, atol=1e-6)


def test_a_layer_comes_back_from_its_config():
    for layer in (
        LogMelSpectrogram(window_length=480, top_db=None, center=False),
        CepstralCoefficients(13),
        augment.SpectrogramAugmentation(2, 15, 0.5, seed=3),
    ):
        copy = type(layer).from_config(layer.get_config())
        assert copy.get_config() == layer.get_config()


def test_reading_at_other_times_is_linear_interpolation():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 50)).astype("float32")
    speed, shift = np.array([[1.0], [1.2], [0.7]], "float32"), np.array([[3.0], [-2.5], [0.0]], "float32")
    found = np.asarray(augment.read_at(tf.constant(rows), tf.constant(speed), tf.constant(shift)))
    for row, s, d, result in zip(rows, speed, shift, found, strict=True):
        position = 24.5 + (np.arange(50) - 24.5) * s + d
        expected = np.interp(position, np.arange(-1, 51), [0, *row, 0], left=0, right=0)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_faster_reading_raises_the_pitch():
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype("float32")[None]
    faster = np.asarray(augment.read_at(tf.constant(tone), tf.constant([[1.1]]), tf.constant([[0.0]])))[0]
    assert np.argmax(np.abs(np.fft.rfft(faster))) == pytest.approx(484, abs=1)


def test_background_noise_has_the_asked_signal_to_noise_ratio(monkeypatch):
    for name in ("SPEED_CHANGE", "TIME_SHIFT", "GAIN_CHANGE"):
        monkeypatch.setattr(augment, name, 0.0)
    monkeypatch.setattr(augment, "NOISE_FRACTION", 1.0)
    monkeypatch.setattr(augment, "SNR", (6.0, 6.0))
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype("float32")[None]
    noise = audio.make_noise(RATE * 5, RATE, seed=0)
    mixed = np.asarray(augment.augment(tf.constant(tone), tf.constant(noise), RATE, 1.0, tf.constant([0, 1])))
    added = mixed - tone
    assert 20 * np.log10(tone.std() / np.sqrt(np.mean(added**2))) == pytest.approx(6, abs=0.05)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_augmentation_does_to_a_waveform_grows_with_its_strength(strength):
    """Told from 500 tones: how many get noise, and the range of pitch and gain of the others."""
    tone = 0.1 * np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE).astype("float32")
    noise = np.random.default_rng(0).normal(size=3 * RATE).astype("float32")
    changed = augment.augment(tf.constant(np.tile(tone, (500, 1))), tf.constant(noise), RATE, strength, tf.constant([0, 1]))
    middles = np.asarray(changed)[:, 4_000:12_000]
    spectra = np.abs(np.fft.rfft(middles * np.hanning(8_000)))
    noisy = np.median(spectra, axis=1) > 1e-4 * spectra.max(axis=1)  # noise 30 dB below the tone: 5e-4
    assert noisy.mean() == pytest.approx(strength * augment.NOISE_FRACTION, abs=0.07)
    hertz = 2 * spectra.argmax(axis=1)
    assert abs(hertz - 1_000).max() == pytest.approx(strength * 150, abs=5)
    decibels = 20 * np.log10(middles[~noisy].std(axis=1) / tone.std())
    assert np.abs(decibels).max() == pytest.approx(strength * 10, abs=0.3)


def test_augmentation_0_changes_nothing():
    sound, noise = tf.constant(waveforms(RATE)), tf.constant(audio.make_noise(RATE * 3, RATE, seed=0))
    np.testing.assert_allclose(augment.augment(sound, noise, RATE, 0.0, tf.constant([0, 1])), sound, atol=1e-6)
    features = build_features(replace(DEFAULT, augmentation=0.0))
    np.testing.assert_array_equal(features(sound, training=True)["mel"], features(sound)["mel"])
    assert np.any(build_features(DEFAULT)(sound, training=True)["mel"] != features(sound)["mel"])


def test_masks_hide_stretches_with_the_mean_in_training_alone(monkeypatch):
    monkeypatch.setattr(augment, "MEL_WARP", 0.0)
    monkeypatch.setattr(augment, "MASK_BANDS", 0.5)  # of 20 bands, at half the strength: 5
    layer = augment.SpectrogramAugmentation(masks=1, longest=20, strength=0.5, seed=0)
    values = np.random.default_rng(0).normal(size=(64, 50, 20)).astype("float32")
    np.testing.assert_array_equal(layer(values), values)
    masked = np.asarray(layer(values, training=True))
    hidden = np.abs(masked - values.mean(axis=(1, 2), keepdims=True)) < 1e-6
    kept = np.isclose(masked, values, atol=1e-5)
    assert (hidden | kept).all()
    frames, bands = hidden.all(axis=2).sum(axis=1), hidden.all(axis=1).sum(axis=1)
    assert frames.max() <= 10
    assert bands.max() <= 5
    assert 3 < frames.mean() < 7  # uniform from 0 to 10
    assert 1.5 < bands.mean() < 3.5


def test_mel_warp_stretches_the_spectrum_linearly():
    layer = augment.SpectrogramAugmentation(masks=0, longest=0, strength=2.0, seed=0)  # twice a warp of 0.1
    ramp = np.tile(np.arange(20, dtype="float32"), (200, 3, 1))
    warped = np.asarray(layer(ramp, training=True))
    factors = warped[:, 0, 10] / 10
    assert 0.8 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2
    expected = np.minimum(np.arange(20) * factors[:, None], 19)
    np.testing.assert_allclose(warped[:, 0], expected, atol=1e-3)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_equals_librosas(rate):
    for samples in (1, 999, 12_345):
        waveform = np.random.default_rng(0).uniform(-1, 1, samples).astype("float32")
        expected = librosa.resample(waveform, orig_sr=rate, target_sr=RATE)
        np.testing.assert_array_equal(audio.resample(waveform, rate, RATE), expected)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_generated_noise_is_heard(rate):
    """Nothing below 20 Hz, by SciPy's periodogram; before, more than half of its energy was below 1 Hz."""
    frequencies, power = signal.periodogram(audio.make_noise(60 * rate, rate, seed=0).astype("float64"), rate)
    assert power[frequencies < 20].sum() < 1e-6 * power.sum()
    assert power[frequencies > 200].sum() > 0.2 * power.sum()


def test_joined_noise_does_not_jump_and_keeps_its_power():
    constant = [np.full(1_000, value) for value in (0.5, -0.5, 0.5)]
    joined = audio.join(constant, 100)
    assert len(joined) == 2_800
    assert np.abs(np.diff(joined)).max() < 0.02  # it was 1 at each join
    rng = np.random.default_rng(0)
    fades = np.stack([audio.join(list(rng.normal(size=(2, 300))), 100)[200:300] for _ in range(2_000)])
    np.testing.assert_allclose(fades.var(axis=0), 1, atol=0.15)


def clips_of_noise(count=40):
    rng = np.random.default_rng(0)
    names = ("go", "stop", "_unknown_", "_silence_")
    rows = audio.to_int16(rng.normal(size=(count, RATE)) * 0.1)
    return Clips(rows, np.arange(count) % 4, names, [str(row) for row in range(count)])


def test_the_end_of_another_clip_stands_before_each():
    clips = np.random.default_rng(0).normal(size=(5, 100)).astype("float32")
    lengths = set()
    for step in range(40):
        found = np.asarray(augment.with_lead(tf.constant(clips), 30, tf.constant([0, step])))
        lead = found.shape[1] - 100
        lengths.add(lead)
        np.testing.assert_array_equal(found[:, lead:], clips)
        np.testing.assert_array_equal(found[:, :lead], np.roll(clips, 1, axis=0)[:, 100 - lead :])
    assert min(lengths) < 5
    assert 25 < max(lengths) <= 30


def test_an_epoch_depends_on_its_number_alone_and_has_every_clip_once():
    clips, noise = clips_of_noise(), audio.make_noise(RATE * 3, RATE, seed=0)
    config, steps = replace(DEFAULT, training=Training(batch_size=16)), 3
    batches = augment.training_batches(clips, noise, config)
    both = [(np.asarray(x), np.asarray(y)) for x, y in batches.take(2 * steps)]
    resumed = [(np.asarray(x), np.asarray(y)) for x, y in augment.training_batches(clips, noise, config, 1).take(steps)]
    for (x, y), (again_x, again_y) in zip(both[steps:], resumed, strict=True):
        np.testing.assert_array_equal(x, again_x)
        np.testing.assert_array_equal(y, again_y)
    assert np.concatenate([y for _, y in both[:steps]]).sum(axis=0).tolist() == [10, 10, 10, 10]
    assert not np.array_equal(both[0][0], both[steps][0])
    plain = replace(config, augmentation=0.0)
    seen = np.concatenate([np.asarray(x) for x, _ in augment.training_batches(clips, noise, plain).take(steps)])
    np.testing.assert_allclose(np.sort(seen[:, 0]), np.sort(audio.to_float(clips.waveforms)[:, 0]), atol=1e-6)
