"""Word embeddings to start from, out of the training reviews alone: which words stand near each other."""

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import randomized_svd

WINDOW = 5


def cooccurrence_embeddings(sequences, num_words: int, dim: int, seed: int) -> np.ndarray:
    """Factorise how much more often than by chance two words stand near each other.

    Positive pointwise mutual information of the words within 5 places of each other, weighted by 1 / distance, the
    contexts' counts raised to 0.75, then a truncated singular value decomposition (Levy, Goldberg and Dagan, 2015).

    Args:
        sequences: ragged `(n, None)`, word ids of each review, 0 and 1 being padding and unknown.
        num_words: number of ids.
        dim: width of an embedding; of a vocabulary smaller than that, the rest is 0.
        seed: of the decomposition's random start.

    Returns:
        `(num_words, dim)`, float32, standard deviation 0.3. Words that never stand near another one are 0.
    """
    gap = np.zeros(WINDOW, np.int64)  # no word stands near one of the next review
    ids = np.concatenate([part for review in sequences.numpy() for part in (review, gap)])
    counts = scipy.sparse.csr_matrix((num_words, num_words), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        left, right = ids[:-distance], ids[distance:]
        known = (left > 1) & (right > 1)
        weight = np.full(known.sum(), 1 / distance)
        counts += scipy.sparse.coo_matrix((weight, (left[known], right[known])), shape=counts.shape).tocsr()
    information = _positive_mutual_information((counts + counts.T).tocoo())
    vectors, strengths, _ = randomized_svd(information, min(dim, num_words), n_iter=3, random_state=seed)
    embeddings = np.zeros((num_words, dim))
    embeddings[:, : len(strengths)] = vectors * np.sqrt(strengths)
    return (embeddings / max(embeddings.std(), 1e-12) * 0.3).astype("float32")


def _positive_mutual_information(counts: scipy.sparse.coo_matrix) -> scipy.sparse.csr_matrix:
    of_word = np.bincount(counts.row, counts.data, counts.shape[0])
    of_context = of_word**0.75
    expected = of_word[counts.row] * of_context[counts.col] / of_context.sum()
    information = np.log(counts.data / expected)
    positive = information > 0
    places = counts.row[positive], counts.col[positive]
    return scipy.sparse.csr_matrix((information[positive], places), shape=counts.shape)
