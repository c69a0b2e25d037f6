"""The page of a run: a sentence, its spans coloured, and the probability of each word's tag."""

import gradio as gr

from apps.tagging.predict import Predictor
from apps.tagging.schemes import OUTSIDE
from apps.tagging.words import split_words
from shared.cli import UserError

EXAMPLES = (
    "going out with my two sisters , marlo bay then kalos",
    "coming back with my two sisters , marlo bay then kalos",
    "wake me at seven in new york",
)


def build(predictor: Predictor) -> None:
    """Add the components."""
    text = gr.Textbox(label="Sentence", value=EXAMPLES[0], elem_id="text")
    button = gr.Button("Tag it", variant="primary")
    gr.Examples([[example] for example in EXAMPLES], text)
    spans = gr.HighlightedText(label="Spans", combine_adjacent=True, adjacent_separator=" ", elem_id="spans")
    words = gr.Dataframe(headers=["word", "tag", "probability"], label="Words", elem_id="words")

    def answer(text: str):
        try:
            [found] = predictor([split_words(text)])
        except UserError as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        rows = zip(found["tokens"], found["tags"], found["probabilities"], strict=True)
        return highlighted(found), [[word, tag, round(probability, 3)] for word, tag, probability in rows]

    gr.on([button.click, text.submit], answer, text, [spans, words], api_name=False)


def highlighted(answer: dict) -> list[tuple[str, str | None]]:
    """Pieces of the sentence in order, each with the type of its span, or, where tags name no spans, each word with its tag."""
    if not answer["spans"]:
        return [
            (word + " ", None if tag == OUTSIDE else tag) for word, tag in zip(answer["tokens"], answer["tags"], strict=True)
        ]
    pieces, end = [], 0
    for span in answer["spans"]:
        pieces += [(" ".join(answer["tokens"][end : span["first"]]) + " ", None), (span["text"], span["label"]), (" ", None)]
        end = span["last"] + 1
    return [*pieces, (" ".join(answer["tokens"][end:]), None)]
