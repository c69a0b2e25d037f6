"""Look at recordings before training on them: make speech-check."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from apps.speech import audio, data
from apps.speech.config import SILENCE, Config
from apps.speech.train import prepare
from shared.check import Findings, repeated, tell
from shared.plots import plt

MIN_OF_A_WORD = 10  # training clips
SILENT = 1e-3  # greatest sample of a clip, 1 being full scale: -60 dB
SPEAKERS_SHOWN = 40
CLIPPED = 0.01  # fraction of a clip's samples at full scale


def check(config: Config, speech: data.Speech) -> None:
    """Print what the recordings hold, what speaks against training on them and, if nothing does, how long training takes."""
    tell(look(config, speech), config, lambda: {"training": (prepare(config, speech), config.training.epochs)})


def look(config: Config, speech: data.Speech) -> Findings:
    """Count, measure and compare the clips that `load` makes of the recordings."""
    parts = {"train": speech.train, "validation": speech.validation, "test": speech.test}
    names = speech.train.class_names
    counts = pd.DataFrame({part: np.bincount(clips.labels, minlength=len(names)) for part, clips in parts.items()}, [*names])
    peaks, clipped = ({part: measure(clips.waveforms) for part, clips in parts.items()} for measure in (peaks_of, are_clipped))
    words = {part: np.array([name != SILENCE for name in names])[clips.labels] for part, clips in parts.items()}
    contents = {part: _digests(clips.waveforms, words[part]) for part, clips in parts.items()}
    in_train = set(contents["train"])
    about = pd.DataFrame(
        {
            part: {
                "clips": len(clips.labels),
                "silent though not _silence_": int(np.sum(words[part] & (peaks[part] < SILENT))),
                "clipped": int(np.sum(clipped[part])),
                "loudness, median dB": float(20 * np.log10(max(np.median(peaks[part]), SILENT))),
                "of words, the same twice in it": repeated(contents[part]),
                "of words, also in train": 0 if part == "train" else sum(content in in_train for content in contents[part]),
            }
            for part, clips in parts.items()
        },
        dtype=object,
    )
    tables, remarks = {"clips of each word": counts, "clips": about}, [*speech.warnings]
    speakers = table_of_speakers(parts)
    if len(speakers):
        tables[f"clips of each speaker, {min(len(speakers), SPEAKERS_SHOWN)} of {len(speakers)}"] = speakers[:SPEAKERS_SHOWN]
    if config.data:
        tables["files"], longer = _table_of_files(Path(config.data), config)
        if longer:
            remarks.append(
                f"{longer} recordings are longer than --clip-seconds {config.clip_seconds}: only their loudest part is used."
            )
    if known := int(about.loc["of words, also in train", "test"]):
        remarks.append(f"{known} test clips also stand in train: test is easier than new recordings will be.")
    obstacles = [
        f"'{name}' has {count} training clips; {MIN_OF_A_WORD} are the fewest that say anything. Record more."
        for name, count in counts["train"].items()
        if count < MIN_OF_A_WORD
    ]
    if about.loc["silent though not _silence_", "train"] > words["train"].sum() / 2:
        obstacles.append("more than half of the words' clips are silent. Is the microphone's channel the right one?")
    if about.loc["of words, also in train", "test"] > len(speech.test.labels) / 2:
        obstacles.append("more than half of the test clips stand in train: a test would say nothing.")
    return Findings("speech", speech.name, tables, {"clips": _plot(speech.train, peaks["train"], config)}, remarks, obstacles)


def peaks_of(waveforms: np.ndarray) -> np.ndarray:
    """Greatest sample of each clip `(n,)`, 1 being full scale. (int16 has no positive number for its lowest one.)"""
    return np.array([max(-int(row.min()), int(row.max())) / 32768 for row in waveforms])


def are_clipped(waveforms: np.ndarray) -> np.ndarray:
    """Which clips `(n,)` have more samples at full scale than a word has by chance."""
    return np.array([np.mean((row >= 32767) | (row <= -32767)) > CLIPPED for row in waveforms])


def _digests(waveforms: np.ndarray, chosen: np.ndarray) -> list[bytes]:
    """A short name for the content of each chosen clip, so that the clips themselves need not be held in memory."""
    return [hashlib.blake2b(waveforms[row], digest_size=16).digest() for row in np.flatnonzero(chosen)]


def table_of_speakers(parts: dict[str, data.Clips]) -> pd.DataFrame:
    """Clips of each speaker in each part, who has most of them first; empty where nobody is known."""
    counts = {part: Counter(name for name in clips.speakers if name) for part, clips in parts.items()}
    table = pd.DataFrame(counts, columns=[*parts]).fillna(0).astype(int)
    return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index].astype(object)


def _table_of_files(folder: Path, config: Config) -> tuple[pd.DataFrame, int]:
    """Sample rates, channels and lengths as they lie on the disk; and how many are longer than a clip."""
    files = [path for path in sorted(folder.glob("[!.]*/[!.]*")) if path.suffix.lower() in audio.SUFFIXES]
    infos = [soundfile.info(path) for path in files if path.parent.name != data.BACKGROUND]
    kinds = Counter((info.samplerate, info.channels, info.format) for info in infos)
    seconds = {kind: [i.duration for i in infos if (i.samplerate, i.channels, i.format) == kind] for kind in kinds}
    table = pd.DataFrame(
        {
            f"{rate:,} Hz, {channels} channel{'s' * (channels > 1)}, {form}": {
                "files": count,
                "seconds, shortest": float(min(seconds[rate, channels, form])),
                "seconds, median": float(np.median(seconds[rate, channels, form])),
                "seconds, longest": float(max(seconds[rate, channels, form])),
            }
            for (rate, channels, form), count in kinds.most_common()
        }
    ).T.astype(object)
    table["files"] = table["files"].astype(int)
    return table, sum(round(info.duration * config.sample_rate) > config.samples for info in infos)


def _plot(train: data.Clips, peaks: np.ndarray, config: Config):
    """How loud the clips are, and what one clip of each of the first words looks like."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6))
    axes[0, 0].hist(20 * np.log10(np.maximum(peaks, SILENT)), 40)
    axes[0, 0].set(xlabel="dB of a clip's greatest sample", ylabel="training clips")
    times = np.arange(config.samples) / config.sample_rate
    for number, axis in enumerate(axes.ravel()[1:]):
        rows = np.flatnonzero(train.labels == number)
        if len(rows):
            axis.plot(times, audio.to_float(train.waveforms[rows[0]]), linewidth=0.5)
            axis.set(xlabel="seconds", title=train.class_names[number])
    return figure
