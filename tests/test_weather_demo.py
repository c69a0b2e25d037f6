"""The page of a weather run in a real browser."""

from dataclasses import replace

import pandas as pd
import pytest

from apps.weather import data, sample
from apps.weather.config import DEFAULT
from apps.weather.predict import Predictor
from apps.weather.train import train
from shared.training import Training

pytestmark = pytest.mark.slow  # starts a server and a browser

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


def forecast(page):
    page.get_by_role("button", name="Forecast", exact=True).click()


def test_a_file_is_forecast_from_and_the_forecast_can_be_downloaded(open_page, tmp_path):
    station = sample.make_station(days=20)
    station.to_csv("own.csv", index=False)
    folder = train(TINY, data.load(TINY)).absolute()
    page = open_page("weather", folder)
    page.wait_for_selector("text=wind speed (m/s) with its direction")
    forecast(page)
    page.wait_for_selector("text=No table to forecast from")
    station.tail(200).to_csv("new.csv", index=False)
    station.drop(columns="rain (mm)").to_csv("dry.csv", index=False)
    page.set_input_files("#file input", "dry.csv")
    page.wait_for_selector("#file [aria-label='dry.csv']")
    forecast(page)
    page.wait_for_selector("text='dry.csv lacks columns that the run was trained on: rain (mm).'")
    page.locator("#file").get_by_label("Clear").click()
    page.set_input_files("#file input", "new.csv")
    page.wait_for_selector("#file [aria-label='new.csv']")
    forecast(page)
    page.wait_for_selector("#plot img")
    [expected] = Predictor(folder)(["new.csv"])
    assert page.inner_text("#origin") == f"{TARGET}, forecast from {pd.Timestamp(expected['origin']):%Y-%m-%d %H:%M}."
    for median in expected["forecast"][TARGET]["50%"]:
        assert f"{median:.2f}" in page.inner_text("#table")
    with page.expect_download() as download:
        page.click("#download")
    found = pd.read_csv(download.value.path(), index_col="time")
    assert found[f"{TARGET}, 90%"].tolist() == pytest.approx(expected["forecast"][TARGET]["90%"])
    page.get_by_text("station.csv").first.click()
    page.wait_for_selector("#file [aria-label='station.csv']")
    forecast(page)
    page.wait_for_function("document.querySelector('#origin').innerText.includes('forecast from 2021-02-03 23:50')")
    page.screenshot(path=tmp_path / "weather.png", full_page=True)
