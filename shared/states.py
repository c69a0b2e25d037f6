"""The recurrent state, seen: hidden states, an LSTM's cell states and the gates over the steps of an example, as pictures.

The recurrence is computed again in NumPy, from a layer's input sequence and its weights; the model that is trained stays as
it is. What the gates do was first drawn so by Karpathy, Johnson and Fei-Fei (2015).
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from shared.directions import rebuilt
from shared.state_plots import CLOSED, OPEN, draw_gates, draw_states, half_lives
from shared.tensorboard import EpochPictures
from shared.units import draw_units

GATES = {layers.SimpleRNN: (), layers.GRU: ("update", "reset"), layers.LSTM: ("input", "forget", "output")}
PLOTS = ("states", "gates", "units")
ROWS = 64  # of a batch to look into: the first is drawn, all are counted


@dataclass(frozen=True)
class Recording:
    """What one layer, or one direction of it, did at every step of a batch; NaN at the steps that the mask hides."""

    hidden: np.ndarray  # (batch, time, units)
    cell: np.ndarray | None  # the same, of an LSTM
    gates: dict[str, np.ndarray]  # the same, by name: see GATES

    def states(self) -> dict[str, np.ndarray]:
        """The hidden and, of an LSTM, the cell states."""
        return {"hidden": self.hidden} | ({} if self.cell is None else {"cell": self.cell})


class Probe:
    """Computes what the recurrent layers of a model do with an input.

    It knows SimpleRNN, GRU and LSTM, also inside a `Bidirectional`; other recurrent layers are left out.

    Args:
        model: functional. Masks are arguments of its layers, and no layer is stateful.

    Raises:
        ValueError: if it has no such layer, or a stateful one, whose state would change.
    """

    def __init__(self, model: keras.Model):
        self.layers: dict[str, layers.Layer] = {}
        tensors = {}

        def call(layer, *args, **options):
            if _is_recurrent(layer):
                sequence, *states = keras.tree.flatten(args)
                given = {"mask": options.get("mask"), "states": options.get("initial_state") or states or None}
                tensors[layer.name] = {"sequence": sequence} | {name: one for name, one in given.items() if one is not None}
                self.layers[layer.name] = layer
            return layer(*args, **options)

        again = rebuilt(model, call)
        if not tensors:
            raise ValueError(f"model {model.name} has no SimpleRNN, GRU or LSTM")
        if any(layer.stateful for layer in self.layers.values()):
            raise ValueError(f"model {model.name} is stateful: probe one that gets its state passed in")
        self.inputs_of_layers = keras.Model(again.input, tensors)

    def __call__(self, inputs) -> dict[str, Recording]:
        """Of a batch of the model's inputs, by the layer's name; of a `Bidirectional`, "<name>/forward" and "/backward"."""
        found, inputs = {}, keras.tree.map_structure(ops.convert_to_tensor, inputs)
        for name, given in self.inputs_of_layers(inputs, training=False).items():
            layer, sequence = self.layers[name], np.asarray(given["sequence"], np.float32)
            mask = np.asarray(given["mask"]) if "mask" in given else np.ones(sequence.shape[:2], bool)
            both = isinstance(layer, layers.Bidirectional)
            directions = [layer.forward_layer, layer.backward_layer] if both else [layer]
            states = np.array_split([np.asarray(state, np.float32) for state in given.get("states", [])], len(directions))
            for ending, one, start in zip(("/forward", "/backward"), directions, states, strict=False):
                found[name + ending * both] = record(one, sequence, mask, list(start))
        return found


def record(layer: layers.Layer, sequence: np.ndarray, mask: np.ndarray, states: list[np.ndarray]) -> Recording:
    """Run the recurrence of a SimpleRNN, GRU or LSTM.

    Args:
        layer: with `go_backwards` it starts at the end.
        sequence: its input, `(batch, time, features)`.
        mask: `(batch, time)`, True where there is data; the state passes the other steps unchanged.
        states: `(batch, units)` each, before the first step; zeros if there are none.
    """
    cell, (batch, time, _) = layer.cell, sequence.shape
    is_lstm = isinstance(layer, layers.LSTM)
    step = _lstm_step if is_lstm else _gru_step if isinstance(layer, layers.GRU) else _simple_step
    recurrent_kernel, (of_input, of_state) = np.asarray(cell.recurrent_kernel), _biases(cell)
    projected = sequence @ np.asarray(cell.kernel) + of_input
    states = states or [np.zeros((batch, cell.units), np.float32)] * (1 + is_lstm)
    steps = [None] * time
    for number in range(time)[::-1] if layer.go_backwards else range(time):
        new_states, gates = step(cell, projected[:, number], states[0] @ recurrent_kernel + of_state, *states)
        shown = mask[:, number, None]
        states = [np.where(shown, new, old) for new, old in zip(new_states, states, strict=True)]
        steps[number] = np.where(shown, np.stack([*states, *gates]), np.nan)
    hidden, *rest = np.stack(steps, axis=2)  # (batch, time, units) each
    return Recording(hidden, rest.pop(0) if is_lstm else None, dict(zip(_gates(layer), rest, strict=True)))


def _is_recurrent(layer: layers.Layer) -> bool:
    return _gates(getattr(layer, "forward_layer", layer)) is not None


def _gates(layer: layers.Layer) -> tuple[str, ...] | None:
    return next((gates for kind, gates in GATES.items() if isinstance(layer, kind)), None)


def _biases(cell) -> np.ndarray:
    """That of the input and that of the state, `(2, n)`; a GRU alone has both."""
    bias = np.zeros(cell.recurrent_kernel.shape[1:], np.float32) if cell.bias is None else np.asarray(cell.bias)
    return bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])


def _simple_step(cell, of_input, of_state, _hidden):
    return [np.asarray(cell.activation(of_input + of_state))], []


def _gru_step(cell, of_input, of_state, hidden):
    units = cell.units
    both = np.asarray(cell.recurrent_activation((of_input + of_state)[:, : 2 * units]))
    update, reset = np.split(both, 2, axis=1)
    if cell.reset_after:
        recalled = reset * of_state[:, 2 * units :]
    else:
        recalled = (reset * hidden) @ np.asarray(cell.recurrent_kernel)[:, 2 * units :]
    candidate = np.asarray(cell.activation(of_input[:, 2 * units :] + recalled))
    return [update * hidden + (1 - update) * candidate], [update, reset]


def _lstm_step(cell, of_input, of_state, _hidden, memory):
    given, forgotten, candidate, shown = np.split(of_input + of_state, 4, axis=1)
    gates = [np.asarray(cell.recurrent_activation(one)) for one in (given, forgotten, shown)]
    memory = gates[1] * memory + gates[0] * np.asarray(cell.activation(candidate))
    return [gates[2] * np.asarray(cell.activation(memory)), memory], gates


class States(EpochPictures):
    """Pictures of the state and of the gates, see `EpochPictures`.

    Args:
        inputs: a batch of the model's inputs, of about ROWS rows; the first is the example that is drawn.
        labels: what the example has at each step: characters, words, times. Layers with another number of steps are left out.
        features: what the units may follow, `(rows, steps)` by name, NaN where it is not known, see `shared.units.find_units`.
        folder: the run folder.
        model: which model to look into, with the weights of the one that is trained; None: that one itself.

    Raises:
        ValueError: at the start of training, if no layer has as many steps as there are labels; see also `Probe`.
    """

    def __init__(
        self, inputs, labels: list[str], features: dict[str, np.ndarray], folder: Path, model: keras.Model | None = None
    ):
        super().__init__(folder)
        self.inputs = inputs
        self.labels = labels
        self.features = features
        self.probed = model

    def on_train_begin(self, logs=None):
        self.probe = Probe(self.probed or self.model)
        self._record()  # labels that fit no layer are an error before the first epoch

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `states.png`, if there are gates `gates.png`, and if units follow a feature `units.png`."""
        found = self._record()
        files = [folder / f"{name}.png" for name in PLOTS]
        states = {f"{name}, {kind}": part for name, one in found.items() for kind, part in one.states().items()}
        hidden = {name: one.hidden for name, one in found.items()}
        with warnings.catch_warnings(action="ignore"):  # the font lacks some character of the example
            draw_states(files[0], states, self.labels, title)
            draw_gates(files[1], {name: one.gates for name, one in found.items() if one.gates}, self.labels, title)
            draw_units(files[2], hidden, self.features, self.labels, title)
        return [file for file in files if file.exists()], figures(found)

    def _record(self) -> dict[str, Recording]:
        found = self.probe(self.inputs)
        fitting = {name: one for name, one in found.items() if one.hidden.shape[1] == len(self.labels)}
        if not fitting:
            steps = {name: one.hidden.shape[1] for name, one in found.items()}
            raise ValueError(f"States needs a label for each step of a recurrent layer, {steps}; got {len(self.labels)} labels")
        return fitting


def figures(layers: dict[str, Recording]) -> dict[str, float]:
    """For TensorBoard, by layer: of each gate the mean and how often it is shut or open; the median half-life of the memory.

    An LSTM's memory is its cell state. "gate_shut" and "gate_open" are the fractions of all steps and units at which the gate
    is below 0.1 and above 0.9.
    """
    found = {}
    for name, one in layers.items():
        for gate, values in one.gates.items():
            shown = values[~np.isnan(values)]
            fractions = {"mean": shown.mean(), "shut": (shown < CLOSED).mean(), "open": (shown > OPEN).mean()}
            found |= {f"gate_{what}/{name}/{gate}": float(figure) for what, figure in fractions.items()}
        found[f"half_life/{name}"] = float(np.nanmedian(half_lives([*one.states().values()][-1])))
    return found
