"""Train on a station's past, evaluate, report: make weather."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from apps.weather import baseline, batches, explain, report, scoring, watch
from apps.weather.cleaning import DAY
from apps.weather.config import Config
from apps.weather.data import Series, forecast_columns, statistics
from apps.weather.export import exportable
from apps.weather.intervals import fit_widening
from apps.weather.model import PinballLoss, build_model, build_servable, median_error
from apps.weather.segments import set_linear
from shared import checkpoints, export, kernels, runs, training
from shared.batches import count_batches
from shared.environment import environment
from shared.report import announce


@dataclass(frozen=True)
class Experiment(training.Experiment):
    """What `prepare` returns, with what `evaluate` needs beside the network."""

    mean: np.ndarray  # (columns,) over the training rows
    deviation: np.ndarray
    values: np.ndarray  # (rows, columns) float32, normalised
    observed: np.ndarray  # (rows, K) the columns that are forecast; NaN where a value was imputed
    forecast: list[int]  # their numbers
    linear: baseline.Linear


def prepare(config: Config, series: Series) -> Experiment:
    """Everything before the first step: normalisation, baseline, batches, the compiled network."""
    # 1. Normalised values
    strategy = training.setup(config.training)
    windows, origins = series.windows, series.origins
    sizes = [f"{len(part):,}" for part in origins]
    print(f"{series.name}: {sizes[0]} windows to train, {sizes[1]} to validate, {sizes[2]} to test.")
    print(f"A step is {windows.stride * series.step}; from {windows.history} of them the next {windows.horizon} are forecast.")
    mean, deviation = statistics(series)
    values = ((series.values - mean) / deviation).astype(np.float32)
    measured = np.where(series.imputed, np.float32(np.nan), values)
    forecast, alone = forecast_columns(config, series), config.head == "segments"  # each column from itself
    linear = baseline.Linear(values, measured, origins, forecast, windows, config.metric, alone)

    # 2. Batches
    settings, replicas = config.training, strategy.num_replicas_in_sync
    steps = count_batches(len(origins.train), settings.batch_size, replicas)
    validation = batches.evaluation_batches(values, origins.validation, windows, forecast, settings.batch_size, replicas)
    validation = batches.for_network(validation, config.head)

    def batches_from(first_epoch: int) -> tf.data.Dataset:
        of_training = windows, forecast, settings.batch_size, settings.seed, first_epoch, replicas
        found = batches.training_batches(values, origins.train, *of_training)
        return batches.for_network(found, config.head, settings.seed, first_epoch * steps, settings.epochs * steps)

    # 3. Network
    with strategy.scope():
        network = build_model(config, len(series.columns), forecast, series.clock)
        if alone:
            set_linear(network, linear)
        network.compile(
            optimizer=training.make_optimizer(settings, steps),
            loss=PinballLoss(config.quantiles),
            metrics=[median_error(forecast.index(series.target), float(deviation[series.target]))],
            jit_compile=False,
        )
    normalised = mean, deviation, values, measured[:, forecast], forecast
    return Experiment(series, network, batches_from, steps, validation, *normalised, linear)


def train(config: Config, series: Series) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    report.print_cleaning(series)
    experiment = prepare(config, series)
    network = experiment.network
    with runs.open_run("weather", config, environment(series)) as run:
        kernels.print_kernels(network)
        callbacks, resume = training.make_callbacks(run.path, "val_loss", config.training, score_baseline(experiment))
        watching = watch.callbacks(config, experiment, run.path)
        network.fit(
            experiment.batches(resume.first_epoch),
            epochs=resume.last_epoch(config.training.epochs),
            initial_epoch=resume.first_epoch,
            steps_per_epoch=experiment.steps,
            validation_data=experiment.validation_batches,
            shuffle=False,  # the batches come in an order of their own
            callbacks=[*watching, *callbacks],
            verbose=training.verbosity(),
        )
        checkpoints.restore_best(network, run.path)
        for pictures in watching:
            pictures.write_plots()
        servable = calibrate(config, experiment)
        servable.save(run.path / "model.keras")
        export.write_after_training("weather", run.path, lambda saved: exportable(config, saved, series))
        evaluation, errors = evaluate(config, experiment, servable)
        metrics = training.describe("weather", config, experiment, resume) | evaluation
        place = experiment.forecast.index(series.target)
        report.plot_forecasts(run.path / "plots", series, errors["network"], servable, place)
        worst = series.origins.test[report.worst_windows(errors["network"], series.origins.test, series.windows)[0]]
        explain.draw_worst(run.path / "plots" / "worst_explained.png", servable, series, place, int(worst))
        report.write(run.path, metrics, series, errors, float(experiment.deviation[series.target]))
        path = run.finish(metrics)
    announce(path, metrics, report.scores(metrics), "make weather-predict ARGS='--data new.csv'")
    return path


def score_baseline(experiment: Experiment) -> dict[str, float]:
    """Of the baseline on validation what the network is followed by."""
    series, forecast = experiment.data, experiment.forecast
    target = forecast.index(series.target)

    def linear(origins):
        return experiment.linear.predict(experiment.values, origins)[..., None]

    errors = scoring.measure(linear, experiment.observed, series.windows, series.origins.validation, target)
    return {"mae_target": scoring.summarise(errors, float(experiment.deviation[series.target]))["mae_target"]}


def calibrate(config: Config, experiment: Experiment) -> keras.Model:
    """What is served: the network in the data's own units, its intervals widened by what validation says."""
    series, forecast = experiment.data, experiment.forecast
    target = forecast.index(series.target)
    servable = build_servable(config, experiment.network, experiment.mean, experiment.deviation, forecast, target)
    if config.interval is not None:
        forecaster, origins = _forecaster(experiment, servable), series.origins.validation
        targets = experiment.observed[series.windows.target_rows(origins)]
        widening = fit_widening(targets, scoring.forecast_all(forecaster, origins), config.interval)
        servable.get_layer("calibration").set_weights([widening])
    return servable


def evaluate(config: Config, experiment: Experiment, servable: keras.Model) -> tuple[dict, dict[str, scoring.Errors]]:
    """Measure what is served, and the baselines, on test, on which nothing is chosen.

    Returns:
        The part of metrics.json that is about quality, and all errors on test by who made them.
    """
    series, forecast, windows = experiment.data, experiment.forecast, experiment.data.windows
    target = forecast.index(series.target)
    unit, day = float(experiment.deviation[series.target]), max(1, round(DAY / series.step))
    network = _forecaster(experiment, servable)
    baselines = baseline.make_baselines(experiment.linear, experiment.values, forecast, windows, day)

    def measure(forecaster, origins):
        return scoring.measure(forecaster, experiment.observed, windows, origins, target)

    errors = {who: measure(says, series.origins.test) for who, says in {"network": network, **baselines}.items()}
    evaluation = {
        "metric": config.metric,
        "higher_is_better": False,
        "target": series.columns[series.target],
        "columns": series.columns,
        "forecast": [series.columns[number] for number in forecast],
        "row_seconds": series.step.total_seconds(),
        "linear_history": experiment.linear.history,
        "validation": {"network": scoring.summarise(measure(network, series.origins.validation), unit)},
        "test": {who: scoring.summarise(found, unit) for who, found in errors.items()},
        **scoring.leads(errors, windows, report.NAMES, config.metric, unit),
    }
    if config.interval is not None:
        inside, width = errors["network"].target_inside, errors["network"].target_width
        evaluation["test"]["network"] |= {"coverage": float(np.nanmean(inside)), "width": float(width.mean() * unit)}
        evaluation["interval"] = config.interval
    return evaluation, errors


def _forecaster(experiment: Experiment, servable: keras.Model) -> scoring.Forecaster:
    """What the served model says, normalised."""
    mean, deviation = (part[experiment.forecast][:, None] for part in (experiment.mean, experiment.deviation))
    series = experiment.data

    def forecast(origins: np.ndarray) -> np.ndarray:
        histories = series.values[series.windows.history_rows(origins)]
        return ((servable.predict_on_batch(histories) - mean) / deviation).astype(np.float32)

    return forecast
