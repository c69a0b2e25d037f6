"""The page of a run: a recording, its word, how it looks; and the commands in a long recording, or as they are spoken."""

import importlib.util
import itertools
from pathlib import Path

import gradio as gr
import numpy as np
import soundfile
from matplotlib.figure import Figure

from apps.speech import audio
from apps.speech.config import Config
from apps.speech.predict import BLOCK_SECONDS, LONG, Predictor
from apps.speech.serve import CommandStream
from shared.cli import UserError

EXAMPLES = ("stop", "left", "yes")
MAX_SECONDS = 60  # of a recording of one word: it is decoded as a whole
TOP_DB = 80.0  # the spectrogram shows what is so far below its loudest value, in decibels
LIVE = "A command is shown about a second after it was spoken. A busy machine loses parts of live sound; record it instead."
COLUMNS = ["seconds", "word", "probability"]


def build(predictor: Predictor) -> None:
    """Add the components."""
    words = make_examples(predictor)
    with gr.Tab("One word"):
        add_word(predictor, words)
    with gr.Tab("Stream"):
        add_stream(predictor, words)


def add_word(predictor: Predictor, words: dict[str, np.ndarray]) -> None:
    """A recording, its word and how it looks; `words` are examples, see `make_examples`."""
    config = predictor.config
    clip = gr.Audio(label=f"A word within {config.clip_seconds:g} s", type="filepath", buttons=["download"], elem_id="clip")
    button = gr.Button("Name the word", variant="primary")
    if words:
        examples = [[(config.sample_rate, word)] for word in words.values()]
        gr.Examples(examples, clip, example_labels=[*words], label="Examples: words from a synthesizer")
    with gr.Row():
        label = gr.Label(label="Word", num_top_classes=5, min_width=320, elem_id="label")
        plot = gr.Plot(show_label=False, min_width=320, elem_id="plot")

    def answer(file: str | None):
        try:
            waveform = read(file, config)
        except UserError as error:
            raise as_shown(error, file) from None
        [found] = predictor([waveform])
        return found["probabilities"], draw(audio.fit_length(waveform, config.samples), config)

    button.click(answer, clip, [label, plot], api_name=False)


def add_stream(predictor: Predictor, words: dict[str, np.ndarray]) -> None:
    """The commands in a recording of any length, or said to the microphone; `words` are examples, see `make_examples`."""
    config = predictor.config
    silence = np.zeros(config.samples // 2, np.float32)  # follows the sound, so that its last word is complete
    with gr.Row():
        with gr.Column(min_width=320):
            recording = gr.Audio(label="A long recording", type="filepath", buttons=["download"], elem_id="recording")
            button = gr.Button("Detect commands", variant="primary")
            if words:
                joined = np.concatenate([np.append(audio.to_int16(silence), word) for word in words.values()])
                gr.Examples([[(config.sample_rate, joined)]], recording, example_labels=[", ".join(words)], label="Example")
        with gr.Column(min_width=320):
            live = gr.Audio(label="Live", sources=["microphone"], streaming=True, elem_id="live")
            gr.Markdown(LIVE)
    chosen = round(predictor.threshold(), 2)
    info = f"Probability from which a command counts; {chosen:.2f} was chosen on validation."
    threshold = gr.Slider(0, 1, chosen, step=0.01, label="Threshold", info=info, elem_id="threshold")
    table = gr.Dataframe(headers=COLUMNS, label="Commands", interactive=False, elem_id="table")
    state = gr.State()

    def detect(file: str | None, threshold: float):
        commands = Commands(predictor, config.sample_rate)
        try:
            check_given(file)
            for block in itertools.chain(audio.read_blocks(Path(file), config.sample_rate, BLOCK_SECONDS), [silence]):
                yield commands.push(block, threshold)
        except UserError as error:
            raise as_shown(error, file) from None
        if not commands.rows:
            gr.Info("No command in it reaches the threshold.")

    def push(sound: tuple[int, np.ndarray] | None, threshold: float, commands: Commands | None):
        if sound is None:
            return gr.skip(), commands
        rate, samples = sound
        commands = commands or Commands(predictor, rate)
        samples = audio.to_float(samples.reshape(len(samples), -1)).mean(axis=1)
        return commands.push(samples, threshold), commands

    button.click(detect, [recording, threshold], table, api_name=False)
    live.start_recording(lambda: ([], None), None, [table, state], api_name=False)
    live.stream(push, [live, threshold, state], [table, state], concurrency_limit=None, api_name=False)


class Commands:
    """The commands in a stream, as rows of a table.

    Args:
        predictor: of the run.
        rate: samples per second of the stream.
    """

    def __init__(self, predictor: Predictor, rate: int):
        self.stream, self.rows = CommandStream(predictor, rate), []

    def push(self, samples: np.ndarray, threshold: float) -> list[list]:
        """All rows so far, with samples `(n,)` that follow those before."""
        self.stream.detector.threshold = threshold
        for seconds, word, probability in self.stream.push(samples):
            self.rows.append([round(seconds, 2), word, round(probability, 2)])
        return self.rows


def read(file: str | None, config: Config) -> np.ndarray:
    """The samples `(n,)` of a recording of one word; warns if it may hold several.

    Raises:
        UserError: if it cannot be read, or is far too long.
    """
    check_given(file)
    audio.check_header(Path(file))
    seconds = soundfile.info(file).duration
    if seconds > MAX_SECONDS:
        raise UserError(f"The recording lasts {seconds:.0f} s; expected one word. For all commands in it: the tab Stream.")
    if seconds >= LONG * config.clip_seconds:
        gr.Warning(
            f"The recording lasts {seconds:.1f} s; the answer is about its loudest {config.clip_seconds:g} s alone. "
            "For all commands in it: the tab Stream."
        )
    return audio.read(Path(file), config.sample_rate)


def check_given(file: str | None) -> None:
    """Raise a UserError where there is no recording yet."""
    if file is None:
        raise UserError("There is no recording yet: upload one, or record one with the microphone.")


def as_shown(error: UserError, file: str | None) -> gr.Error:
    """The same for the page, without the folder that the upload lies in."""
    return gr.Error(str(error).replace(f"{Path(file or '').parent}/", ""), print_exception=False)


def draw(clip: np.ndarray, config: Config) -> Figure:
    """Waveform and spectrogram of a clip `(n,)`."""
    seconds = len(clip) / config.sample_rate
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    upper.plot(np.arange(len(clip)) / config.sample_rate, clip, linewidth=0.6)
    upper.set(title="What the network was shown", ylabel="amplitude")
    decibels = spectrogram(clip, config)
    extent, top = (0, seconds, 0, config.sample_rate / 2_000), decibels.max()
    lower.imshow(decibels.T, origin="lower", aspect="auto", extent=extent, vmin=top - TOP_DB, vmax=top, cmap="magma")
    lower.set(xlabel="seconds", ylabel="kHz")
    return figure


def spectrogram(clip: np.ndarray, config: Config) -> np.ndarray:
    """Decibels `(frames, frequencies)` of a clip `(n,)`; each frame is centred on its time."""
    padded = np.pad(clip, config.window_length // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.window_length)[:: config.hop_length]
    power = np.abs(np.fft.rfft(frames * np.hanning(config.window_length))) ** 2
    return 10 * np.log10(np.maximum(power, 1e-10))


def make_examples(predictor: Predictor) -> dict[str, np.ndarray]:
    """Words of 16-bit numbers `(n,)` at the run's rate; none for a run of other sounds, or where SciPy is not installed."""
    words = [word for word in EXAMPLES if word in predictor.metrics["class_names"]]
    if predictor.metrics["dataset"] != "sample" or importlib.util.find_spec("scipy") is None:
        return {}
    from apps.speech import sample

    rng = np.random.default_rng(0)
    said = {word: sample.say(word, sample.make_voice(rng), rng) for word in words}
    rate = predictor.config.sample_rate
    return {word: audio.to_int16(audio.resample(waveform, sample.RATE, rate)) for word, waveform in said.items()}
