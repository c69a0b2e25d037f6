"""The page of a tagging run in a browser."""

from dataclasses import replace

import pytest

from apps.tagging import data, demo, train
from apps.tagging.config import PRESETS


def test_pieces_are_the_whole_sentence_with_the_types_of_its_spans():
    spans = [
        {"label": "city", "first": 1, "last": 2, "text": "new york"},
        {"label": "time", "first": 4, "last": 4, "text": "seven"},
    ]
    answer = {"tokens": ["to", "new", "york", "at", "seven"], "tags": [], "spans": spans}
    pieces = demo.highlighted(answer)
    assert "".join(text for text, _ in pieces).split() == answer["tokens"]
    assert [piece for piece in pieces if piece[1]] == [("new york", "city"), ("seven", "time")]


@pytest.mark.slow
def test_the_page_colours_spans(open_page, tmp_path):
    config = replace(PRESETS["smoke"], dataset="sample")
    page = open_page("tagging", train.train(config, data.load(config)).resolve())
    page.get_by_label("Sentence").fill("book a train from marlo to kalos on the third of may")
    page.get_by_role("button", name="Tag it").click()
    page.wait_for_function("() => document.querySelector('#spans').innerText.includes('kalos')")
    assert {"FROM_CITY", "TO_CITY"} <= set(page.locator("#spans").inner_text().upper().split())
    assert "marlo" in page.locator("#words").inner_text()
    page.get_by_label("Sentence").fill("   ")
    page.get_by_role("button", name="Tag it").click()
    page.get_by_text("holds no token").wait_for()
    page.screenshot(path=tmp_path / "tagging.png", full_page=True)
