"""Forecasts over HTTP: rows and files are answered as by the predictor; what is wrong with them is said, and ends nothing."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies

from apps.weather import __main__ as commands
from apps.weather import data, sample, serve
from apps.weather.config import DEFAULT
from apps.weather.predict import Predictor
from shared import cli
from shared.serve import make_app
from shared.settings import ServeRequest
from shared.training import Training

TINY = replace(
    DEFAULT,
    preset="smoke",
    data="own.csv",
    limit=1_500,
    stride=6,
    history=4,
    horizon=6,
    recurrent=replace(DEFAULT.recurrent, units=8),
    training=Training(epochs=1, batch_size=64),
)
TARGET = "temperature (degC)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the generated station."""
    from apps.weather.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("served"))
        sample.make_station(days=20).to_csv("own.csv", index=False)
        return train(TINY, data.load(TINY)).absolute()


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run)


@pytest.fixture(scope="module")
def table():
    return sample.make_station(days=20).tail(40).reset_index(drop=True)


@pytest.fixture
def client(predictor):
    with TestClient(make_app("weather", predictor, serve.add_routes, ServeRequest())) as found:
        yield found


def rows_of(table):
    return json.loads(table.assign(time=table["time"].astype(str)).to_json(orient="records"))


def post_rows(client, rows):
    return client.post("/predict", content=json.dumps({"rows": rows}), headers={"Content-Type": "application/json"})


def post_file(client, name, content):
    return client.post("/predict/file", files={"file": (name, content)})


def message_of(answer):
    assert answer.status_code == 422, answer.text
    return answer.json()["detail"]


def message_of_the_command(table, run, capsys):
    table.to_csv("table.csv", index=False)
    with pytest.raises(SystemExit):
        cli.run(lambda: commands.predict(["--data", "table.csv", "--run", str(run)]))
    return capsys.readouterr().err.split("\nerror: ")[1].strip()


def test_rows_and_files_are_answered_as_by_the_predictor(client, predictor, table):
    [expected] = predictor([table])
    assert len(expected["forecast"][TARGET]["50%"]) == 6
    table.to_parquet("new.parquet")
    table.to_csv("new.csv", index=False)
    table.to_csv("new.tsv", index=False, sep="\t")
    assert post_rows(client, rows_of(table)).json() == expected
    for name in ("new.csv", "new.tsv", "new.parquet"):
        assert post_file(client, name, Path(name).read_bytes()).json() == expected
    assert post_file(client, "../../odd\0name/.CSV.CSV", Path("new.csv").read_bytes()).json() == expected


def test_rows_may_lack_values_and_hold_numbers_as_text(client, predictor, table):
    rows = rows_of(table)
    rows[-5]["humidity (%)"] = None
    rows[-6]["humidity (%)"] = float("nan")
    del rows[-7]["humidity (%)"]
    holes = table.assign(**{"humidity (%)": table["humidity (%)"].where(~table.index.isin([33, 34, 35]))})
    [expected] = predictor([holes])
    assert post_rows(client, rows).json() == expected
    for row in rows:
        row[TARGET] = str(row[TARGET]).replace(".", ",")
    assert post_rows(client, rows).json() == expected


def without(column):
    return lambda table: table.drop(columns=column)


def with_value(column, value, row=20):
    return lambda table: table.assign(**{column: [value if at == row else one for at, one in enumerate(table[column])]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("rain (mm)"), "lacks columns that the run was trained on: rain (mm)."),
        (without("time"), "table: no column reads as times; it has ["),
        (without(["time", "wind speed (m/s)"]), "table: no column reads as times"),
        (lambda table: table[["time"]].assign(note="dry"), "table: expected columns of numbers beside 'time'; found none."),
        (lambda table: table.tail(3), "the newest 19 rows without a long gap are needed; 3 rows are there."),
        (lambda table: table[::2], "has a row every 0 days 00:20:00; the run was trained on one every 0 days 00:10:00."),
        (with_value(TARGET, "cold"), "table: column 'temperature (degC)' has text among its numbers in 1 rows, the first"),
        (with_value("time", "later"), "table: column time does not read as times of one format and one zone"),
        (lambda table: table.assign(**{TARGET: 300}), "table: 100% of 'temperature (degC)' lie outside of -90 to 65, between"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_as_the_command_says_it(client, run, table, change, message, capsys):
    wrong = change(table)
    expected = message_of_the_command(wrong, run, capsys)
    assert message in expected
    file = post_file(client, "new.csv", wrong.to_csv(index=False))
    assert message_of(file) == expected
    rows = message_of(post_rows(client, json.loads(wrong.astype(str).to_json(orient="records"))))
    assert rows.removeprefix("the ") == expected.replace("table.csv", "table")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the table holds no rows; expected a table with a column of times and columns of numbers."),
        ([{}, {}], "the table: no column reads as times; it has []."),
        ([{"time": "2024-01-01", "t": [1]}], "the table: row 1 has [1] as 't'; expected a number, a text or null."),
        ([{"time": {"a": {}}}], "the table: row 1 has {\"a\": {}} as 'time'; expected a number, a text or null."),
        ([{"\ud800": 1}], r"the table: '\ud800' is no text: it has half a surrogate pair. Correct it."),
        ([1, 2], "body.rows.0: Input should be a valid dictionary"),
        ("a", "body.rows: Input should be a valid list"),
        (None, "body.rows: Input should be a valid list"),
    ],
)
def test_rows_that_are_no_table_are_refused(client, rows, message):
    assert message_of(post_rows(client, rows)).startswith(message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("new.csv", b"", "table.csv is empty; expected a header and rows."),
        ("new.csv", b"\xff\xfe\0", "table.csv: the first line, "),
        ("new.csv", b"a,b\rc,d", "table.csv has a carriage return alone within a line. End lines in a line feed."),
        ("new.parquet", b"PAR1 and nothing else", "table.parquet does not parse as .parquet: "),
        ("new.xlsx", b"PK", "file 'new.xlsx': expected .csv, .tsv, .txt or .parquet; got '.xlsx'."),
        ("new", b"a,b", "file 'new': expected .csv, .tsv, .txt or .parquet; got ''."),
    ],
)
def test_files_that_are_no_table_are_refused(client, name, content, message):
    assert message_of(post_file(client, name, content)).startswith(message)


def test_bytes_in_a_parquet_file_are_said(client, table):
    table.assign(note=[b"\xff"] * len(table)).to_parquet("bytes.parquet")
    message = message_of(post_file(client, "bytes.parquet", Path("bytes.parquet").read_bytes()))
    assert message == r"table: b'\xff' is no text. Correct it, or leave its column out."


def test_a_request_without_a_file_is_refused(client):
    assert message_of(client.post("/predict/file")) == "body.file: Field required"
    assert "body.file" in message_of(client.post("/predict/file", data={"file": "text"}))


def test_numbers_beyond_what_the_network_computes_with_are_said(predictor, table):
    past = predictor.read(table)
    huge = past._replace(history=np.full_like(past.history, 1e306))
    with pytest.raises(
        cli.UserError, match=r"Nothing can be forecast from 2020-.*: values up to .*e\+30\d in size stand before"
    ):
        predictor.forecast([huge])


def test_other_requests_are_answered_while_a_table_is_read(client, predictor, table, monkeypatch):
    reading, may_go_on, read = threading.Event(), threading.Event(), predictor.read

    def slowly(one):
        reading.set()
        may_go_on.wait(10)
        return read(one)

    monkeypatch.setattr(predictor, "read", slowly)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(post_rows, client, rows_of(table))
        assert reading.wait(10)
        assert client.get("/healthz").json() == {"status": "ok"}
        assert not running.done()
        may_go_on.set()
        assert running.result().status_code == 200


CELLS = strategies.one_of(
    strategies.none(),
    strategies.booleans(),
    strategies.floats(),
    strategies.integers(),
    strategies.text(strategies.characters(exclude_categories=[]), max_size=5),
    strategies.sampled_from(
        ["2262-05-01", "0001-01-01", "2024-01-01T00:00:00+99:99", 10**400, "24:00", "1e999", "nan", [], {}]
    ),
)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers that 32 bits do not hold
@given(
    column=strategies.sampled_from(["time", TARGET, "sun (W/m2)", "", "Unnamed: 0", "station", "year"]),
    cells=strategies.lists(CELLS, min_size=1, max_size=3),
    every=strategies.sampled_from([1, 7, 39]),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_rows_are_refused_and_the_server_lives(client, table, column, cells, every):
    rows = rows_of(table)
    for number in range(0, len(rows), every):
        rows[number][column] = cells[number % len(cells)]
    answer = post_rows(client, rows)
    assert answer.status_code in (200, 422), answer.text
    assert isinstance(answer.json().get("detail", ""), str)
    assert client.get("/readyz").status_code == 200
