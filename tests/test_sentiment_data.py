# ruff: noqa: RUF001  scripts other than Latin
"""The sentiment app's data: own files of every kind, bad ones too, the sample, and the way from text to ids."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from apps.sentiment import baseline, data, ngrams, sample, text, words
from apps.sentiment.config import Config
from shared.cli import UserError
from shared.settings import Training

THREE_CLASSES = [(f"this is review {n} about {label}", label) for n in range(40) for label in ("bad", "fine", "good")]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return str(path)


def write_rows(path, rows, columns=("text", "label")):
    table = pd.DataFrame(rows, columns=list(columns))
    if path.suffix == ".jsonl":
        return write(path, "\n".join(json.dumps(row) for row in table.to_dict("records")))
    return write(path, table.to_csv(index=False, sep="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_own_table_of_three_classes(ending, tmp_path):
    path = write_rows(tmp_path / f"mine{ending}", THREE_CLASSES, ("review", "stars"))
    splits = data.load(Config(data=path, text_column="review", label_column="stars"))
    assert splits.name == f"mine{ending}"
    assert splits.train.class_names == ("bad", "fine", "good")
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part.texts) for part in parts] == [86, 10, 24]  # a fifth to test, a tenth of the rest to validation
    assert sorted(t for part in parts for t in part.texts) == sorted(t for t, _ in THREE_CLASSES)  # none lost or doubled
    for part in parts:
        assert all(t.endswith(part.class_names[label]) for t, label in zip(part.texts, part.labels, strict=True))
        assert np.ptp(np.bincount(part.labels)) <= 1


def test_labels_may_be_numbers(tmp_path):
    path = write_rows(tmp_path / "stars.jsonl", [(f"review {n}", n % 5 + 1) for n in range(100)])
    assert data.load(Config(data=path)).train.class_names == ("1", "2", "3", "4", "5")


def test_the_split_depends_on_the_seed_alone(tmp_path):
    path = write_rows(tmp_path / "mine.csv", THREE_CLASSES)
    one, same, other = (data.load(Config(data=path, training=Training(seed=seed))) for seed in (1, 1, 2))
    assert one.train.texts == same.train.texts
    assert one.fingerprint == same.fingerprint
    assert one.test.texts != other.test.texts
    assert one.fingerprint != other.fingerprint


def test_folder_tree_as_the_official_archive_has_it(tmp_path):
    for part in ("train", "test"):
        for label in ("neg", "pos", "unsup"):
            for n in range(20):
                write(tmp_path / "mine" / part / label / f"{n}_1.txt", f"{part} {label} {n}")
    splits = data.load(Config(data=str(tmp_path / "mine")))
    assert splits.train.class_names == ("neg", "pos")
    assert len(splits.train.texts) + len(splits.validation.texts) == 40
    assert sorted(splits.test.texts) == sorted(f"test {label} {n}" for label in ("neg", "pos") for n in range(20))


def test_folder_without_a_test_part_is_cut(tmp_path):
    for label in ("neg", "pos"):
        for n in range(20):
            write(tmp_path / "mine" / label / f"{n}.txt", f"{label} {n}")
    assert len(data.load(Config(data=str(tmp_path / "mine"))).test.texts) == 8


def test_empty_and_repeated_texts_are_dropped_and_told(tmp_path, capsys):
    rows = [*THREE_CLASSES, ("", "good"), ("   ", "bad"), *THREE_CLASSES[:5]]
    splits = data.load(Config(data=write_rows(tmp_path / "mine.csv", rows)))
    assert sum(len(part.texts) for part in (splits.train, splits.validation, splits.test)) == len(THREE_CLASSES)
    assert "7 of 127 rows dropped, 2 empty, the rest repeated" in capsys.readouterr().out


def test_limit_takes_from_every_class_of_sorted_data(tmp_path):
    rows = [(f"bad {n}", "neg") for n in range(200)] + [(f"good {n}", "pos") for n in range(200)]
    splits = data.load(Config(data=write_rows(tmp_path / "mine.csv", rows), limit=50))
    assert len(splits.train.texts) + len(splits.validation.texts) == 50
    assert np.bincount(splits.train.labels).min() > 10


def test_columns_may_be_called_as_those_that_are_not_asked_for(tmp_path):
    rows = [(f"title {n} {label}", "body", label, "other") for n in range(20) for label in ("a", "b")]
    path = write_rows(tmp_path / "mine.csv", rows, ("title", "text", "stars", "label"))
    splits = data.load(Config(data=path, text_column="title", label_column="stars"))
    assert splits.train.class_names == ("a", "b")
    assert splits.train.texts[0].startswith("title ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "x", r"expected .csv, .tsv, .jsonl or a folder; got '.xlsx'"),
        ("a.csv", "review,label\nfine,pos\n", r"no column 'text'; it has \['review', 'label'\]. Name it with --text-column"),
        ("a.csv", "text,stars\nfine,pos\n", "Name it with --label-column"),
        (
            "a.csv",
            "text,label\n" + "fine,pos\nwell,pos\n" * 5,
            r"expected two or more classes; found one, 'pos'. Is --label-col",
        ),
        ("a.csv", "text,label\n ,pos\n,neg\n", r"found none, as there are no texts"),
        ("a.csv", "text,label\n" + "".join(f"row {n},{n}\n" for n in range(60)), "There are 60 classes; if that is not so"),
        ("a.csv", "text,label\nfine,pos\npoor,\n", "1 rows have no label, first rows 2"),
        ("a.csv", "text,label\nfine,pos\npoor,neg\n", "Class 'neg' has 1 reviews, too few to cut 20% off for test"),
        ("a.csv", "text,label\n" + "well, fine,pos\n" * 9, "line 2 has 3 columns, the header 2"),
        ("a.csv", "", "is empty"),
        ("a.jsonl", '{"text": "fine", "label": null}\n{"text": "poor", "label": "neg"}', "1 rows have no label, first rows 1"),
    ],
)
def test_bad_files_are_told_apart(name, content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        data.load(Config(data=write(tmp_path / name, content)))


def test_own_files_of_every_sort_are_read(tmp_path):
    """An ending in capitals, UTF-16, semicolons, a class of 60, numbers as texts, half an emoji."""
    table = pd.DataFrame({"text": range(900), "label": [f"class {n % 60}" for n in range(900)]})
    (tmp_path / "mine.CSV").write_text(table.to_csv(index=False, sep=";"), encoding="utf-16")
    splits = data.load(Config(data=str(tmp_path / "mine.CSV")))
    assert len(splits.train.class_names) == 60
    assert sorted(int(t) for part in splits[:3] for t in part.texts) == [*range(900)]
    rows = [{"text": f"\ud83d {n}", "label": n % 2} for n in range(40)]
    write(tmp_path / "mine.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert data.load(Config(data=str(tmp_path / "mine.jsonl"))).train.texts[0].startswith("\ufffd ")


def test_classes_that_differ_in_spelling_alone_are_warned_of(tmp_path, capsys):
    rows = [(f"text {n} {label}", label) for n in range(20) for label in ("spam", "SPAM ", "ham")]
    splits = data.load(Config(data=write_rows(tmp_path / "mine.csv", rows)))
    assert splits.train.class_names == ("SPAM", "ham", "spam")
    assert "['SPAM', 'spam'] differ in their spelling alone, and are taken for 2 classes" in capsys.readouterr().out


def test_a_positive_class_that_is_not_there_is_refused(tmp_path):
    path = write_rows(tmp_path / "mine.csv", THREE_CLASSES)
    assert data.load(Config(data=path, positive="fine")).name == "mine.csv"
    with pytest.raises(UserError, match="--positive 'spam': there is no such class; there are bad, fine, good"):
        data.load(Config(data=path, positive="spam"))


def test_empty_folder_says_what_was_expected(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match=r"a folder for each class with .txt files"):
        data.load(Config(data=str(tmp_path / "mine")))


def test_train_and_test_with_other_classes_are_refused(tmp_path):
    for part, labels in (("train", "ab"), ("test", "ac")):
        for label in labels:
            write(tmp_path / "mine" / part / label / "1.txt", "text")
    with pytest.raises(UserError, match=r"train has the classes \('a', 'b'\), test has \('a', 'c'\)"):
        data.load(Config(data=str(tmp_path / "mine")))


@pytest.mark.usefixtures("offline")
def test_without_imdb_a_banner_says_why_and_the_sample_is_used(capsys):
    splits = data.load(Config(limit=200))
    assert splits.name == "sample"
    banner = capsys.readouterr().out
    assert "IMDB is not available: ai.stanford.edu does not answer" in banner
    assert "Going on with the SAMPLE, generated reviews" in banner
    with pytest.raises(UserError, match=r"IMDB is not available: ai.stanford.edu does not answer"):
        data.load(Config(dataset="imdb"))


def test_sample_is_balanced_and_the_same_for_a_seed():
    texts, labels = sample.make_reviews(500, seed=1)
    assert labels.sum() == 250
    assert texts == sample.make_reviews(500, seed=1)[0] != sample.make_reviews(500, seed=2)[0]


def test_counting_words_fails_on_the_sample():
    texts, labels = sample.make_reviews(4000, seed=0)
    bag_of_words = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=500)).fit(texts[:3000], labels[:3000])
    assert bag_of_words.score(texts[3000:], labels[3000:]) < 0.7


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Great!<br /><br />Really", "great ! really"),
        ("It isn't 'good', it's 'great'.", "it isn't good it's great"),
        ("7/10, not 10 / 10 and/or 3/5?", "7/10 not 10 10 and or 3/5 ?"),
        ("<b>Déjà vu</b> -- ÉTÉ 北京", "déjà vu été 北京"),
        ("  \n ", "(empty)"),
        ("...", "(empty)"),
        ("", "(empty)"),
        ("2 < 3 and 5 > 4", "2 3 and 5 4"),
        ("It isn’t ‘good’, it’s “great”.", "it isn't good it's great"),
        ("हिन्दी में लिखा", "हिन्दी में लिखा"),
        ("தமிழ் திரைப்படம்", "தமிழ் திரைப்படம்"),
        ("หนังดีที่สุด ไม่ดี", "หนังดีที่สุด ไม่ดี"),
        ("De\u0301ja\u0300 vu", "déjà vu"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("so good🙂🙂, really👍🏽!", "so good 🙂 🙂 really 👍🏽 !"),
        ("I ❤️it 👨\u200d👩\u200d👧🇩🇪🇫🇷", "i ❤️ it 👨\u200d👩\u200d👧 🇩🇪 🇫🇷"),
        ("a \u0301 \u200d b →\ufe0fc", "a b c"),
        ("half \ud83d of it", "half ? of it"),
    ],
)
def test_standardize(raw, expected):
    assert [" ".join(words) for words in text.split_words([raw])] == [expected]


TEXTS = ["not bad at all", "not at all bad", "bad bad bad", "all is not bad !"]


def build(texts):
    """The vectorizer that is learned from the texts, and its number of ids."""
    lookup = text.learn_words(texts, 50)
    word_ids = [lookup(tf.constant(chunk)).numpy().astype("int32") for _, chunk in words.in_chunks(texts)]
    bags, num_ids = ngrams.learn_ngrams(word_ids, lookup.vocabulary_size())
    return text.build_vectorizer(lookup, bags, sequence_length=8), num_ids


@pytest.fixture(scope="module")
def built():
    """Of texts that come twice each, so that every word and n-gram counts."""
    return build(TEXTS * 2)


def grams(line):
    """The set of words, pairs and triples, as Python finds them."""
    words = line.split()
    return {tuple(words[n : n + order]) for order in (1, 2, 3) for n in range(len(words) - order + 1)}


def test_ids_are_the_words_pairs_and_triples_that_python_finds(built):
    """Two texts have as many ids in common as n-grams, whichever two; a text with itself included."""
    vectorizer, num_ids = built
    bags = [set(bag.tolist()) for bag in text.vectorize(vectorizer, TEXTS)["bag"].numpy()]
    assert max(set.union(*bags)) < num_ids
    for one, bag in zip(TEXTS, bags, strict=True):
        for other, other_bag in zip(TEXTS, bags, strict=True):
            assert len(bag & other_bag) == len(grams(one) & grams(other))


def test_rare_words_are_1_and_rare_ngrams_do_not_count():
    vectorizer, _ = build(TEXTS)
    frequent = {gram for gram in set.union(*map(grams, TEXTS)) if sum(gram in grams(line) for line in TEXTS) >= 2}
    line = "not bad ! at all bad"  # "!" stands in one text alone
    ids = text.vectorize(vectorizer, [line])
    assert (ids["sequence"][0].numpy() > 1).tolist() == [True, True, False, True, True, True]
    assert len(ids["bag"][0]) == 1 + len(grams(line) & frequent)  # one is the unknown word


def test_ngrams_of_which_none_comes_back_are_no_error():
    vectorizer, _ = build(["not bad", "bad not"])
    assert len(text.vectorize(vectorizer, ["not bad"])["bag"][0]) == 2


def test_no_word_that_comes_back_is_the_users_to_fix():
    with pytest.raises(UserError, match="No word stands in 2 of the 2 training reviews: give more of them"):
        text.learn_words(["good", "bad"], 50)


def test_without_ngrams_there_is_no_bag():
    vectorizer = text.build_vectorizer(text.learn_words(TEXTS, 50), None, sequence_length=8)
    assert set(text.vectorize(vectorizer, TEXTS)) == {"sequence"}


def words_of(vectorizer):
    return vectorizer.get_layer("words").get_vocabulary()


def test_as_many_long_reviews_at_a_time_as_words_are_read():
    """Keras's ops.add takes a column as long as the other array's rows are wide for a row, where all sizes are known."""
    lines = [" ".join(np.random.default_rng(n).choice([*"abcd"], 9 + 3 * n)) for n in range(8)]
    vectorizer, _ = build(lines)
    together = vectorizer(tf.constant(lines))["sequence"].numpy()
    assert together.shape == (8, 8)
    np.testing.assert_array_equal(together, [vectorizer(tf.constant([line]))["sequence"].numpy()[0] for line in lines])


def test_ids_do_not_depend_on_what_stands_beside(monkeypatch):
    """Chunks of a few characters give what one chunk gives, in the order of the texts."""
    lines = [" ".join(np.random.default_rng(n).choice(["not", "bad", "at", "all", "!"], 1 + 7 * n % 30)) for n in range(60)]
    whole, num_ids = build(lines)
    expected = text.vectorize(whole, lines)
    monkeypatch.setattr(words, "CHUNK_CHARACTERS", 40)
    in_pieces, same = build(lines)
    assert (words_of(in_pieces), same) == (words_of(whole), num_ids)
    for name, ids in text.vectorize(in_pieces, lines).items():
        assert ids.to_list() == expected[name].to_list()


BOOK_AMONG_REVIEWS = """
import re
from pathlib import Path
import numpy as np
from test_sentiment_data import build, text
rng = np.random.default_rng(0)
lengths = [*rng.integers(5, 60, 10_000), 1_000_000]
texts = [" ".join(f"w{word}" for word in rng.zipf(1.2, length) % 50_000) for length in lengths]
vectorizer, _ = build(texts)
ids = text.vectorize(vectorizer, texts)
# Not getrusage's ru_maxrss: Linux hands the parent's peak on to it.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(ids["sequence"].nrows().numpy(), int(peak) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
def test_a_book_of_a_million_words_among_reviews_fits_2_gb():
    """In a process of its own, TensorFlow's own half a gigabyte included: padding the reviews to the book would take 40."""
    paths = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
    answer = subprocess.run([sys.executable, "-c", paths + BOOK_AMONG_REVIEWS], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    count, megabytes = map(int, answer.stdout.split())
    assert count == 10_001
    assert megabytes < 2_000


def test_of_a_book_head_and_tail_are_counted(monkeypatch):
    monkeypatch.setattr(text, "MAX_WORDS", 8)
    vectorizer, _ = build(TEXTS * 2)
    book, rest = (["not bad " + "all " * 50 + "at " * 6], ["not bad" + " at" * 6])
    assert text.vectorize(vectorizer, book)["bag"].to_list() == text.vectorize(vectorizer, rest)["bag"].to_list()


def test_texts_of_one_character_each_have_a_baseline():
    train = data.Reviews(["a", "b", "a", "b", "🙂", "!"] * 3, np.array([0, 1, 0, 1, 0, 1] * 3), ("x", "y"))
    fitted = baseline.fit_baseline(train, train)
    assert fitted.predict(["a", "b", "🙂", "!"]).tolist() == [0, 1, 0, 1]


def test_long_reviews_keep_head_and_tail(built):
    vectorizer, _ = built
    long = ["at", "all", "bad", "not", "not", "not", "bad", "at", "all", "not", "bad"]
    row = text.vectorize(vectorizer, [" ".join(long)])["sequence"][0].numpy()
    words = words_of(vectorizer)
    assert [words[number] for number in row] == long[:2] + long[-6:]


def test_no_row_is_ever_all_padding(built):
    vectorizer, _ = built
    ids = vectorizer(tf.constant(["", "...", "not bad"]))
    assert ids["sequence"][:, 0].numpy().tolist()[:2] == [1, 1]


def test_log_ratios_equal_those_from_scikit_learns_counts():
    rows = [["good", "film"], ["good", "cast"], ["bad", "film"], ["bad", "bad"], ["so", "so"]]
    labels = np.array([1, 1, 0, 0, 2])
    counter = CountVectorizer(binary=True)
    counts = counter.fit_transform([" ".join(row) for row in rows]).toarray()
    bags = tf.ragged.constant([sorted({counter.vocabulary_[word] + 2 for word in row}) for row in rows])
    got = ngrams.naive_bayes_log_ratios(bags, labels, num_ids=2 + len(counter.vocabulary_))
    for k in range(3):
        p, q = counts[labels == k].sum(axis=0) + 1, counts[labels != k].sum(axis=0) + 1
        total_p, total_q = p.sum() + 2, q.sum() + 2  # the two ids of padding and unknown are counted, too
        np.testing.assert_allclose(got[2:, k], np.log(p / total_p) - np.log(q / total_q), rtol=1e-5)
    np.testing.assert_array_equal(got[:2], 0)
