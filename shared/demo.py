"""A run as a page in a browser: gradio, at / of the server of shared/serve.py. An app's `demo.py` builds what is in between.

Works offline: fonts are those of the machine, and nothing is reported anywhere.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
from fastapi.staticfiles import StaticFiles

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
import gradio as gr

THEME = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def mount(application: fastapi.FastAPI, name: str, predictor, build: Callable[[Any], None]) -> None:
    """Mount the page of a run.

    Args:
        application: see `shared.serve.make_app`.
        name: of the app.
        predictor: its Predictor.
        build: adds the app's own components; called inside `gradio.Blocks`.
    """
    folder, metrics = predictor.folder, predictor.metrics
    application.mount("/plots", StaticFiles(directory=folder / "plots"))
    with gr.Blocks(title=f"{name}: {folder.name}", analytics_enabled=False) as page:
        gr.Markdown(f"# {name.capitalize()}\n\n{describe(folder, metrics)}")
        build(predictor)
        with gr.Accordion("Report of this run", open=False):
            gr.Markdown((folder / "report.md").read_text(encoding="utf-8").replace("](plots/", "](/plots/"))
    gr.mount_gradio_app(application, page, path="/", theme=THEME, show_error=True, footer_links=[])


def describe(folder: Path, metrics: dict[str, Any]) -> str:
    """Which run this is, and how good, in one line of Markdown."""
    metric, test = metrics["metric"], metrics["test"]
    figures = ", ".join(f"{who} {scores[metric]:.4f}" for who, scores in test.items() if who in ("network", "baseline"))
    return f"Run `{folder.name}` on {metrics['dataset']} (preset {metrics['preset']}): {metric.replace('_', ' ')} {figures}."
