"""The page of a sentiment run in a real browser."""

from dataclasses import replace

import pytest

from apps.sentiment import data
from apps.sentiment.config import PRESETS
from apps.sentiment.predict import Predictor
from apps.sentiment.train import train

pytestmark = pytest.mark.slow  # starts a server and a browser


def test_a_text_is_labelled_and_its_words_are_coloured(open_page, tmp_path):
    config = replace(PRESETS["smoke"], dataset="sample")
    folder = train(config, data.load(config)).absolute()
    page = open_page("sentiment", folder)
    page.wait_for_selector("text=accuracy network 0.9")
    text = "Nobody would have called the music boring."
    page.fill("#text textarea", text)
    page.get_by_role("button", name="Label it").click()
    page.wait_for_selector("#label h2")
    assert page.inner_text("#label h2") == Predictor(folder)([text])[0]["label"]
    assert "boring." in page.inner_text("#words")
    page.get_by_text("Two hours of my life").first.click()
    page.get_by_role("button", name="Label it").click()
    page.wait_for_function("document.querySelector('#words').innerText.includes('popcorn')")
    page.fill("#text textarea", " ")
    page.get_by_role("button", name="Label it").click()
    page.wait_for_selector("text=No text to judge")
    page.screenshot(path=tmp_path / "sentiment.png", full_page=True)
