"""The page of a run: a file, and what comes next as a picture, a table and a CSV."""

import functools
from pathlib import Path

import gradio as gr
import pandas as pd
from gradio.processing_utils import save_bytes_to_cache

from apps.weather.cleaning import TIME_OF_DAY, TIME_OF_YEAR
from apps.weather.plausibility import SPEED
from apps.weather.predict import MINUTES, Past, Predictor, draw, load_explainer, tables
from apps.weather.reading import CSV, PARQUET
from apps.weather.sample import make_station
from shared.cli import UserError

EXAMPLE_ROWS = 4_000  # four weeks


def build(predictor: Predictor) -> None:
    """Add the components."""
    gr.Markdown(needs(predictor), elem_id="needs")
    file = gr.File(label="Table", file_types=[*CSV, *PARQUET], height=120, elem_id="file")
    button = gr.Button("Forecast", variant="primary")
    if (example := make_example(predictor)) is not None:
        content = example.to_csv(index=False).encode()
        station = save_bytes_to_cache(content, "station.csv", file.GRADIO_CACHE)
        gr.Examples([[station]], file, label="Example: a generated station")
    origin = gr.Markdown(elem_id="origin")
    with gr.Row():
        plot = gr.Plot(show_label=False, scale=2, min_width=320, elem_id="plot")
        table = gr.Dataframe(interactive=False, wrap=True, column_widths=[105], scale=1, min_width=320, elem_id="table")
    download = gr.DownloadButton("Download as CSV", interactive=False, elem_id="download")

    def answer(file: str | None):
        past = read(predictor, file)
        try:
            [found] = predictor.forecast([past])
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        every, of_target = tables(found)
        output = save_bytes_to_cache(every.to_csv().encode(), "forecast.csv", download.GRADIO_CACHE)
        note = f"`{found['target']}`, forecast from {pd.Timestamp(found['origin']):{MINUTES}}."
        if past.newer:
            note += f" The newest {past.newer} rows are not whole."
        shown = of_target.map("{:,.2f}".format).set_axis(of_target.index.strftime(MINUTES)).reset_index()
        return note, draw(past, of_target), shown, gr.DownloadButton(value=output, interactive=True)

    button.click(answer, file, [origin, plot, table, download], api_name=False)
    add_explanation(predictor, file)


def add_explanation(predictor: Predictor, file: gr.File) -> None:
    """A button, since it needs Keras: what each column at each time adds to the forecast, by integrated gradients."""
    button = gr.Button("Explain it (the first time takes some seconds)", size="sm")
    plot = gr.Plot(show_label=False, elem_id="explanation")
    load = functools.cache(lambda: load_explainer(predictor))

    def answer(file: str | None):
        past = read(predictor, file)
        try:
            explainer = load()
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        from apps.weather import explain

        found = explainer(past.history, past.times)
        figure = explain.draw(found)
        figure.suptitle(explain.in_words(found.attribution))
        figure.tight_layout()
        return figure

    button.click(answer, file, plot, api_name=False)


def read(predictor: Predictor, file: str | None) -> Past:
    """The newest rows of the file; what is wrong with it is shown on the page."""
    if file is None:
        raise gr.Error("No table to forecast from: choose a file.", print_exception=False)
    try:
        return predictor.read(file)
    except UserError as error:
        raise gr.Error(str(error).replace(f"{Path(file).parent}/", ""), print_exception=False) from None


def needs(predictor: Predictor) -> str:
    """Which columns a file must have, in one line of Markdown."""
    config, metrics = predictor.config, predictor.metrics
    names = {column: "" for column in config.time_column}
    for column in metrics["columns"]:
        if column not in (*TIME_OF_DAY, *TIME_OF_YEAR):
            name, _, is_vector = column.partition(", from ")
            names[name] = " with its direction" if is_vector and SPEED.match(name) else ""
    every = pd.tseries.frequencies.to_offset(pd.Timedelta(seconds=metrics["row_seconds"])).freqstr
    columns = ", ".join(f"`{name}`{more}" for name, more in names.items())
    time = "" if config.time_column else "the time, "
    return f"A CSV or Parquet file with a row every {every} and these columns, in any order: {time}{columns}."


def make_example(predictor: Predictor) -> pd.DataFrame | None:
    """A generated station's newest rows; None for a run of other columns or another step."""
    table = make_station().tail(EXAMPLE_ROWS)
    try:
        predictor.read(table)
    except UserError:
        return None
    return table
