"""The page of a run: a prompt and how to go on after it; the text while it is written, coloured by its probabilities."""

import html

import gradio as gr

from apps.textgen.config import Request
from apps.textgen.predict import Predictor, how_likely, known
from apps.textgen.sampling import Sampling
from shared.cli import UserError

EXAMPLES = ("ROMEO:", "To be, or not to be", "What is the time", "import ")
MAX_LENGTH = 2_000
HINT = """Temperature: 0 always takes the likeliest character, 1 takes each as often as the network expects it, more is wilder.
Top-k: only this many of the likeliest. Top-p: only the likeliest that have this probability together.
The same seed gives the same text."""
LEGEND = """<style>
#written p {margin-top: 0.5em; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6}
#written span {color: black}
#written .likely {background: #bbf7d0}
#written .possible {background: #fef08a}
#written .unlikely {background: #fecaca}
</style>
To the network, each character was <span class="likely">likely</span>, <span class="possible">possible</span>
or <span class="unlikely">unlikely</span>."""


def build(predictor: Predictor) -> None:
    """Add the components."""
    examples = [example for example in EXAMPLES if set(example) <= set(predictor.vocabulary)]
    prompt = gr.Textbox(label="Prompt", lines=2, max_length=10_000, value=(examples or [""])[0], elem_id="prompt")
    inputs = [prompt, *settings(len(predictor.vocabulary))]
    gr.Markdown(HINT)
    button = gr.Button("Write on", variant="primary")
    if examples:
        gr.Examples([[example] for example in examples], prompt)
    written = gr.HTML(LEGEND, container=True, padding=True, elem_id="written")

    def write(prompt: str, length: int, temperature: float, top_k: int, top_p: float, seed: int | None):
        try:
            request = Request(prompt, length, temperature, top_k, top_p, seed=seed or 0)
            prompt = known(request, predictor.vocabulary)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        text = html.escape(prompt)
        for [piece], [row] in predictor.stream([prompt], Sampling(temperature, top_k, top_p), length, request.seed):
            text += "".join(map(coloured, piece, row))
            yield f"{LEGEND}<p>{text}</p>"

    gr.on([button.click, prompt.submit], write, inputs, written, api_name=False)


def coloured(character: str, probability: float) -> str:
    """A character as HTML."""
    return f'<span class="{how_likely(probability)}">{html.escape(character)}</span>'


def settings(characters: int) -> list[gr.components.Component]:
    """Length, temperature, top-k, top-p and seed, for a vocabulary of so many characters."""
    with gr.Row():
        return [
            gr.Slider(1, MAX_LENGTH, Request.length, step=1, label="Length", min_width=260, elem_id="length"),
            gr.Slider(0, 2, Request.temperature, step=0.05, label="Temperature", min_width=260, elem_id="temperature"),
            gr.Slider(1, characters, characters, step=1, label="Top-k", min_width=260, elem_id="top-k"),
            gr.Slider(0.01, 1, Request.top_p, step=0.01, label="Top-p", min_width=260, elem_id="top-p"),
            gr.Number(Request.seed, precision=0, label="Seed", min_width=260, elem_id="seed"),
        ]
