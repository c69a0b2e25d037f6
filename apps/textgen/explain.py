"""Why a character is likely: what each character of the prompt adds to its probability, by integrated gradients.

See shared/attribution.py. The line runs from zeros in place of the characters' vectors, with the same state before them.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from rich.console import Console
from rich.text import Text

from apps.textgen.characters import UNKNOWN, decode
from apps.textgen.config import Config
from apps.textgen.model import zero_states
from apps.textgen.predict import Predictor
from shared import runs
from shared.attribution import Attribution, IntegratedGradients, cut
from shared.explaining import coloured, strongest, warn_if_incomplete
from shared.export import load_saved

MAX_CHARACTERS = 200  # of the prompt, from its end; what stands before is in the state

EXPLAINED = 3  # next characters
HOW_TO_READ = """What may come next, its probability, and the prompt: green made it likelier, red less likely.
What all characters add is what the prompt changes."""


class Explainer:
    """Explains what a run expects next.

    Args:
        config: the run's.
        generator: see `apps.textgen.model.build_generator`.
    """

    def __init__(self, config: Config, generator: keras.Model):
        self.config, self.generator = config, generator
        probabilities = layers.Softmax(name="probabilities")(generator.output["logits"][:, -1])
        self.next = keras.Model(generator.input, probabilities)
        self.vectors_of, behind = cut(self.next, ["embedding"])
        self.gradients = IntegratedGradients(behind)

    def __call__(self, ids: np.ndarray, most: int) -> dict[int, Attribution]:
        """Explain the characters that are likeliest after a prompt, `most` in number.

        Args:
            ids: of the prompt, `(1, time)`.

        Returns:
            By the character's id, the likeliest first; its part "embedding" is `(time, embedding_dim)`, of the last characters.
        """
        ids, states = ops.convert_to_tensor(ids), zero_states(self.config, 1)
        if ids.shape[1] > MAX_CHARACTERS:
            states = self.generator({"ids": ids[:, :-MAX_CHARACTERS], "states": states}, training=False)["states"]
        inputs = {"ids": ids[:, -MAX_CHARACTERS:], "states": states}
        probabilities = np.asarray(self.next(inputs, training=False))[0]
        chosen = (np.argsort(-probabilities[UNKNOWN + 1 :])[:most] + UNKNOWN + 1).tolist()
        arrays = map(np.asarray, keras.tree.flatten(inputs))
        named = dict(zip((tensor.name for tensor in self.generator.inputs), arrays, strict=True))
        vectors = np.asarray(self.vectors_of(named)["embedding"])
        explained, baselines = named | {"embedding": vectors}, {"embedding": np.zeros_like(vectors)}
        return {number: self.gradients(explained, baselines, number) for number in chosen}


def load(folder: Path, config: Config) -> Explainer:
    """For the run in a folder; takes some seconds."""
    return Explainer(config, load_saved(folder).get_layer("network"))


def show(predictor: Predictor, prompt: str) -> None:
    """Print the prompt once for each of the characters that are likeliest after it, coloured by what made this one likely."""
    console, explainer = Console(), load(predictor.folder, runs.read_config(predictor.folder, Config))
    print(HOW_TO_READ, file=sys.stderr)
    for number, found in explainer(predictor.encode([prompt]), EXPLAINED).items():
        parts = found.parts["embedding"].sum(axis=1).tolist()
        pieces = [*zip(prompt[-len(parts) :].replace("\n", "↵"), parts, strict=True)]
        character = decode([number], predictor.vocabulary)
        console.print(Text(f"{character!r} {found.after:.3f}  ", "bold") + coloured(pieces))
        from_nothing = f"{found.before:.3f} without characters: {strongest(pieces, places=True)}"
        console.print(f"   {from_nothing}", style="dim", markup=False)
        warn_if_incomplete(found)
