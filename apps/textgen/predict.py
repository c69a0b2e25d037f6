"""Write text with a trained run: make textgen-predict ARGS='--prompt "ROMEO:"'."""

import sys

import keras
import numpy as np
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from apps.textgen.characters import decode
from apps.textgen.config import Config, Request
from apps.textgen.generate import Sampler, Sampling
from shared import runs
from shared.cli import UserError


def predict(request: Request) -> None:
    """Print the prompt and what follows, as it is made."""
    folder, _ = runs.load("textgen", request.run)

    config = runs.read_config(folder, Config)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    vocabulary = model.get_layer("characters").get_vocabulary()[2:]
    prompt = _known(request, vocabulary)
    ids = np.array([vocabulary.index(character) + 2 for character in prompt], "int32")
    sampling = Sampling(request.temperature, request.top_k, request.top_p)
    sampler = Sampler(config, model.get_layer("network"), sampling)

    texts = [Text(request) for _ in range(request.samples)]
    streamed = request.samples == 1  # several texts are shown one after the other
    if streamed:
        print(prompt, end="", flush=True)
    for chunk, probabilities in sampler.generate(ids, request.samples, request.length, request.seed):
        for text, row, certainty in zip(texts, chunk, probabilities, strict=True):
            text.add(decode(row, vocabulary), certainty)
        if streamed:
            texts[0].show()
        if all(text.stopped for text in texts):
            break
    for number, text in enumerate(texts, start=1):
        if not streamed:
            print(f"--- {number} ---\n{prompt}", end="")
        text.show(whole=True)
        print()


class Text:
    """One text while it is made, and how much of it has been shown."""

    def __init__(self, request: Request):
        self.stop = request.stop
        self.coloured = request.show_probabilities
        self.text, self.certainties, self.shown, self.stopped = "", [], 0, False

    def add(self, text: str, certainties) -> None:
        if self.stopped:
            return
        self.text += text
        self.certainties.extend(certainties)
        if self.stop and self.stop in self.text:
            self.text = self.text[: self.text.index(self.stop)]
            self.stopped = True

    def show(self, whole: bool = False) -> None:
        """Print what is new, but for an end that may be the beginning of `stop`."""
        held_back = len(self.stop) - 1 if self.stop and not self.stopped and not whole else 0
        end = max(self.shown, len(self.text) - held_back)
        if self.coloured:
            _print_coloured(self.text[self.shown : end], self.certainties[self.shown : end])
        else:
            print(self.text[self.shown : end], end="", flush=True)
        self.shown = end


def _print_coloured(text: str, certainties: list[float]) -> None:
    colours = ColorSystem.STANDARD if Console().is_terminal else None
    for character, certainty in zip(text, certainties, strict=True):
        style = Style.parse("green" if certainty > 0.5 else "yellow" if certainty > 0.1 else "bold red")
        print(style.render(character, color_system=colours), end="")  # as it is: rich's own print would expand tabs
    sys.stdout.flush()


def _known(request: Request, vocabulary: list[str]) -> str:
    """The prompt, without what the network has never seen if that is to be skipped."""
    if request.prompt is None:
        return "\n" if "\n" in vocabulary else vocabulary[0]
    unknown = sorted(set(request.prompt) - set(vocabulary))
    if unknown and request.on_unknown == "error":
        raise UserError(
            f"--prompt has characters that the network has never seen: {' '.join(map(repr, unknown))}. "
            "Leave them out by hand or with --on-unknown skip."
        )
    prompt = "".join(character for character in request.prompt if character in vocabulary)
    if not prompt:
        raise UserError("--prompt has no character that the network knows; give one or more.")
    return prompt
