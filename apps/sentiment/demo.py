"""The page of a run: a text, its label with probabilities, and the words that pushed."""

import gradio as gr

from apps.sentiment.predict import Predictor, pushes

EXAMPLES = (
    "A slow start, but what an ending.",
    "Nobody in the room would have called the plot boring, but I found the direction really dull.",
    "Two hours of my life that I will not get back. The popcorn was good.",
)


def build(predictor: Predictor) -> None:
    """Add the components."""
    text = gr.Textbox(label="Text", lines=4, value=EXAMPLES[0], elem_id="text")
    button = gr.Button("Label it", variant="primary")
    gr.Examples([[example] for example in EXAMPLES], text)
    label = gr.Label(label="Label", elem_id="label")
    words = gr.HighlightedText(
        label="Words that push: red towards the label, blue away from it", combine_adjacent=False, elem_id="words"
    )

    def answer(text: str):
        if not text.strip():
            raise gr.Error("No text to judge: write some.", print_exception=False)
        [found] = predictor([text])
        pieces = pushes(predictor, text, [*found["probabilities"]].index(found["label"]))
        strongest = max(abs(push) for _, push in pieces) or 1.0
        return found["probabilities"], [(piece + " ", push / strongest) for piece, push in pieces]

    gr.on([button.click, text.submit], answer, text, [label, words], api_name=False)
