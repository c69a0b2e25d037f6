"""The reading of own tables: what comes back is what was written, or an error that names the place."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from shared import tables
from shared.cli import UserError


def read(tmp_path, content, name="a.csv", **settings):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tables.read_table(tmp_path / name, **settings)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_what_a_csv_writer_wrote_is_read_back(separator, tmp_path, capsys):
    texts = ['say "no"', "a, b; c\td | e", "two\nlines", "", "NA", "007", "naïve 北京 🙂", '"', "x" * 200_000]
    written = pd.DataFrame({"text": texts, "label": [*"ababababa"], "number": [*"123456789"]})
    got = read(tmp_path, written.to_csv(index=False, sep=separator))
    pd.testing.assert_frame_equal(got, written, check_dtype=False)
    assert "1 of 9 rows run over several lines, between double quotes: row 3" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_with_a_byte_order_mark(encoding, ending, tmp_path):
    got = read(tmp_path, ending.join(["text,label", "Grün,pos", "北京,neg", ""]).encode(encoding))
    assert got.to_dict("list") == {"text": ["Grün", "北京"], "label": ["pos", "neg"]}


def test_wrong_encodings_are_named_with_their_place(tmp_path):
    content = "text,label\nfine,pos\ncafé,pos\n"
    with pytest.raises(UserError, match=r"byte 23 is 0xe9; line 3, byte 4 of it\).*iconv -f latin1"):
        read(tmp_path, content.encode("latin-1"))
    assert read(tmp_path, content.encode("latin-1"), fallback="latin-1")["text"].tolist() == ["fine", "café"]
    with pytest.raises(UserError, match=r"zero byte \(byte 1\).*iconv -f utf-16le"):
        read(tmp_path, content.encode("utf-16-le"), fallback="latin-1")


def test_decimal_commas_do_not_count_as_separators(tmp_path):
    got = read(tmp_path, "Date;T (degC), mean;rh\n01.01.2024;-1,5;3,4\n02.01.2024;1,5;\n")
    assert got.columns.tolist() == ["Date", "T (degC), mean", "rh"]
    assert got["rh"].tolist() == ["3,4", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("text,label\rfine,pos\r", "has a carriage return alone within a line. End lines in a line feed"),
        ("text label\nfine pos\n", "the first line, 'text label', holds no comma, no semicolon.*spaces separate none"),
        ("text,label\nwell, fine,pos\nbad,neg\n", r"line 2 has 3 columns, the header 2. Put a text that holds a comma between"),
        ("text,label\nbad,neg\nwell, fine,pos\n", r"line 3 has 3 columns, the header 2"),
        ("text,label\n" + "well, fine,pos\n" * 200, r"line 2 has 3 columns, the header 2"),
        ('text,label\n"never, closed,pos\nbad,neg\n', "the double quote that row 1 opens is never closed"),
    ],
)
def test_what_does_not_parse_is_explained(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_no_row_of_a_file_with_stray_quotes_is_lost(tmp_path):
    """As the SMS Spam Collection has them: read as quotes, they would join rows."""
    rng = np.random.default_rng(0)
    stray = np.where(rng.random((300, 2)) < 0.1, '"', "")
    texts = [f"{before}message {n}{after} end" for n, (before, after) in enumerate(stray)]
    texts += ['"a whole one"', '"with ""doubled"" ones"', '"she said "hi"']
    content = "label\ttext\n" + "".join(f"ham\t{text}\n" for text in texts)
    assert len(list(csv.reader(io.StringIO(content), delimiter="\t"))) < len(texts)
    got = read(tmp_path, content, "sms.TSV")
    assert got["text"].tolist() == [*texts[:300], "a whole one", 'with "doubled" ones', '"she said "hi"']


def test_column_names_that_are_missing_or_there_twice(tmp_path):
    assert read(tmp_path, " a ,,a\n1,2,3\n").columns.tolist() == ["a", "Unnamed: 1", "a.1"]


def test_json_lines_become_strings(tmp_path):
    rows = [{"text": 3.5, "label": 1}, {"text": None, "label": "a"}, {"label": True}, {"text": "x\u2028y", "label": "🙂"}]
    content = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + '\n{"text": "half \\ud83d", "label": NaN}'
    got = read(tmp_path, content, "a.jsonl")
    assert got["text"].tolist() == ["3.5", "", "", "x\u2028y", "half \ufffd"]
    assert got["label"].tolist() == ["1", "a", "True", "🙂", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"a": 1}\n{"a": ', "line 2: Expecting value"), ('{"a": 1}\n\n[3]', r"line 3 is no object: \[3\]")],
)
def test_bad_json_lines_are_named(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content, "a.jsonl")
