"""The page of a run: a text, its n best translations, and where the decoder looked while it wrote the best one."""

import gradio as gr

from apps.translation import heatmap
from apps.translation.predict import Predictor
from shared.cli import UserError
from shared.plots import plt

EXAMPLES = {
    "pronunciation": ("station", "recurrence", "wednesday"),
    "sample": ("the 3rd of may 1998", "friday, 12 june 2020"),
    "spa-eng": ("Where is the station?", "I don't know what to say."),
}


def build(predictor: Predictor) -> None:
    """Add the components."""
    examples = EXAMPLES.get(predictor.metrics["dataset"], ())
    text = gr.Textbox(label="Source", value=next(iter(examples), ""), elem_id="text")
    button = gr.Button("Translate it", variant="primary")
    if examples:
        gr.Examples([[example] for example in examples], text)
    best = gr.Dataframe(headers=["text", "score", "probability"], label="The best, by beam search", elem_id="best")
    picture = gr.Plot(label="Attention", elem_id="attention", visible="memory" in predictor.decoder.inputs)

    def answer(text: str):
        try:
            [found] = predictor([text])
        except UserError as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        rows = [[one["text"], round(one["score"], 3), round(one["probability"], 3)] for one in found["hypotheses"]]
        if "memory" not in predictor.decoder.inputs:
            return rows, None
        figure = heatmap.draw(*predictor.attend(text, found["hypotheses"][0]["tokens"]))
        plt.close(figure)
        return rows, figure

    gr.on([button.click, text.submit], answer, text, [best, picture], api_name=False)
