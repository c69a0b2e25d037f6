"""What a run shows of itself: scores, plots, mistakes to listen to, report.md, TensorBoard."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from apps.speech import audio
from apps.speech.augment import augment
from apps.speech.config import SILENCE, UNKNOWN, Config
from apps.speech.data import Clips, Speech
from shared import classification, report
from shared.plots import plot_history, plt, save_figure
from shared.tensorboard import hparams_to_tensorboard, plots_of_recurrence, plots_to_tensorboard

MISTAKES_SHOWN = 12
MISTAKES_PLAYED = 6  # in TensorBoard
SPEAKERS_SHOWN = 20
CLIPS_DRAWN = 3


def write(
    folder: Path, metrics: dict, test: Clips, probabilities: dict[str, np.ndarray], draw_mistakes: Callable
) -> pd.DataFrame:
    """Plots (PNG), mistakes.csv, words.csv, speakers.csv and report.md.

    Args:
        folder: the run folder.
        metrics: what goes into metrics.json.
        test: the test clips.
        probabilities: `(n, classes)` on them, of "network" and "baseline".
        draw_mistakes: from a table of mistakes to `plots/mistakes.png`, without any to none.

    Returns:
        All mistakes, the most confident first, with the number of their row.
    """
    on = f"{metrics['app']} on {metrics['dataset']}"  # a sample's plot cannot be taken for Speech Commands'
    classification.plot_all(folder / "plots", test.labels, probabilities, test.class_names, f"{on} (test)")
    plot_false_alarms(folder / "plots" / "false_alarms.png", test, probabilities, f"{on} (test)")
    plot_detections(folder / "plots" / "detections.png", metrics["stream"], f"{on} (test)")
    curves = [["loss", "val_loss"], ["accuracy", "val_accuracy"], ["gradient_norm"]]
    plot_history(folder / "plots" / "training.png", pd.read_csv(folder / "history.csv"), curves, on)
    words = classification.per_class(test.labels, probabilities["network"], test.class_names)
    mistakes, speakers = (table(test, probabilities["network"]) for table in (table_of_mistakes, table_of_speakers))
    words.to_csv(folder / "words.csv", index_label="word")
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    if len(speakers):
        speakers.to_csv(folder / "speakers.csv", index_label="speaker")
    shown = mistakes[:MISTAKES_SHOWN]
    draw_mistakes(mistakes)
    sections = [
        *(f"**Warning:** {warning}\n" for warning in metrics["warnings"]),
        *report.markdown_table(words, "word"),
        "",
        *_lines_about_speakers(speakers),
        *_lines_about_stream(metrics["stream"]),
        *report.images("training", "detections", "false_alarms", *classification.PLOTS, "answer", "augmentation"),
        *report.images(*plots_of_recurrence(folder)),
        "",
        f"## Most confident mistakes: {len(shown)} of {len(mistakes)}, all of them in mistakes.csv",
        "",
        *(f"- **{row.label}**, predicted {row.predicted} {row.probability:.3f}: {row.source}" for row in shown.itertuples()),
        "",
        *(report.images("mistakes") if len(mistakes) else []),
    ]
    report.write_markdown(folder, metrics, sections)
    hparams_to_tensorboard(folder, metrics)
    return mistakes


def table_of_speakers(clips: Clips, probabilities: np.ndarray) -> pd.DataFrame:
    """Clips and accuracy of each speaker that is known, the lowest accuracy first."""
    right = probabilities.argmax(axis=1) == clips.labels
    rows = pd.DataFrame({"speaker": clips.speakers or [""] * len(right), "right": right})
    known = rows[rows["speaker"] != ""].groupby("speaker")["right"]
    return pd.DataFrame({"clips": known.size(), "accuracy": known.mean()}).sort_values("accuracy", kind="stable")


def _lines_about_speakers(speakers: pd.DataFrame) -> list[str]:
    if speakers.empty:
        return []
    what = f"{min(len(speakers), SPEAKERS_SHOWN)} of {len(speakers)} speakers, the lowest accuracy first (speakers.csv):"
    return [what, "", *report.markdown_table(speakers[:SPEAKERS_SHOWN], "speaker"), ""]


def table_of_mistakes(clips: Clips, probabilities: np.ndarray) -> pd.DataFrame:
    """All clips that the network got wrong, those with the highest probability first, with the number of their row."""
    table = classification.table_of_mistakes(clips.labels, probabilities, clips.class_names)
    table = table.assign(source=[clips.sources[row] for row in table.index], row=table.index)
    return table.reset_index(drop=True)


def false_alarm_rates(clips: Clips, probabilities: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What happens where a word counts as detected if its probability reaches a threshold.

    Returns:
        For each threshold the fraction of the clips without a command (_unknown_, _silence_) in which one is detected (false
        accepts), and the fraction of the commands that are not detected, or are taken for another (false rejects).
    """
    commands = [row for row, name in enumerate(clips.class_names) if name not in (UNKNOWN, SILENCE)]
    detected, certainty = np.array(commands)[probabilities[:, commands].argmax(axis=1)], probabilities[:, commands].max(axis=1)
    is_command = np.isin(clips.labels, commands)
    accepted = certainty[:, None] >= thresholds
    false_accepts = accepted[~is_command].mean(axis=0) if not is_command.all() else np.zeros(len(thresholds))
    return false_accepts, 1 - (accepted & (detected == clips.labels)[:, None])[is_command].mean(axis=0)


def plot_false_alarms(file: Path, clips: Clips, candidates: dict[str, np.ndarray], title: str) -> None:
    """False accepts and false rejects over the threshold."""
    figure, axes = plt.subplots(figsize=(6, 4.5))
    thresholds = np.linspace(0, 1, 201)
    for number, (name, probabilities) in enumerate(candidates.items()):
        accepts, rejects = false_alarm_rates(clips, probabilities, thresholds)
        axes.plot(thresholds, accepts, f"C{number}-", label=f"{name}: false accepts")
        axes.plot(thresholds, rejects, f"C{number}--", label=f"{name}: false rejects")
    axes.set(xlabel="threshold on the probability", ylabel="fraction of the clips", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    save_figure(figure, file, title)


def _number_of(name: str, clips: Clips) -> int:
    """A class's number, -1 where there is none of that name."""
    return clips.class_names.index(name) if name in clips.class_names else -1


def show_augmentation(folder: Path, config: Config, features: keras.Model, speech: Speech) -> None:
    """A few clips as they are and as training may see them: `plots/augmentation.png` and, to listen to, TensorBoard."""
    clips = speech.train
    spoken = np.flatnonzero(clips.labels != _number_of(SILENCE, clips))
    rows = spoken[:: max(1, len(spoken) // CLIPS_DRAWN)][:CLIPS_DRAWN]
    before = audio.to_float(clips.waveforms[rows])
    seed = tf.constant([config.training.seed, 0])
    after = augment(tf.constant(before), tf.constant(speech.noise), config.sample_rate, config.augmentation, seed).numpy()
    figure, axes = plt.subplots(2 * len(rows), 3, figsize=(12, 3.2 * len(rows)))
    sounds = {}
    for part, waveforms in enumerate((before, after)):
        drawn = {name: np.asarray(value) for name, value in features(waveforms, training=bool(part)).items()}
        for number, row in enumerate(rows):
            name = f"{clips.class_names[clips.labels[row]]}, {'augmented' if part else 'as it is'}"
            sounds[f"clips/{number + 1}: {name}"] = waveforms[number]
            axis = axes[2 * number + part]
            axis[0].plot(np.arange(config.samples) / config.sample_rate, waveforms[number], linewidth=0.5)
            axis[0].set(ylim=(-1, 1))
            axis[0].text(0.01, 0.97, name, transform=axis[0].transAxes, verticalalignment="top")
            axis[1].imshow(drawn["mel"][number].T, origin="lower", aspect="auto")
            axis[2].imshow(drawn["mfcc"][number, :, 1:].T, origin="lower", aspect="auto")
    for axis, name in zip(
        axes[0], ("waveform (seconds)", "mel spectrogram (frames)", "MFCC without the first (frames)"), strict=True
    ):
        axis.set_title(name)
    save_figure(figure, folder / "plots" / "augmentation.png", "Before and after augmentation")
    _sounds_to_tensorboard(folder, config, sounds)


def table_of_modes(found: dict[str, dict]) -> pd.DataFrame:
    """What is detected in a long recording, a row for each mode, see `apps.speech.tracks.evaluate`."""
    rows = {
        mode: {
            "threshold": one["threshold"],
            "commands detected": f"{one['hits']} of {one['commands']}",
            "false accepts per hour": _with_interval(one),
            "at 80 % detected": _rounded(one["false_accepts_per_hour_at_80_percent"]),
            "without any command": _with_interval(one["command_free"]) if one["command_free"] else "-",
            "times real time": round(one["times_real_time"]),
        }
        for mode, one in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _lines_about_stream(found: dict[str, dict]) -> list[str]:
    one = next(iter(found.values()))
    free = one["command_free"]
    return [
        "",
        f"## Commands in {one['minutes']:.1f} minutes made of the test clips with gaps and noise between them",
        "",
        *report.markdown_table(table_of_modes(found), "mode"),
        "",
        "The threshold was best (F1) on validation. False accepts: with their 95 % interval, on the recording itself"
        + (f" and on {free['minutes']:.1f} minutes without a command (clips of _unknown_ and _silence_)." if free else "."),
        "",
    ]


def _with_interval(found: dict) -> str:
    rate, low, high = (found[f"false_accepts_per_hour{end}"] for end in ("", "_low", "_high"))
    return f"{rate:.0f} ({low:.0f} to {high:.0f})"


def _rounded(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.0f}"


def plot_detections(file: Path, found: dict[str, dict], title: str) -> None:
    """The fraction of the commands that is detected, over false accepts per hour, for all thresholds; a dot: the chosen one."""
    figure, axes = plt.subplots(figsize=(6, 4.5))
    for number, (mode, one) in enumerate(found.items()):
        curve = pd.DataFrame(one["curve"])
        axes.plot(curve["per_hour"], curve["detected"], f"C{number}-", label=mode)
        chosen = curve[curve["threshold"] == one["threshold"]]
        axes.plot(chosen["per_hour"], chosen["detected"], f"C{number}o")
    axes.set_xscale("symlog", linthresh=10)
    axes.set(xlabel="false accepts per hour", ylabel="fraction of the commands detected", xlim=(0, None), ylim=(0, 1))
    axes.legend()
    save_figure(figure, file, title)


def write_tensorboard(folder: Path, config: Config, mistakes: pd.DataFrame, test: Clips, features: keras.Model) -> None:
    """Plots, and the worst mistakes to see (their mel spectrogram) and to listen to, into the run's TensorBoard logs."""
    plots_to_tensorboard(folder)
    mistakes = mistakes[:MISTAKES_PLAYED]
    if mistakes.empty:
        return
    waveforms = audio.to_float(test.waveforms[mistakes["row"]])
    names = [f"mistakes/{m.Index + 1}: {m.label} taken for {m.predicted} ({m.source})" for m in mistakes.itertuples()]
    _sounds_to_tensorboard(folder, config, dict(zip(names, waveforms, strict=True)))
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default(step=0):
        for name, mel in zip(names, features.predict_on_batch(waveforms)["mel"], strict=True):
            tf.summary.image(f"{name}, mel spectrogram", _drawn_mel(config, mel, name.removeprefix("mistakes/")))


def _sounds_to_tensorboard(folder: Path, config: Config, sounds: dict[str, np.ndarray]) -> None:
    """Waveforms by name, into the run's TensorBoard logs (AUDIO tab)."""
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default(step=0):
        for name, waveform in sounds.items():
            tf.summary.audio(name, waveform[None, :, None], config.sample_rate)


def _drawn_mel(config: Config, mel: np.ndarray, title: str) -> np.ndarray:
    """Decibels `(frames, mels)` as TensorBoard's images are, `(1, height, width, 4)`."""
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    extent = (0, config.clip_seconds, -0.5, mel.shape[1] - 0.5)
    image = axes.imshow(mel.T, origin="lower", aspect="auto", cmap="magma", extent=extent)
    figure.colorbar(image, label="dB")
    axes.set(xlabel="seconds", ylabel="mel band")
    axes.set_title(title, wrap=True)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[None].copy()
    plt.close(figure)
    return pixels
