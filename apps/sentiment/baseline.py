"""The baseline: words and word pairs, weighted by tf-idf, in a logistic regression. It knows no order beyond a pair."""

from itertools import pairwise

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from apps.sentiment.data import Reviews
from apps.sentiment.text import split_words


def fit_baseline(train: Reviews, validation: Reviews) -> Pipeline:
    """Fit on `train`; the strength of the regularisation is chosen on `validation`. `predict_proba` takes raw texts."""
    # The network's own words: scikit-learn's pattern passes over those of one character, and may find none at all.
    splitter = FunctionTransformer(split_words)
    min_df = 2 if len(train.texts) > 1000 else 1
    vectorizer = TfidfVectorizer(analyzer=_words_and_pairs, min_df=min_df, sublinear_tf=True)
    features = vectorizer.fit_transform(splitter.transform(train.texts))
    held_out = vectorizer.transform(splitter.transform(validation.texts))
    candidates = [LogisticRegression(C=strength, max_iter=1000).fit(features, train.labels) for strength in (3.0, 10.0, 30.0)]
    best = max(candidates, key=lambda model: model.score(held_out, validation.labels))
    return Pipeline([("words", splitter), ("tfidf", vectorizer), ("logistic_regression", best)])


def _words_and_pairs(words: list[str]) -> list[str]:
    return words + [" ".join(pair) for pair in pairwise(words)]
