"""What a run shows of itself: scores, plots, mistakes to listen to, report.md, TensorBoard."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import precision_recall_fscore_support

from apps.speech import audio
from apps.speech.augment import augment
from apps.speech.config import Config
from apps.speech.data import SILENCE, UNKNOWN, Clips
from shared import classification, report
from shared.plots import figure_image, plot_history, plt, save_figure

ROWS = {"network": "test", "baseline": "baseline"}
MISTAKES_SHOWN = 12
SPEAKERS_SHOWN = 20
CLIPS_DRAWN = 3


def predict(model: keras.Model, clips: Clips) -> np.ndarray:
    """What a model says of clips, `(n, classes)`, in their order."""
    pieces = [clips.waveforms[start : start + 128] for start in range(0, len(clips.labels), 128)]
    return np.concatenate([model.predict_on_batch(audio.to_float(piece)) for piece in pieces])


class ConfusionMatrices(keras.callbacks.Callback):
    """Write the validation part's confusion matrix into TensorBoard after each epoch (IMAGES tab).

    Args:
        folder: of the logs.
        validation: its clips.
    """

    def __init__(self, folder: Path, validation: Clips):
        super().__init__()
        self.folder = folder
        self.validation = validation

    def on_epoch_end(self, epoch, logs=None):
        clips = self.validation
        figure = classification.draw_confusion(clips.labels, predict(self.model, clips), clips.class_names)
        with tf.summary.create_file_writer(str(self.folder)).as_default():
            tf.summary.image("confusion matrix", figure_image(figure)[None], step=epoch)


def write(folder: Path, summary: dict, test: Clips, probabilities: dict[str, np.ndarray]) -> pd.DataFrame:
    """Plots (PNG), mistakes.csv, words.csv and report.md.

    Args:
        folder: the run folder.
        summary: what goes into metrics.json.
        test: the test clips.
        probabilities: `(n, classes)` of the network as "test", of the baseline as "baseline".

    Returns:
        All mistakes, the most confident first, with the number of their row.
    """
    title = f"{summary['app']} on {summary['dataset']} (test)"  # a sample's plot can't be taken for Speech Commands'
    plots, of_network = folder / "plots", probabilities["test"]
    classification.plot_confusion(plots / "confusion_matrix.png", test.labels, of_network, test.class_names, title)
    candidates = {"network": of_network, "baseline": probabilities["baseline"]}
    classification.plot_reliability(plots / "reliability.png", test.labels, candidates, title)
    plot_false_alarms(plots / "false_alarms.png", test, candidates, title)
    curves = [["loss", "val_loss"], ["accuracy", "val_accuracy"], ["gradient_norm"]]
    history = pd.read_csv(folder / "history.csv")
    plot_history(plots / "training.png", history, curves, f"{summary['app']} on {summary['dataset']}")
    words, mistakes, speakers = (table(test, of_network) for table in (table_of_words, table_of_mistakes, table_of_speakers))
    words.to_csv(folder / "words.csv", index_label="word")
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    if len(speakers):
        speakers.to_csv(folder / "speakers.csv", index_label="speaker")
    shown = mistakes[:MISTAKES_SHOWN]
    sections = [
        *(f"**Warning:** {warning}\n" for warning in summary["warnings"]),
        *report.markdown_table(words, "word"),
        "",
        *_lines_about_speakers(speakers),
        listening(summary),
        "",
        *(
            f"![{name}](plots/{name}.png)"
            for name in ("training", "confusion_matrix", "false_alarms", "reliability", "augmentation")
        ),
        "",
        f"## Most confident mistakes: {len(shown)} of {len(mistakes)}, all of them in mistakes.csv",
        "",
        *(f"- **{row.label}**, predicted {row.predicted} {row.probability:.3f}: {row.source}" for row in shown.itertuples()),
    ]
    report.write_markdown(folder, summary, report.scores(summary, ROWS), "test", sections)
    return mistakes


def table_of_words(clips: Clips, probabilities: np.ndarray) -> pd.DataFrame:
    """Precision, recall, F1 and number of clips of each word."""
    classes = range(len(clips.class_names))
    rows = precision_recall_fscore_support(clips.labels, probabilities.argmax(axis=1), labels=classes, zero_division=0)
    return pd.DataFrame(dict(zip(("precision", "recall", "f1", "clips"), rows, strict=True)), index=clips.class_names)


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
    """All clips that the network got wrong, those with the highest probability first."""
    worst = classification.confident_mistakes(clips.labels, probabilities, len(clips.labels))
    names = np.array(clips.class_names)
    return pd.DataFrame(
        {
            "label": names[clips.labels[worst]],
            "predicted": names[probabilities[worst].argmax(axis=1)],
            "probability": probabilities[worst].max(axis=1).round(4),
            "source": [clips.sources[row] for row in worst],
            "row": worst,
        }
    )


def false_alarm_rates(clips: Clips, probabilities: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What happens where a word counts as detected if its probability reaches a threshold.

    Returns:
        For each threshold the share of the clips without a command (_unknown_, _silence_) in which one is detected (false
        accepts), and the share of the commands that are not detected, or are taken for another (false rejects).
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
    axes.set(xlabel="threshold on the probability", ylabel="share of the clips", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    save_figure(figure, file, title)


def _number_of(name: str, clips: Clips) -> int:
    """A class's number, -1 where there is none of that name."""
    return clips.class_names.index(name) if name in clips.class_names else -1


def show_augmentation(folder: Path, config: Config, features: keras.Model, clips: Clips, noise: np.ndarray) -> None:
    """A few clips as they are and as training may see them: `plots/augmentation.png` and, to listen to, TensorBoard."""
    spoken = np.flatnonzero(clips.labels != _number_of(SILENCE, clips))
    rows = spoken[:: max(1, len(spoken) // CLIPS_DRAWN)][:CLIPS_DRAWN]
    before = audio.to_float(clips.waveforms[rows])
    after = augment(tf.constant(before), tf.constant(noise), config, tf.constant([config.seed, 0])).numpy()
    figure, axes = plt.subplots(2 * len(rows), 3, figsize=(12, 3.2 * len(rows)))
    sounds = {}
    for part, waveforms in enumerate((before, after)):
        drawn = {name: np.asarray(value) for name, value in features(waveforms, training=bool(part)).items()}
        for number, row in enumerate(rows):
            name = f"{clips.class_names[clips.labels[row]]}, {'augmented' if part else 'as it is'}"
            sounds[f"clips/{number + 1}: {name}"] = waveforms[number], drawn["mfcc"][number]
            axis = axes[2 * number + part]
            axis[0].plot(np.arange(config.samples) / config.sample_rate, waveforms[number], linewidth=0.5)
            axis[0].set(ylabel=name, ylim=(-1, 1))
            axis[1].imshow(drawn["mel"][number].T, origin="lower", aspect="auto")
            axis[2].imshow(drawn["mfcc"][number, :, 1:].T, origin="lower", aspect="auto")
    for axis, name in zip(
        axes[0], ("waveform (seconds)", "mel spectrogram (frames)", "MFCC without the first (frames)"), strict=True
    ):
        axis.set_title(name)
    save_figure(figure, folder / "plots" / "augmentation.png", "Before and after augmentation")
    _sounds_to_tensorboard(folder, config, sounds)


def listening(summary: dict) -> str:
    """How a window that slides does on long recordings, in words."""
    text = (
        f"On {summary['stream_minutes']:.1f} minutes made of the test clips with gaps and noise between them, at the threshold "
        f"{summary['stream_threshold']:.2f} that was best on validation: {summary['stream_hits']} of "
        f"{summary['stream_commands']} commands detected, {_false_accepts(summary, 'stream_')}; "
        f"{summary['stream_times_real_time']:.0f} times faster than real time."
    )
    if "stream_command_free_minutes" not in summary:
        return text
    return (
        f"{text} On {summary['stream_command_free_minutes']:.1f} minutes without a command (test clips of _unknown_ and "
        f"_silence_, each once): {_false_accepts(summary, 'stream_command_free_')}."
    )


def _false_accepts(summary: dict, prefix: str) -> str:
    rate, low, high = (summary[f"{prefix}false_accepts_per_hour{end}"] for end in ("", "_low", "_high"))
    return f"{rate:.0f} false accepts per hour (95 % interval {low:.0f} to {high:.0f})"


def write_tensorboard(folder: Path, config: Config, mistakes: pd.DataFrame, test: Clips, features: keras.Model) -> None:
    """Plots, and the worst mistakes to see (MFCC) and to listen to (AUDIO tab), into the run's TensorBoard logs."""
    report.plots_to_tensorboard(folder)
    mistakes = mistakes[:MISTAKES_SHOWN]
    if mistakes.empty:
        return
    waveforms = audio.to_float(test.waveforms[mistakes["row"]])
    mfcc = features.predict_on_batch(waveforms)["mfcc"]
    names = [f"mistakes/{m.Index + 1}: {m.label} taken for {m.predicted} ({m.source})" for m in mistakes.itertuples()]
    _sounds_to_tensorboard(folder, config, dict(zip(names, zip(waveforms, mfcc, strict=True), strict=True)))


def _sounds_to_tensorboard(folder: Path, config: Config, sounds: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Waveforms and their MFCC by name, into the run's TensorBoard logs (AUDIO and IMAGES tabs)."""
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default():
        for name, (waveform, image) in sounds.items():
            tf.summary.audio(name, waveform[None, :, None], config.sample_rate, step=0)
            span = np.ptp(image) or 1.0
            tf.summary.image(name, ((image.T[::-1] - image.min()) / span)[None, :, :, None], step=0)
