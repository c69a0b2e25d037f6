"""The cheap rival: words and word pairs, weighted by tf-idf, in a logistic regression. It knows no order beyond a pair."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from apps.sentiment.data import Reviews


def fit_baseline(train: Reviews, validation: Reviews) -> Pipeline:
    """Fit on `train`; the strength of the regularisation is chosen on `validation`. `predict_proba` takes texts."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2 if len(train.texts) > 1000 else 1, sublinear_tf=True)
    features, held_out = vectorizer.fit_transform(train.texts), vectorizer.transform(validation.texts)
    candidates = [LogisticRegression(C=strength, max_iter=1000).fit(features, train.labels) for strength in (3.0, 10.0, 30.0)]
    best = max(candidates, key=lambda model: model.score(held_out, validation.labels))
    return Pipeline([("tfidf", vectorizer), ("logistic_regression", best)])
