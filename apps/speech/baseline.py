"""The cheap baseline: a logistic regression on how each cepstral coefficient is spread over a clip. It knows no order."""

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from apps.speech import audio
from apps.speech.data import Clips


def statistics(features: keras.Model, clips: Clips) -> np.ndarray:
    """Mean, standard deviation, least and greatest of each coefficient: `(n, 4 * mels)`."""
    rows = []
    for start in range(0, len(clips.labels), 256):
        mfcc = np.asarray(features(audio.to_float(clips.waveforms[start : start + 256]))["mfcc"])
        rows.append(np.concatenate([mfcc.mean(1), mfcc.std(1), mfcc.min(1), mfcc.max(1)], axis=1))
    return np.concatenate(rows)


def fit_baseline(features: keras.Model, train: Clips, validation: Clips) -> Pipeline:
    """Fit on `train`; the strength of the regularisation is chosen on `validation`. `predict_proba` takes `statistics`."""
    inputs, held_out = statistics(features, train), statistics(features, validation)
    candidates = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(inputs, train.labels)
        for strength in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    ]
    return max(candidates, key=lambda model: model.score(held_out, validation.labels))
