"""Tables of any size are answered in parts, every row once, in its order; a mistake leaves nothing behind."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from shared import large_tables
from shared.cli import UserError

TEXTS = ["plain", "with, a comma", 'with "quotes"', "two\nlines", "ünï 🙂", "", "007"]


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(large_tables, "ROWS", 3)


def lengths(texts):
    return pd.DataFrame({"length": [len(text) for text in texts], "seen": texts})


def written(kind, texts=TEXTS):
    table = pd.DataFrame({"id": range(len(texts)), "text": texts})
    file = Path(f"in{kind}")
    if kind == ".parquet":
        table.to_parquet(file)
    elif kind == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    else:
        table.to_csv(file, index=False, sep="\t" if kind == ".tsv" else ",")
    return file


def read(file):
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    if file.suffix == ".jsonl":
        return pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])
    return pd.read_csv(file, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("output", [".csv", ".jsonl", ".parquet"])
def test_every_row_is_answered_once_in_its_order(kind, output):
    file = Path(f"out{output}")
    assert large_tables.answer_file(written(kind), file, "text", lengths) == len(TEXTS)
    table = read(file)
    assert table.columns.tolist() == ["id", "text", "length", "seen"]
    assert table["text"].tolist() == table["seen"].tolist() == TEXTS
    assert table["id"].astype(int).tolist() == list(range(len(TEXTS)))
    assert table["length"].astype(int).tolist() == [len(text) for text in TEXTS]


def test_a_text_file_has_a_row_per_line():
    Path("in.txt").write_text("\ufeffone\r\n\n  two \nthree\n\nfour", encoding="utf-8")
    large_tables.answer_file(Path("in.txt"), Path("out.csv"), "review", lengths)
    assert read(Path("out.csv"))["review"].tolist() == ["one", "two", "three", "four"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_share_the_rows(count):
    source, found = written(".csv"), []
    for number in range(count):
        shard = large_tables.read_shard(f"{number}/{count}")
        large_tables.answer_file(source, Path(f"{number}.csv"), "text", lengths, shard)
        ids = read(Path(f"{number}.csv"))["id"].astype(int).tolist()
        assert ids == list(range(len(TEXTS)))[number::count]
        found += ids
    assert sorted(found) == list(range(len(TEXTS)))


@pytest.mark.parametrize("text", ["", "3", "2/2", "-1/2", "a/b", "0/0"])
def test_a_shard_is_two_numbers(text):
    with pytest.raises(UserError, match=r"--shard is K/N, with K from 0 to N - 1, for example 0/8; got"):
        large_tables.read_shard(text or "/")


def test_a_long_table_is_never_in_memory_as_a_whole():
    """What is held at a time are a few parts: measured by how far reading is ahead of answering."""
    asked = []

    def answer(texts):
        asked.append(len(texts))
        return lengths(texts)

    large_tables.answer_file(written(".csv", [f"row {n}" for n in range(100)]), Path("out.csv"), "text", answer)
    assert sum(asked) == 100
    assert max(asked) == 3


@pytest.mark.parametrize(
    ("content", "name", "output", "message"),
    [
        ("id,words\n1,a\n", "in.csv", "out.csv", "in.csv has no column 'text'; it has id, words."),
        ("id,text\n1,a\n2,b,c\n", "in.csv", "out.csv", "--file in.csv does not parse: .*Expected 2 fields in line 3, saw 3"),
        ('{"text": "a"}\n{"text": \n', "in.jsonl", "out.csv", "--file in.jsonl does not parse"),
        ("no parquet", "in.parquet", "out.csv", "--file in.parquet does not parse"),
        ("id,text\n1,caf\udce9\n", "in.csv", "out.csv", "is not UTF-8"),
        ("id,text\n", "in.csv", "out.csv", "in.csv holds no row."),
        ("a\n", "in.doc", "out.csv", "--file in.doc: the name ends in one of .csv, .tsv"),
        ("a\n", "in.txt", "out.doc", "--output out.doc: the name ends in one of .csv, .jsonl, .parquet"),
        ("a\n", "in.txt", "nowhere/out.csv", "the folder nowhere does not exist"),
        (None, "gone.csv", "out.csv", "--file gone.csv can't be read: No such file"),
    ],
)
def test_a_users_mistake_leaves_nothing_behind(content, name, output, message):
    if content is not None:
        Path(name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message.replace(".csv", r"\.csv")):
        large_tables.answer_file(Path(name), Path(output), "text", lengths)
    assert {path.name for path in Path().iterdir()} <= {name}


def test_nothing_is_overwritten():
    Path("out.csv").write_text("mine")
    with pytest.raises(UserError, match=re.escape("--output out.csv exists already; nothing was overwritten")):
        large_tables.answer_file(written(".csv"), Path("out.csv"), "text", lengths)
    assert Path("out.csv").read_text() == "mine"
