"""The page of a textgen run in a real browser."""

import json
from dataclasses import asdict, replace

import pytest

from apps.textgen import export
from apps.textgen.config import DEFAULT, RECURRENT
from apps.textgen.model import build_generator, build_servable
from apps.textgen.predict import Predictor, Sampling, how_likely

pytestmark = pytest.mark.slow  # starts a server and a browser

TINY = replace(DEFAULT, preset="smoke", embedding_dim=4, recurrent=replace(RECURRENT, units=6))
PROMPT = "<b>&amp; ${1 + 1}\n{{value}} `\\n"
VOCABULARY = sorted({*PROMPT, *"To be, or not to be"})
METRICS = {
    "app": "textgen",
    "preset": "smoke",
    "dataset": "sample",
    "metric": "nats_per_character",
    "test": {"network": {"nats_per_character": 2.5}, "baseline": {"nats_per_character": 2.0}},
}

LENGTHS_SHOWN = """window.lengths = new Set()
new MutationObserver(() => window.lengths.add(document.querySelector("#written").textContent.length))
    .observe(document.body, {childList: true, subtree: true})"""
COLOURS_SHOWN = "(spans) => spans.map((span) => [span.textContent, getComputedStyle(span).backgroundColor])"


@pytest.fixture
def folder(tmp_path):
    """A run as the page reads it, of random weights that are large enough that the text wanders."""
    network = build_generator(TINY, len(VOCABULARY) + 2)
    network.set_weights([weight * 8 + 0.1 for weight in network.get_weights()])
    servable = build_servable(TINY, VOCABULARY, network)
    servable.save(tmp_path / "model.keras")
    export.write(TINY, servable, tmp_path)
    for name, content in {"config": asdict(TINY), "environment": {}, "metrics": METRICS}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "report.md").write_text("# Random weights")
    (tmp_path / "plots").mkdir()
    return tmp_path


def write_on(page, text):
    """Click, and wait until the text is there."""
    page.get_by_role("button", name="Write on").click()
    page.wait_for_function("(text) => document.querySelector('#written p')?.textContent === text", arg=text)


def test_a_text_is_written_piece_by_piece_and_coloured(open_page, folder):
    predictor = Predictor(folder)
    page = open_page("textgen", folder)
    page.wait_for_selector("text=nats per character network 2.5000, baseline 2.0000")
    assert page.locator("button", has_text="ROMEO:").count() == 0  # an example that this network cannot read
    page.fill("#prompt textarea", PROMPT)
    for name, value in {"length": 1000, "temperature": 1.5, "top-k": 9, "top-p": 0.9, "seed": 3}.items():
        page.fill(f"#{name} input[type=number]", str(value))
    page.evaluate(LENGTHS_SHOWN)
    [expected] = predictor([PROMPT], Sampling(1.5, 9, 0.9), length=1000, seed=3)
    write_on(page, PROMPT + expected["text"])
    assert page.evaluate("window.lengths.size") > 3  # it grew
    characters, colours = zip(*page.eval_on_selector_all("#written p span", COLOURS_SHOWN), strict=True)
    assert "".join(characters) == expected["text"]
    pairs = set(zip(colours, map(how_likely, expected["probabilities"]), strict=True))
    assert len(pairs) == len(dict(pairs)) == 3  # a colour for each

    page.get_by_text("To be, or not to be").click()
    [expected] = predictor(["To be, or not to be"], Sampling(1.5, 9, 0.9), length=1000, seed=3)
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('To')")
    write_on(page, "To be, or not to be" + expected["text"])

    for mistake, message in {"": "--prompt is empty", "ROMEO:": "never seen: ':' 'E' 'M' 'O' 'R'"}.items():
        page.fill("#prompt textarea", mistake)
        page.get_by_role("button", name="Write on").click()
        page.wait_for_selector(f"text={message}")
    page.screenshot(path=folder / "textgen.png", full_page=True)
