"""A run's model for other programs: make weather-export."""

from pathlib import Path

import keras
import numpy as np

from apps.weather import data
from apps.weather.config import Config
from apps.weather.data import Series
from apps.weather.model import build_servable  # its import registers the layers that the saved model is made of
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
    columns = data.forecast_columns(config, series)
    measured = np.where(series.imputed, np.nan, series.values)[:, columns]
    targets, deviation = measured[windows.target_rows(origins)], data.statistics(series)[1][columns]

    def mae(quantiles: np.ndarray) -> float:  # in standard deviations: a loss of 0.005 of it means the same in every unit
        return float(np.nanmean(np.abs(quantiles[..., len(config.quantiles) // 2] - targets) / deviation))

    def same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (np.abs(one - other) < SAME * deviation[:, None]).all(axis=(1, 2, 3))

    return export.Exportable(
        servable=servable,
        examples=[*series.values[windows.history_rows(origins)]],
        to_input=np.stack,
        metric="mae",
        score=mae,
        same=same,
        write=lambda folder: write(config, servable, folder),
        ask_onnx={ONNX: lambda folder, threads: Predictor(folder, threads).quantiles},
        litert=lambda: for_litert(config, servable, columns, columns.index(series.target)),
    )


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, from histories in the data's own units to quantiles in them."""
    write_onnx(keras.Model(servable.input, {QUANTILES: servable.output}), folder / ONNX)


def for_litert(config: Config, servable: keras.Model, forecast: list[int], target: int) -> export.LiteRt:
    """One history at a time, in 32 bits: LiteRT subtracts and multiplies no wider numbers.

    Args:
        config: the run's.
        servable: in 64 bits.
        forecast, target: see `apps.weather.model.build_servable`.
    """
    normalization, calibration = servable.get_layer("normalization"), servable.get_layer("calibration")
    mean, deviation = np.array(normalization.input_mean), np.sqrt(normalization.input_variance)
    in_32_bits = build_servable(config, servable.get_layer("network"), mean, deviation, forecast, target, "float32")
    in_32_bits.get_layer("calibration").set_weights(calibration.get_weights())

    def ask(model):
        def one(history):
            return model(history=history[None].astype(np.float32))[QUANTILES]

        return lambda histories: np.concatenate([one(history) for history in histories])

    named = keras.Model(in_32_bits.input, {QUANTILES: in_32_bits.output}, name="weather")
    return export.LiteRt(named, {"history": (1, *servable.input.shape[1:])}, ask)
