"""The network: recurrent paths that read the words in order, beside a path that counts n-grams. All of them vote."""

import keras
import numpy as np
from keras import layers, ops
from scipy.optimize import minimize
from scipy.special import log_softmax

from apps.sentiment.config import Config
from shared import rnn

ANSWER = "answer"
VOTES_DEVIATION = 0.25  # of the weights from equal ones, as far as is known before validation


def build_model(config: Config, log_ratios: np.ndarray, embeddings: np.ndarray) -> keras.Model:
    """Build the network, from ids to logits.

    Args:
        config: the settings.
        log_ratios: `(num_ids, classes)`, see `naive_bayes_log_ratios`.
        embeddings: `(num_words, dim)`, where the word embeddings start.

    Returns:
        Uncompiled model from the vectorizer's "sequence" `(batch, time)` and "bag" `(batch, any)` to logits
        `(batch, classes)`: one output for each path, "ngrams", "recurrent_1", ..., to be trained by a loss of its own, so
        that the quickest does not take all the gradient; and "answer", the sum of their votes.
    """
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    bag = keras.Input((None,), dtype="int32", name="bag")
    paths = {"ngrams": _ngram_path(bag, *log_ratios.shape)}
    for number in range(1, config.members + 1):
        name = f"recurrent_{number}"
        paths[name] = _recurrent_path(config, sequence, len(embeddings), log_ratios.shape[1], name)
    equal = keras.initializers.Constant(1 / len(paths))
    votes = layers.Dense(1, use_bias=False, kernel_initializer=equal, trainable=False, dtype="float32", name="votes")
    answer = ops.squeeze(votes(ops.stack(list(paths.values()), axis=-1)), axis=-1)
    network = keras.Model({"sequence": sequence, "bag": bag}, {ANSWER: answer, **paths}, name="network")
    # Set, not given as initializers: those are saved inside the model, as text.
    network.get_layer("log_ratios").set_weights([log_ratios])
    for number in range(1, config.members + 1):
        network.get_layer(f"recurrent_{number}_embedding").set_weights([embeddings])
    return network


def _recurrent_path(config, sequence, num_words, classes, name):
    mask = sequence > 0
    x = layers.Embedding(num_words, config.embedding_dim, name=f"{name}_embedding")(sequence)
    x = layers.Dropout(config.word_dropout, noise_shape=(None, None, 1), name=f"{name}_word_dropout")(x)
    x = rnn.recurrent_stack(
        x,
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        dropout=config.dropout,
        residual=config.residual,
        normalization=config.normalization,
        activation=config.activation,
        mask=mask,
        name=name,
    )
    pooled = [rnn.pool(x, how, mask, config.bidirectional, name) for how in config.pooling]
    x = layers.Dropout(config.head_dropout, name=f"{name}_head_dropout")(ops.concatenate(pooled, axis=-1))
    return layers.Dense(classes, dtype="float32", name=name)(x)


def _ngram_path(bag, num_ids, classes):
    """A hundredth of the naive Bayes sum of log ratios to start with; then each n-gram gets a weight of its own."""
    ratios = layers.Embedding(num_ids, classes, trainable=False, name="log_ratios")(bag)
    weights = layers.Embedding(num_ids, 1, embeddings_initializer="zeros", name="ngram_weights")(bag)
    return ops.cast(ops.sum((weights + 0.01) * ratios, axis=1), "float32")


def fit_votes(outputs: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """How much each path counts: weights with a small log loss on reviews that were not trained on, near equal ones.

    Stacking (Wolpert, 1992) with one number for each path, which calibrates the sum as well. A normal prior around equal
    weights keeps few reviews from being taken for more than they say; against thousands it weighs nothing.

    Args:
        outputs: logits `(n, classes)` of every output of the network.
        labels: `(n,)`.

    Returns:
        `(paths, 1)`, none below 0: the kernel of the layer "votes".
    """
    logits = np.stack([of_path for name, of_path in outputs.items() if name != ANSWER], axis=-1)
    equal = np.full(logits.shape[-1], 1 / logits.shape[-1])

    def loss(votes):
        log_likelihood = log_softmax(logits @ votes, axis=1)[np.arange(len(labels)), labels].sum()
        return (((votes - equal) / VOTES_DEVIATION) ** 2).sum() / 2 - log_likelihood

    return minimize(loss, equal, bounds=[(0, None)] * len(equal)).x[:, None]


def naive_bayes_log_ratios(bags, labels: np.ndarray, num_ids: int, smoothing: float = 1.0) -> np.ndarray:
    """How much more often an id stands in reviews of a class than in the others, as a logarithm (Wang and Manning, 2012).

    Args:
        bags: ragged `(n, None)`, each review's ids once.
        labels: `(n,)`.
        num_ids: number of ids.
        smoothing: added to every count.

    Returns:
        `(num_ids, classes)`; 0 for padding and unknown words.
    """
    of_row = labels[bags.value_rowids().numpy()]
    counts = np.stack(
        [np.bincount(bags.values.numpy()[of_row == k], minlength=num_ids) for k in range(labels.max() + 1)], axis=1
    )
    rest = counts.sum(axis=1, keepdims=True) - counts + smoothing
    counts = counts + smoothing
    ratios = np.log(counts / counts.sum(axis=0)) - np.log(rest / rest.sum(axis=0))
    ratios[:2] = 0
    return ratios.astype("float32")


def build_servable(vectorizer: keras.Model, network: keras.Model) -> keras.Model:
    """What is saved: raw text `(batch,)` in, probabilities `(batch, classes)` out, the vocabulary inside."""
    uncompiled = keras.Model(network.input, network.output[ANSWER], name="network")  # leaves the optimizer behind
    text = keras.Input((), dtype="string", name="text")
    softmax = layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(text, softmax(uncompiled(vectorizer(text))), name="servable")
