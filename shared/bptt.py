"""Truncated backpropagation through time: long texts in short windows, with the recurrent state carried from one to the next.

Backpropagation through a text of a million steps would need the memory of a million steps. So the text is cut into windows,
the gradient flows within a window, and the state alone flows on to the next one (Williams and Peng, 1990; Sutskever, 2013).
What the network remembers may thus be older than a window; what it can learn to remember is mostly not.
"""

from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from shared.batches import prepared_ahead


class Windows(NamedTuple):
    """Where each window of an epoch lies in the text; all arrays are `(steps, batch_size)`.

    starts: position of the first input. lengths: how many inputs (0: this stream has come to its end before the others).
    fresh: whether a document begins here, so that nothing is to be remembered.
    """

    starts: np.ndarray
    lengths: np.ndarray
    fresh: np.ndarray


def contiguous_windows(document_lengths, batch_size: int, sequence_length: int) -> Windows:
    """Cut documents that lie one behind the other into windows, so that row i of a batch goes on in row i of the next.

        documents   abcdefghijklmnop  QRSTUVWX               each letter is a character; windows of 3, batches of 2
        windows     abc def ghi jkl mno   QRS TUV W          the last character of a document is a target only
        batches     row 1:  abc | def | ghi | jkl            each row is a stream that goes on from batch to batch
                    row 2:  mno | QRS | TUV | W              at Q the state of row 2 alone starts from zero
        targets     row 1:  bcd | efg | hij | klm            one character later
                    row 2:  nop | RST | UVW | X

    Every character but each document's first is a target once. A window that is not full is filled up, and what it is filled
    with has weight 0 in the loss; so are the windows that the last stream may lack.

    Args:
        document_lengths: number of characters of each document.
        batch_size: streams that are read side by side.
        sequence_length: steps in a window: how far the gradient flows back.
    """
    starts, lengths, fresh = [], [], []
    ends = np.cumsum(document_lengths)
    for begin, end in zip(ends - document_lengths, ends, strict=True):
        positions = np.arange(begin, end - 1, sequence_length)
        starts.append(positions)
        lengths.append(np.minimum(sequence_length, end - 1 - positions))
        fresh.append(positions == begin)
    columns = [np.concatenate(parts) for parts in (starts, lengths, fresh)]
    steps = -(-len(columns[0]) // batch_size)
    missing = steps * batch_size - len(columns[0])
    return Windows(*(np.pad(column, (0, missing)).reshape(batch_size, steps).T for column in columns))


def contiguous_batches(ids: np.ndarray, windows: Windows, sequence_length: int) -> tf.data.Dataset:
    """Batches of one epoch: inputs, targets (the inputs one character later) and weights, each `(batch, time)`.

    Training on the true next character, whatever the network predicts, is teacher forcing (Williams and Zipser, 1989).

    Args:
        ids: `(n,)`, all documents one behind the other; may be memory-mapped, since a batch at a time is read.
        windows: see `contiguous_windows`.
        sequence_length: as there.
    """
    batch_size = windows.starts.shape[1]
    steps_of_window = np.arange(sequence_length)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for starts, lengths in zip(windows.starts, windows.lengths, strict=True):
            positions = np.minimum(starts[:, None] + steps_of_window, len(ids) - 2)
            weights = (steps_of_window < lengths[:, None]).astype("float32")
            yield ids[positions].astype("int32"), ids[positions + 1].astype("int32"), weights

    shape = (batch_size, sequence_length)
    signature = tuple(tf.TensorSpec(shape, dtype) for dtype in ("int32", "int32", "float32"))
    return prepared_ahead(batches, signature, len(windows.starts))


class TruncatedBPTT(keras.callbacks.Callback):
    """Owns the state of a model's stateful recurrent layers.

    Zero at the start of an epoch; carried from batch to batch; set to zero in the rows where a document begins; put away
    before validation, which starts from zero as well, and put back after it. An epoch is read from zero, so a run that is
    resumed after whole epochs has the state that an uninterrupted one would have.

    Args:
        train: the windows that `fit` trains on.
        validation: those that it validates on, and those of `evaluate`.

    Raises:
        RuntimeError: on another backend than TensorFlow, which trains on a copy of the state that this callback can't set.
        ValueError: at the start of training or evaluation, if its windows are not given or the model has no stateful layer.
    """

    def __init__(self, train: Windows | None = None, validation: Windows | None = None):
        super().__init__()
        if (backend := keras.backend.backend()) != "tensorflow":
            raise RuntimeError(f"TruncatedBPTT needs Keras's TensorFlow backend; got {backend}. Set KERAS_BACKEND=tensorflow.")
        self.train = train
        self.validation = validation

    def on_train_begin(self, logs=None):
        self._check("train", self.train)

    def on_epoch_begin(self, epoch, logs=None):
        reset_states(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        self._reset_rows(self.train.fresh[batch])

    def on_test_begin(self, logs=None):
        self._check("validation", self.validation)
        self.put_away = read_states(self.model)
        reset_states(self.model)

    def on_test_batch_begin(self, batch, logs=None):
        self._reset_rows(self.validation.fresh[batch])

    def on_test_end(self, logs=None):
        write_states(self.model, self.put_away)

    def _check(self, name: str, windows: Windows | None) -> None:
        if windows is None:
            raise ValueError(f"TruncatedBPTT({name}=...) is needed: the windows that the batches were made from")
        if not stateful_layers(self.model):
            raise ValueError(f"TruncatedBPTT needs recurrent layers with stateful=True; {self.model.name} has none")

    def _reset_rows(self, fresh: np.ndarray) -> None:
        if fresh.any():
            kept = ~fresh[:, None]
            write_states(self.model, [state * kept for state in read_states(self.model)])


def stateful_layers(model: keras.Model) -> list:
    """The recurrent layers that keep their state from batch to batch. (A `TextVectorization` has a `reset_state`, too: it
    would lose its vocabulary.)"""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += stateful_layers(layer)
        elif isinstance(layer, keras.layers.Bidirectional):
            found += [one for one in (layer.forward_layer, layer.backward_layer) if one.stateful]
        elif isinstance(layer, keras.layers.RNN) and layer.stateful:
            found.append(layer)
    return found


def read_states(model: keras.Model) -> list[np.ndarray]:
    """The states of all stateful layers, `(batch, units)` each; an LSTM has two."""
    return [np.array(state) for layer in stateful_layers(model) for state in layer.states]


def write_states(model: keras.Model, states: list[np.ndarray]) -> None:
    """Set what `read_states` read."""
    variables = [state for layer in stateful_layers(model) for state in layer.states]
    for variable, state in zip(variables, states, strict=True):
        variable.assign(state)


def reset_states(model: keras.Model) -> None:
    """Forget: set the states of all stateful layers to zero."""
    for layer in stateful_layers(model):
        layer.reset_state()
