"""Is the past used? The loss of a network that forgets all that is older than 1, 2, 4 ... 256 steps.

A network may carry a state and gain nothing by it. How much it gains is found by taking the past away and looking at the loss
(Khandelwal, He, Qi and Jurafsky, 2018, did so with words).
"""

from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers, ops

from shared.directions import with_recurrence
from shared.plots import plt, save_figure
from shared.tensorboard import EpochPictures

LONGEST = 256  # steps that are tried
ROWS = 256  # of a batch to look into; what has hundreds of steps a row makes do with fewer


class LossByContext(EpochPictures):
    """A picture of the loss by the steps of context, and how many are needed, of the kept epoch alone: it takes its time.

    Args:
        inputs: a batch of the model's inputs.
        targets: what belongs to it.
        loss: a function of (targets, outputs) to losses, see `losses_by_context`.
        steps: of the recurrent layers, in the longest row: the whole context.
        folder: the run folder.
        model: which model to look into, with the weights of the one that is trained; None: that one itself.
    """

    def __init__(self, inputs, targets, loss: Callable, steps: int, folder: Path, model: keras.Model | None = None):
        super().__init__(folder, every=None)
        self.batch = inputs, targets, loss
        self.steps = steps
        self.watched = model

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `loss_by_context.png`."""
        model = self.watched or self.model
        contexts = [2**power for power in range(LONGEST.bit_length()) if 2**power < self.steps]
        models = {context: reset_every(model, context) for context in contexts} | {self.steps: model}
        losses = losses_by_context(models, *self.batch)
        figure, axes = plt.subplots(figsize=(6, 4))
        plot_losses(axes, losses)
        picture = folder / "loss_by_context.png"
        save_figure(figure, picture, title)
        return [picture], {"context_needed": context_needed(losses)}


def losses_by_context(models: dict[int, keras.Model], inputs, targets, loss: Callable) -> dict[int, float]:
    """The mean loss of a model with all its context, and what it would be with less.

    A loss of each step is compared where a block of `reset_every` ends, so that the context is exactly as long as the block;
    the first block is left out, since there the model itself knows no more. So the same steps are compared with and without
    the past, and their mean difference is added to the model's loss.

    Args:
        models: by the steps of context: what `reset_every` made of a model, and last the model itself.
        inputs: a batch of its inputs.
        targets: what belongs to it.
        loss: a function of (targets, outputs) to losses, `(batch,)` or, of each step, `(batch, time)`.

    Returns:
        The losses by the steps of context; the last is that with the whole context.
    """
    inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
    losses = {steps: ops.convert_to_numpy(loss(targets, model(inputs, training=False))) for steps, model in models.items()}
    whole, found = losses.pop(longest := max(losses)), {}
    for steps, of_rows in losses.items():
        more = of_rows - whole
        found[steps] = float(whole.mean() + (more if more.ndim == 1 else more[:, : steps - 1 : -steps]).mean())
    return found | {longest: float(whole.mean())}


def context_needed(losses: dict[int, float]) -> int:
    """The fewest steps of those tried with which the loss is at most 1 % above that with the whole context."""
    whole = losses[max(losses)]
    return next(steps for steps, loss in losses.items() if loss <= 1.01 * whole)


def plot_losses(axes, losses: dict[int, float]) -> None:
    """Losses over the steps of context, see `losses_by_context`."""
    *contexts, longest = losses
    labels = [*map(str, contexts), f"all {longest}"]
    axes.plot(labels, losses.values(), "o-", color="C0", label="the state is zero so many steps before")
    axes.axhline(losses[longest], color="black", linestyle="--", linewidth=1, label="all of the past is known")
    axes.set(xlabel="steps of context", ylabel="loss on validation")
    axes.legend()


def reset_every(model: keras.Model, steps: int) -> keras.Model:
    """The same model, the weights shared, with a state that is zero again every `steps` steps, counted back from the last.

        steps of a row        a b c d e f g h i j        three steps of context, 10 of the row
        blocks                a|b c d|e f g|h i j        each begins with a state of zeros

    The last output has seen exactly `steps` steps, others fewer; in a backward layer of a `Bidirectional` the last step is the
    first of the row. What is not recurrent, such as a convolution, sees what it always sees.

    Args:
        model: see `shared.directions.with_recurrence`. States passed in are those before the first block alone.
        steps: 1 or more.

    Raises:
        ValueError: if the model has no recurrent layer.
    """

    def run(_name, layer, sequence, mask, states):
        outputs, *states = ResetEvery(layer, steps)(sequence, mask=mask, states=states)
        return outputs, states

    return with_recurrence(model, run)


class ResetEvery(layers.Layer):
    """Runs a recurrent layer in blocks of `steps` steps, all blocks side by side: what `reset_every` puts in its place.

    From `(batch, time, features)` to the outputs `(batch, time, units)`, in the order in which the layer reads, 0 where the
    mask hides a step; then the states after the last step, `(batch, units)` each.
    """

    def __init__(self, layer: layers.RNN, steps: int):
        super().__init__()
        self.supports_masking = True
        self.steps = steps
        self.go_backwards = layer.go_backwards
        self.recurrence = layers.RNN(layer.cell, return_sequences=True, return_state=True, zero_output_for_mask=True)

    def build(self, sequence_shape):
        """(Otherwise Keras would trace a graph, to see what `call` builds.)"""
        self.recurrence.build(sequence_shape)

    def call(self, sequence, mask=None, states=()):
        mask = ops.ones_like(sequence[:, :, 0], "bool") if mask is None else mask
        if self.go_backwards:
            sequence, mask = ops.flip(sequence, axis=1), ops.flip(mask, axis=1)
        position = ops.arange(ops.shape(sequence)[1])
        end = ops.max(ops.where(mask, position + 1, 0), axis=1, keepdims=True)  # (batch, 1), after the last step
        joined = ops.concatenate([sequence, ops.cast(mask[..., None], sequence.dtype)], axis=-1)  # so they move together
        blocks = self._cut(_roll(joined, end))
        shown = blocks[..., -1] > 0
        starts = [self._before_first_block(state, shown, ops.shape(sequence)[0]) for state in states]
        outputs, *states = self.recurrence(blocks[..., :-1], mask=shown, initial_state=starts or None)
        rows = ops.shape(sequence)[0], -1, outputs.shape[-1]
        outputs = ops.reshape(outputs, rows)[:, -ops.shape(sequence)[1] :]
        return _roll(outputs, -end), *(ops.reshape(state, rows)[:, -1] for state in states)

    def compute_mask(self, *_):
        """None: masks are passed by hand."""

    def compute_output_shape(self, sequence_shape):
        """(And another one, for the shapes.)"""
        cell, (batch, time, _) = self.recurrence.cell, sequence_shape
        return (batch, time, cell.output_size), *((batch, size) for size in keras.tree.flatten(cell.state_size))

    def _cut(self, x):
        """From `(batch, time, features)` to `(batch * blocks, steps, features)`, zeros in front of what is too short."""
        missing = -ops.shape(x)[1] % self.steps
        return ops.reshape(ops.pad(x, [[0, 0], [missing, 0], [0, 0]]), (-1, self.steps, x.shape[-1]))

    def _before_first_block(self, state, shown, batch):
        """From `(batch, units)` to `(batch * blocks, units)`: zeros but for the first block that has a step in it."""
        in_use = ops.reshape(ops.any(shown, axis=1), (batch, -1))
        first = in_use & (ops.cumsum(ops.cast(in_use, "int32"), axis=1) == 1)
        return ops.reshape(ops.where(first[..., None], state[:, None], 0), (-1, state.shape[-1]))


def _roll(x, steps):
    """Move `(batch, time, features)` to the left by `steps` `(batch, 1)`; what leaves there enters at the right."""
    position = ops.arange(ops.shape(x)[1])
    return ops.take_along_axis(x, ((position + steps) % ops.shape(x)[1])[..., None], axis=1)
