"""The page of a translation run in a browser, and what the smoke preset has to have learned."""

from dataclasses import replace

import pytest

from apps.translation import data, train
from apps.translation.config import PRESETS
from apps.translation.predict import Predictor
from shared import runs

pytestmark = pytest.mark.slow  # trains until dates are written right, starts a server and a browser
DATE = "the 3rd of may 1998"


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    config = replace(PRESETS["smoke"], dataset="sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield train.train(config, data.load(config)).resolve()


def test_dates_are_written_that_a_memory_does_not_hold(finished_run):
    metrics = runs.read_json(finished_run / "metrics.json")
    assert metrics["test"]["network"]["word_error_rate"] < 0.2
    assert metrics["test"]["baseline"]["word_error_rate"] == 1  # no date stands in two parts
    assert metrics["beats_baseline"]
    assert Predictor(finished_run)([DATE])[0]["text"] == "1998-05-03"


def test_the_page_shows_the_n_best_and_attention(finished_run, open_page, tmp_path):
    page = open_page("translation", finished_run)
    page.get_by_label("Source").fill(DATE)
    page.get_by_role("button", name="Translate it").click()
    page.wait_for_function("() => document.querySelector('#best').innerText.includes('1998-05-03')")
    page.wait_for_selector("#attention img")
    best = Predictor(finished_run)([DATE])[0]["hypotheses"]
    assert all(one["text"] in page.inner_text("#best") for one in best)
    page.get_by_label("Source").fill("   ")
    page.get_by_role("button", name="Translate it").click()
    page.get_by_text("is empty").wait_for()
    page.screenshot(path=tmp_path / "translation.png", full_page=True)
