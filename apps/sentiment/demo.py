"""The page of a run: a text, its label with probabilities, and the words that pushed."""

import functools

import gradio as gr

from apps.sentiment.predict import Predictor, load_explainer, pushes
from shared.cli import UserError
from shared.explaining import Pieces

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
        probabilities, number = judge(predictor, text)
        return probabilities, shaded(pushes(predictor, text, number))

    gr.on([button.click, text.submit], answer, text, [label, words], api_name=False)
    add_explanation(predictor, text)


def add_explanation(predictor: Predictor, text: gr.Textbox) -> None:
    """A button, since it needs Keras: what each word adds by integrated gradients."""
    button = gr.Button("Explain it (the first time takes some seconds)", size="sm")
    words = gr.HighlightedText(
        label="What each word, as the network reads it, adds: red for the label, blue against it",
        combine_adjacent=False,
        elem_id="explanation",
    )
    load = functools.cache(lambda: load_explainer(predictor))

    def explain(text: str):
        _, number = judge(predictor, text)
        try:
            return shaded(load()(text, number).words)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None

    button.click(explain, text, words, api_name=False)


def judge(predictor: Predictor, text: str) -> tuple[dict[str, float], int]:
    """The probabilities by label, and the number of the label that the text gets."""
    if not text.strip():
        raise gr.Error("No text to judge: write some.", print_exception=False)
    [found] = predictor([text])
    return found["probabilities"], [*found["probabilities"]].index(found["label"])


def shaded(pieces: Pieces) -> Pieces:
    """The same from -1 to 1."""
    strongest = max(abs(part) for _, part in pieces) or 1.0
    return [(piece + " ", part / strongest) for piece, part in pieces]
