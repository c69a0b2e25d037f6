"""A run's model for other programs: make weather-export."""

from pathlib import Path

import keras
import numpy as np

from apps.weather import data, model  # noqa: F401  model registers the layers that the saved one is made of
from apps.weather.config import Config
from apps.weather.data import Series
from apps.weather.predict import QUANTILES, Predictor
from shared import export
from shared.inference import ONNX
from shared.onnx_export import write_onnx
from shared.settings import ExportRequest

SAME = 1e-3  # standard deviations of a column: forecasts that differ by less are the same


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation windows."""
    export.export_run("weather", request.run, Config, data.load, exportable)


def exportable(config: Config, servable: keras.Model, series: Series) -> export.Exportable:
    """What `shared.export` needs to know; its examples are histories of validation, spread evenly."""
    windows, origins = series.windows, series.origins.validation
    origins = origins[np.linspace(0, len(origins) - 1, min(len(origins), export.EXAMPLES)).astype(int)]
    measured = np.where(series.imputed, np.nan, series.values)[:, series.target]
    targets = measured[windows.target_rows(origins)]
    columns = data.forecast_columns(config, series)
    target, (_, deviation) = columns.index(series.target), data.statistics(series)

    def mae_of_target(quantiles: np.ndarray) -> float:
        return float(np.nanmean(np.abs(quantiles[:, :, target, len(config.quantiles) // 2] - targets)))

    def same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (np.abs(one - other) < SAME * deviation[columns][:, None]).all(axis=(1, 2, 3))

    return export.Exportable(
        servable=servable,
        examples=[*series.values[windows.history_rows(origins)]],
        to_input=np.stack,
        metric="mae_target",
        score=mae_of_target,
        same=same,
        write=lambda folder: write(config, servable, folder),
        ask_onnx=lambda folder, threads: Predictor(folder, threads).quantiles,
    )


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, from histories in the data's own units to quantiles in them."""
    write_onnx(keras.Model(servable.input, {QUANTILES: servable.output}), folder / ONNX)
