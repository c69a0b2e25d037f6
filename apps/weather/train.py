"""Train on a weather station's past, evaluate, report: python -m apps.weather.train (or: make weather)."""

from pathlib import Path

from apps.weather.config import PRESETS, Config
from shared import cli, runs


def train(config: Config) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    # Imported here, so that --help and a wrong flag are answered at once; Keras after the data, so that a bad file is too.
    import numpy as np

    from apps.weather import baseline, data, scoring, windows
    from apps.weather.cleaning import DAY, TIME_OF_DAY, TIME_OF_YEAR

    # 1. Data, and the baseline
    series = data.load(config)
    config = data.with_step(config, series)
    starts = windows.split(series.piece, series.filled, series.borders, config)
    data.check_windows(series, starts, config)
    mean, deviation = data.statistics(series)
    values = ((series.values - mean) / deviation).astype(np.float32)
    observed = np.where(series.imputed, np.float32(np.nan), values)  # what was filled in is no truth to be judged by
    clock = [number for number, name in enumerate(series.columns) if name in (*TIME_OF_DAY, *TIME_OF_YEAR)]
    everything = [number for number in range(len(series.columns)) if number not in clock]
    forecast = [series.target] if config.channels == "target" else everything
    linear = baseline.Linear(observed, values, starts, forecast, config)

    from apps.weather import report
    from apps.weather.intervals import fit_widening
    from apps.weather.model import PinballLoss, bounds, build_calibrated, build_model, build_servable
    from shared import gradients, rnn, training
    from shared.report import announce

    report.print_cleaning(series)
    sizes = [f"{len(part):,}" for part in starts]
    step = config.every * series.step
    print(f"{series.name}: {sizes[0]} windows to train, {sizes[1]} to validate, {sizes[2]} to test.")
    print(f"A step is {step}; from {config.longest_history} of them the next {config.horizon} are forecast.")
    training.setup(config.seed, config.deterministic, config.precision)
    about = runs.environment(series.name, series.fingerprint)
    run = runs.Run.resume("weather", config, about) if config.resume else runs.Run.start("weather", config, about)

    # 2. Model
    callbacks = training.make_callbacks(run.path, "val_loss", config.patience, config.resume)
    resume = callbacks[-1]
    batches, steps = windows.training_batches(values, starts.train, config, resume.first_epoch)
    ridges = [linear.weights(length) for length in config.history] if config.linear == "ridge" else []
    network = build_model(config, len(series.columns), forecast, clock, ridges)
    learning_rate = training.warmup_cosine(config.learning_rate, steps * config.epochs, warmup=0.05)
    network.compile(
        optimizer=gradients.AdamW(
            learning_rate, config.weight_decay, clipping=config.clipping, clip_threshold=config.clip_threshold
        ),
        loss=PinballLoss(config.quantiles),
        jit_compile=False,
    )
    for layer, kernel in rnn.explain_kernels(network).items():
        print(f"{layer} runs as {kernel}")

    # 3. Training
    network.fit(
        windows.for_network(batches, forecast, config, steps, resume.first_epoch),
        epochs=resume.last_epoch(config.epochs),
        initial_epoch=resume.first_epoch,
        steps_per_epoch=steps,
        validation_data=windows.for_network(windows.batches_in_order(values, starts.validation, config), forecast, config),
        shuffle=False,  # the batches come in an order of their own
        callbacks=callbacks,
        verbose=training.verbosity(),
    )
    training.restore_best(network, run.path)

    # 4. Intervals, calibrated on validation; from here on the model is what will be served
    calibrated = build_calibrated(config, network)
    if len(config.quantiles) > 1:
        truth = scoring.truth_of(observed, starts.validation, forecast, config)
        uncalibrated = scoring.forecast_all(scoring.forecaster(calibrated, values, config), starts.validation)
        widening = fit_widening(truth, uncalibrated, config.quantiles, config.coverage)
        calibrated.get_layer("calibration").set_weights([widening])
    target = forecast.index(series.target)
    build_servable(config, calibrated, mean, deviation, forecast, target).save(run.path / "model.keras")

    # 5. Test, touched here and nowhere before; baselines; report
    lowest = (bounds(config, len(forecast), target) - mean[forecast]) / deviation[forecast]
    forecasters = {
        "test": scoring.forecaster(calibrated, values, config, lowest),
        **baseline.all_baselines(linear, values, forecast, config, max(1, round(DAY / series.step))),
    }
    errors = {who: scoring.measure(says, observed, starts.test, forecast, target, config) for who, says in forecasters.items()}
    on_validation = scoring.measure(forecasters["test"], observed, starts.validation, forecast, target, config)
    strongest = min(errors.keys() - {"test"}, key=lambda who: errors[who].by_window[config.metric].mean())
    lead = scoring.lead(errors["test"], errors[strongest], config)
    summary = {
        "app": "weather",
        "preset": config.preset,
        "dataset": series.name,
        "target": series.columns[series.target],
        "columns": series.columns,
        "forecast": [series.columns[number] for number in forecast],
        "row_seconds": series.step.total_seconds(),
        "horizon": config.horizon,
        "metric": config.metric,
        "linear_history": linear.best,
        "seed": config.seed,
        "parameters": network.count_params(),
        "epochs": resume.epochs,
        "interrupted": network.interrupted,
        "train_seconds": resume.seconds,
    }
    for who, found in {"validation": on_validation, **errors}.items():
        summary |= scoring.summarise(who, found, float(deviation[series.target]), config)
    if len(config.quantiles) > 1:
        summary |= {
            "coverage": config.coverage,
            "test_coverage": float(np.nanmean(errors["test"].target_inside)),
            "test_width": float(errors["test"].target_width.mean() * deviation[series.target]),
        }
    summary["beats_baseline"] = lead.verdict == "better"
    summary["lead"] = {
        "metric": config.metric,
        "baseline": report.NAMES[strongest],
        **lead._asdict(),
        "verdict": lead.verdict,
    }
    scale, title = (float(mean[series.target]), float(deviation[series.target])), f"{series.name} (test), {summary['target']}"
    drawn = starts.test, errors["test"], forecasters["test"], target, scale
    report.plot_forecasts(run.path / "plots", series, *drawn, config, title)
    report.write(run.path, summary, series, starts.test, errors, config, scale[1])
    run.write_json("metrics.json", summary)
    training.remove_training_state(run.path)
    path = run.finish()
    strongest_name = f"the strongest baseline ({report.NAMES[strongest]}) by {config.metric}"
    announce(path, summary, report.scores(summary), "test", strongest_name, "make weather-predict ARGS='--data new.csv'")
    return path


def main() -> None:
    config = runs.parse("weather", PRESETS, __doc__)
    if not config.backtest:
        train(config)
    else:
        from apps.weather.backtest import backtest

        backtest(config)


if __name__ == "__main__":
    cli.run(main)
