"""Tables of any size are answered in parts, every row once, in its order; a mistake leaves nothing behind."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from shared import large_tables
from shared.cli import UserError
from shared.settings import TableRequest, read_shard

TEXTS = ["plain", "with, a comma", 'with "quotes"', "two\nlines", "ünï 🙂", "", "007"]


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(large_tables, "ROWS", 3)


def answer_all(source, output, column="text", shard=None, answer=None, rows_at_a_time=None):
    request = TableRequest(str(source), str(output), shard)
    return large_tables.answer_file(request, column, answer or lengths, rows_at_a_time)


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
    assert answer_all(written(kind), file) == len(TEXTS)
    table = read(file)
    assert table.columns.tolist() == ["id", "text", "length", "seen"]
    assert table["text"].tolist() == table["seen"].tolist() == TEXTS
    assert table["id"].astype(int).tolist() == list(range(len(TEXTS)))
    assert table["length"].astype(int).tolist() == [len(text) for text in TEXTS]


def test_a_text_file_has_a_row_per_line():
    Path("in.txt").write_text("\ufeffone\r\n\n  two \nthree\n\nfour", encoding="utf-8")
    answer_all("in.txt", "out.csv", "review")
    assert read(Path("out.csv"))["review"].tolist() == ["one", "two", "three", "four"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_share_the_rows(count):
    source, found = written(".csv"), []
    for number in range(count):
        answer_all(source, f"{number}.csv", shard=f"{number}/{count}", rows_at_a_time=2)
        ids = read(Path(f"{number}.csv"))["id"].astype(int).tolist()
        assert ids == list(range(len(TEXTS)))[number::count]
        found += ids
    assert sorted(found) == list(range(len(TEXTS)))


@pytest.mark.parametrize("text", ["", "3", "2/2", "-1/2", "a/b", "0/0"])
def test_a_shard_is_two_numbers(text):
    with pytest.raises(UserError, match=r"--shard is K/N, with K from 0 to N - 1, for example 0/8; got"):
        read_shard(text)
    with pytest.raises(UserError, match=r"--shard is K/N"):
        TableRequest("in.csv", shard=text)


def test_a_shard_needs_a_file():
    with pytest.raises(UserError, match="--shard is for --file; got 0/2 without one"):
        TableRequest(shard="0/2")


@pytest.mark.parametrize("shard", [None, "1/4"])
def test_a_long_table_is_never_in_memory_as_a_whole(shard):
    """What is held at a time are a few parts: measured by how far reading is ahead of answering."""
    asked = []

    def answer(texts):
        asked.append(len(texts))
        return lengths(texts)

    source = written(".csv", [f"row {n}" for n in range(100)])
    answer_all(source, "out.csv", shard=shard, answer=answer, rows_at_a_time=5)
    assert sum(asked) == (25 if shard else 100)
    assert max(asked) == 5
    assert len(asked) <= 21  # a part that ends early, the first one, has a header


def test_the_only_column_of_a_table_needs_no_separator():
    Path("in.csv").write_text('\n text\nplain\n"with, a comma"\n'.replace(" ", "", 1))
    answer_all("in.csv", "out.csv")
    assert read(Path("out.csv"))["text"].tolist() == ["plain", "with, a comma"]


def test_what_is_no_text_is_answered_as_text():
    Path("in.jsonl").write_text('{"text": null}\n{"text": 57}\n{"id": 1}\n{"text": "\\ud83d"}\n')
    answer_all("in.jsonl", "out.csv")
    assert read(Path("out.csv"))["seen"].tolist() == ["", "57", "", "\ufffd"]


def test_other_columns_stay_what_they_are():
    lines = [{"text": "a", "id": 7, "created_at": "2020-01-01"}, {"text": "b", "id": None, "created_at": "2020-01-02"}]
    Path("in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer_all("in.jsonl", "out.parquet")
    answer_all("out.parquet", "out.jsonl", answer=lambda texts: pd.DataFrame({"again": texts}))
    kept = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in ("text", "id", "created_at")} for row in kept] == lines


def test_objects_with_other_names_stand_in_their_own_columns():
    rows = [{"text": "a", "n": 1}] * 3 + [{"text": "b", "m": 4}] * 3
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer_all("in.jsonl", "out.csv")
    table = read(Path("out.csv"))
    assert table["n"].tolist() == ["1"] * 3 + [""] * 3
    assert table["m"].str.removesuffix(".0").tolist() == [""] * 3 + ["4"] * 3


def test_an_answer_does_not_take_the_place_of_a_column():
    Path("in.csv").write_text("text,length\nplain,7\n")
    answer_all("in.csv", "out.csv")
    assert read(Path("out.csv")).to_dict("records") == [
        {"text": "plain", "length": "7", "length_predicted": "5", "seen": "plain"}
    ]
    with pytest.raises(UserError, match=r"out\.csv has a column 'length_predicted', which answers would be written to"):
        answer_all("out.csv", "again.csv")
    assert not Path("again.csv").exists()


def test_rows_that_fit_no_parquet_table():
    Path("in.jsonl").write_text('{"text": "a", "n": 1}\n' * 3 + '{"text": "a", "n": "x"}\n' * 3)
    with pytest.raises(UserError, match=r"do not fit into one \.parquet table \(.*column n.*\)\. Name a \.csv or \.jsonl"):
        answer_all("in.jsonl", "out.parquet")
    assert [path.name for path in Path().iterdir()] == ["in.jsonl"]
    answer_all("in.jsonl", "out.jsonl")


def short(text):
    if len(text) > 9:
        raise UserError(f"{text} is too long")
    return len(text)


def squares(numbers):
    return pd.DataFrame(
        {"label": pd.array([str(n) for n in numbers], dtype="string"), "square": [float(n * n) for n in numbers]}
    )


@pytest.mark.parametrize("output", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("bad", [0, 1, 4], ids="bad row {}".format)
def test_rows_that_cannot_be_answered_say_why(output, bad):
    texts = ["one", "four", "three", "seven", "eight"]
    texts[bad] = "a long text"
    file = Path(f"out{output}")
    with pytest.raises(UserError, match=r"^1 of 5 rows could not be answered; out\..* says why, in the column 'problem'"):
        answer_all(
            written(".csv", texts),
            file,
            answer=lambda texts: large_tables.answer_readable(texts, short, squares),
            rows_at_a_time=1,
        )
    table = read(file)
    answers = [json.loads(line) for line in table.to_json(orient="records", lines=True).splitlines()]
    for place, (text, row) in enumerate(zip(texts, answers, strict=True)):
        empty = "" if output == ".csv" else None
        assert row["text"] == text
        assert row["problem"] == ("a long text is too long" if place == bad else empty)
        assert row["label"] == (empty if place == bad else str(len(text)))
        assert row["square"] == empty if place == bad else float(row["square"]) == len(text) ** 2


def test_labels_are_a_table_even_of_nothing():
    answers = [{"label": "b", "probabilities": {"a": 0.25, "b": 0.75}}]
    [row] = large_tables.labels(answers, ["a", "b"]).to_dict("records")
    assert row == {"label": "b", "probability_a": 0.25, "probability_b": 0.75}
    nothing = large_tables.labels([], ["a", "b"])
    assert nothing.dtypes.equals(large_tables.labels(answers, ["a", "b"]).dtypes)
    assert len(nothing) == 0


@pytest.mark.parametrize(
    ("content", "name", "output", "message"),
    [
        ("id,words\n1,a\n", "in.csv", "out.csv", "in.csv has no column 'text'; it has id, words."),
        ("id,text\n1,a\n2,b,c\n", "in.csv", "out.csv", "--file in.csv does not parse: .*Expected 2 fields in line 3, saw 3"),
        ('{"text": "a"}\n\n{"text": \n', "in.jsonl", "out.csv", "--file in.jsonl does not parse: line 3: Expecting value"),
        ('{"text": "a"}\n["a"]\n', "in.jsonl", "out.csv", "--file in.jsonl does not parse: line 2 is no object: .*a"),
        ("no parquet", "in.parquet", "out.csv", "--file in.parquet does not parse"),
        ("id,text\n1,caf\udce9\n", "in.csv", "out.csv", "is not UTF-8"),
        ("id,text\n", "in.csv", "out.csv", "in.csv holds no row."),
        ("", "in.csv", "out.csv", "in.csv holds no row."),
        ("", "in.jsonl", "out.csv", "in.jsonl holds no row."),
        ("text,text\na,b\n", "in.csv", "out.csv", "in.csv has several columns that are called 'text'. Rename all but one."),
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
        answer_all(name, output)
    assert {path.name for path in Path().iterdir()} <= {name}


def test_nothing_is_overwritten():
    Path("out.csv").write_text("mine")
    with pytest.raises(UserError, match=re.escape("--output out.csv exists already; nothing was overwritten")):
        answer_all(written(".csv"), "out.csv")
    assert Path("out.csv").read_text() == "mine"


def test_a_mistake_far_down_is_found_before_anything_is_answered():
    Path("in.csv").write_text("id,text\n" + "1,a\n" * 20 + "1,a,b\n")
    with pytest.raises(UserError, match="Expected 2 fields in line 22, saw 3"):
        answer_all("in.csv", "out.csv", answer=lambda texts: pytest.fail("answered"))


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_a_shard_without_rows_writes_a_table_without_rows(kind):
    """Of nine processes that share seven rows, two have nothing to do, which is no failure."""
    assert answer_all(written(".csv"), f"whole{kind}") == 7
    assert answer_all(written(".csv"), f"out{kind}", shard="7/9") == 0
    if kind == ".jsonl":
        assert Path(f"out{kind}").read_text() == ""
    else:
        read = pd.read_csv if kind == ".csv" else pd.read_parquet
        assert [*read(f"out{kind}").columns] == [*read(f"whole{kind}").columns]
        assert len(read(f"out{kind}")) == 0


def test_a_table_without_rows():
    Path("in.csv").write_text("text,label\n")
    with pytest.raises(UserError, match=r"in.csv holds no row\."):
        answer_all("in.csv", "out.csv")


def test_output_is_for_a_file():
    with pytest.raises(UserError, match=r"--output is for --file; got mine.csv without one"):
        TableRequest(output="mine.csv")


def test_two_processes_with_one_output_do_not_write_into_each_other():
    file = written(".csv")

    def answer_while_another_begins(texts):
        with pytest.raises(UserError, match=r"out\.csv is being written by another process\. Name another file: each shard"):
            answer_all(file, "out.csv", shard="1/2")
        return lengths(texts)

    assert answer_all(file, "out.csv", shard="0/2", answer=answer_while_another_begins) == 4
    assert read(Path("out.csv"))["text"].tolist() == TEXTS[::2]
    assert not Path("out.csv.part").exists()
