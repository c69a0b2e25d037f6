"""Length buckets, fingerprints, and the public dataset where it is not available."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from shared import batches as batching
from shared import data
from shared.cli import UserError


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
@pytest.mark.parametrize("size", [1, 7, 64, 65, 1000])
def test_buckets_lose_and_double_nothing(size, rng):
    lengths = np.random.default_rng(1).integers(1, 500, size)
    batches = batching.indices_by_length(lengths, 64, rng)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(size))
    assert len(batches) == -(-size // 64)
    assert all(len(batch) <= 64 for batch in batches)


def test_buckets_need_less_than_half_the_places_of_batches_as_they_come():
    lengths = np.random.default_rng(1).lognormal(5.2, 0.65, 5000).astype(int) + 1  # about IMDB's

    def places(batches):
        return sum(len(batch) * lengths[batch].max() for batch in batches)

    as_they_come = np.array_split(np.arange(5000), 5000 // 50)
    buckets = batching.indices_by_length(lengths, 50, np.random.default_rng(0))
    assert places(buckets) < 0.5 * places(as_they_come)
    assert places(buckets) < 1.25 * lengths.sum()


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_buckets_of_pairs_have_little_padding_on_both_sides(rng):
    """By the first length alone, the second is padded to half as much again."""
    drawn = np.random.default_rng(1)
    sources = drawn.poisson(8, 5000) + 1
    lengths = np.stack([sources, sources + drawn.poisson(3, 5000)], axis=1)
    batches = batching.indices_by_length(lengths, 50, rng)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(5000))

    def places(batches):
        return sum(len(batch) * lengths[batch].max(axis=0) for batch in batches)

    assert (places(batches) < 1.12 * lengths.sum(axis=0)).all()
    assert places(batching.indices_by_length(lengths[:, 0], 50, rng))[1] > 1.3 * lengths[:, 1].sum()


def test_two_features_whose_lengths_make_the_buckets():
    sources = [[n] * (1 + n % 3) for n in range(24)]
    targets = [[n] * (1 + n // 3 % 4) for n in range(24)]
    features = {"source": tf.ragged.constant(sources), "target": tf.ragged.constant(targets)}
    batches = batching.batches_by_length(features, np.arange(24), 2, seed=0, by=("source", "target")).take(12)
    padded = [(one["source"].shape[1], one["target"].shape[1]) for one, _ in batches]
    assert sorted(padded) == sorted([(source, target) for source in range(1, 4) for target in range(1, 5)])


def ragged(rows):
    return {"ids": tf.ragged.constant(rows, dtype=tf.int32)}


def test_batches_hold_each_row_once_with_its_label_padded_on_the_right():
    rows = [[n] * n for n in range(1, 12)]
    batches, steps = batching.batches_by_length(ragged(rows), np.arange(1, 12), 4, seed=0), batching.count_batches(11, 4)
    assert steps == 3
    seen = []
    for features, labels in batches.take(steps):
        for row, label in zip(features["ids"].numpy(), labels.numpy(), strict=True):
            assert row.tolist() == [label] * label + [0] * (len(row) - label)
            seen.append(label)
    assert sorted(seen) == list(range(1, 12))


def test_an_epoch_depends_on_seed_and_number_alone():
    rows = [[n] * (1 + n % 5) for n in range(40)]

    def order(first_epoch, epochs, seed=0):
        batches = batching.batches_by_length(ragged(rows), np.arange(40), 8, seed, first_epoch)
        return [labels.numpy().tolist() for _, labels in batches.take(5 * epochs)]

    whole = order(0, 3)
    assert order(1, 2) == whole[5:]  # a resumed run sees what the uninterrupted one saw
    assert whole[:5] != whole[5:10]
    assert order(0, 3, seed=1) != whole


def test_evaluation_order_leads_back_to_the_rows():
    rows = [[n] * (1 + 7 * n % 5) for n in range(1, 20)]
    batches, order = batching.batches_in_order(ragged(rows), np.arange(1, 20), 4)
    labels = np.concatenate([labels.numpy() for _, labels in batches])
    np.testing.assert_array_equal(labels, np.arange(1, 20)[order])
    assert len(list(batches)) == len(list(batches)) == 5  # can be gone through again


def test_labels_of_every_step_are_padded_with_what_is_no_label():
    rows = [[n] * n for n in range(1, 8)]
    batches, order = batching.batches_in_order(ragged(rows), tf.ragged.constant(rows), 3)
    found = [row for _, labels in batches for row in labels.numpy()]
    assert [row[row >= 0].tolist() for row in found] == [rows[place] for place in order]
    assert {number for row in found for number in row[row < 0]} == {-1}


def test_fingerprint_tells_content_and_cuts_apart():
    assert data.fingerprint([b"ab", b"c"]) == data.fingerprint([b"ab", b"c"])
    assert data.fingerprint([b"ab", b"c"]) != data.fingerprint([b"a", b"bc"])


def prepare(folder, version, texts):
    """A dataset as TensorFlow Datasets leaves it, of a version that its own code no longer knows."""
    features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)})
    rows = tf.data.Dataset.from_tensor_slices({"text": texts, "label": np.arange(len(texts)) % 2})
    builder = tfds.dataset_builders.TfDataBuilder(
        name="imdb_reviews",
        version=version,
        config="plain_text",
        features=features,
        split_datasets={"train": rows},
        data_dir=folder,
        file_format="tfrecord",
    )
    builder.download_and_prepare()


def test_a_prepared_dataset_is_read_whatever_its_version(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data.read_prepared("imdb_reviews/plain_text", ["train"]) is None
    prepare(tmp_path, "0.1.0", ["bad", "good"])
    [rows] = data.read_prepared("imdb_reviews/plain_text", ["train"])
    for _ in range(2):  # can be gone through again
        assert [(row["text"].decode(), int(row["label"])) for row in rows()] == [("bad", 0), ("good", 1)]


def test_a_damaged_prepared_dataset_says_which_folder_to_remove(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare(tmp_path, "0.1.0", ["bad", "good"])
    folder = tmp_path / "imdb_reviews" / "plain_text" / "0.1.0"
    with pytest.raises(data.Unavailable, match=rf"{folder} can't be read \(.*\); remove that folder"):
        data.read_prepared("imdb_reviews/plain_text", ["nosuch"])
    [records] = folder.glob("*.tfrecord*")
    records.write_bytes(b"not a record")
    [rows] = data.read_prepared("imdb_reviews/plain_text", ["train"])
    with pytest.raises(data.Unavailable, match=rf"{folder} can't be read"):
        list(rows())
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(data.Unavailable, match=rf"{folder} can't be read"):
        data.read_prepared("imdb_reviews/plain_text", ["train"])


def load(choice, public):
    return data.public_or_sample(choice, "IMDB", public, sample=lambda: "sample", about_sample="generated reviews")


def not_available():
    raise data.Unavailable("no route to host")


@pytest.mark.parametrize("choice", ["auto", "imdb"])
def test_the_public_dataset_is_taken_where_it_is_available(choice, capsys):
    assert load(choice, lambda: "public") == "public"
    assert capsys.readouterr().out == ""


def test_without_it_the_sample_is_taken_with_a_banner_that_gives_the_reason(capsys):
    assert load("auto", not_available) == "sample"
    banner = capsys.readouterr().out
    assert banner.startswith("=" * 80 + "\nIMDB is not available: no route to host.\n")
    assert "SAMPLE, generated reviews" in banner


def test_asked_for_by_name_it_has_to_be_available(capsys):
    with pytest.raises(UserError, match="IMDB is not available: no route to host") as error:
        load("imdb", not_available)
    assert not isinstance(error.value, data.Unavailable)
    assert capsys.readouterr().out == ""


def test_the_sample_asked_for_by_name_comes_without_banner_and_without_asking_for_the_public_dataset(capsys):
    assert load("sample", None) == "sample"
    assert capsys.readouterr().out == ""


def test_a_mistake_of_the_user_is_not_hidden_by_the_sample():
    def mistake():
        raise UserError("--limit 0")

    with pytest.raises(UserError, match="--limit 0"):
        load("auto", mistake)


def test_missing_path_is_named():
    with pytest.raises(UserError, match=r"--data gone.csv: there is no such file or folder"):
        data.existing_path("--data", "gone.csv")


def test_the_first_batch_is_one_that_replicas_split_evenly():
    """The remainder's place is another one; a lone batch is cut in two; every row stands in one batch."""
    for seed in range(10):
        batches = batching.indices_by_length(np.arange(19), 6, np.random.default_rng(seed), replicas=3)
        assert len(batches[0]) == 6
        assert sorted(np.concatenate(batches)) == list(range(19))
    assert [len(batch) for batch in batching.indices_by_length(np.arange(5), 6, replicas=2)] == [4, 1]
    with pytest.raises(UserError, match="2 examples cannot be split over 3 GPUs"):
        batching.indices_by_length(np.arange(2), 6, replicas=3)
