"""What is watched while the network trains, and drawn of the epoch that is kept: its state and gates on an example."""

from pathlib import Path

import numpy as np

from apps.speech import audio
from apps.speech.config import Config
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [_states(config, experiment, folder)]


def _states(config: Config, experiment, folder: Path) -> States:
    """Of some validation clips, evenly from all; seconds along the axis."""
    clips = experiment.data.validation.waveforms
    chosen = audio.to_float(clips[:: max(1, len(clips) // ROWS)][:ROWS])
    frames = experiment.features(chosen[:1])["mfcc"].shape[1]
    seconds = np.arange(0, frames, config.frames_per_output) * config.hop_length / config.sample_rate
    return States(chosen, [f"{second:.2f}" for second in seconds], folder)
