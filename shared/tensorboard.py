"""What TensorBoard shows beside the epochs' figures, which Keras's own callback writes."""

from pathlib import Path

import keras
import tensorflow as tf

from shared.gradient_monitor import LOOK_EVERY


class BatchScalars(keras.callbacks.Callback):
    """Write the gradient norm of every tenth batch to TensorBoard: an epoch's mean hides the spikes.

    (Keras's TensorBoard has `update_freq` for this; with a number, version 3.15 writes no scalars at all.)
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.folder))

    def on_train_batch_end(self, batch, logs=None):
        if batch % LOOK_EVERY == 0:
            with self.writer.as_default(step=int(self.model.optimizer.iterations.numpy())):
                tf.summary.scalar("batch_gradient_norm", logs["gradient_norm"])

    def on_train_end(self, logs=None):
        self.writer.close()


def plots_to_tensorboard(folder: Path) -> None:
    """Show the run's plots in the IMAGES tab. (The writer's folder is logs/report.)"""
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default():
        for plot in sorted((folder / "plots").glob("*.png")):
            tf.summary.image(plot.stem, tf.image.decode_png(plot.read_bytes(), channels=4)[None], step=0)
