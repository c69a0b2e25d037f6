"""What a run shows of itself: errors by step, month and hour, intervals, forecasts drawn, report.md, TensorBoard."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from apps.weather.answers import FORECASTS_DRAWN, draw_forecasts, spread
from apps.weather.data import Series
from apps.weather.plausibility import UNIT
from apps.weather.scoring import Errors
from apps.weather.windows import Windows
from shared import report
from shared.plots import plot_history, plt, save_figure
from shared.tensorboard import hparams_to_tensorboard, plots_of_recurrence, plots_to_tensorboard

NAMES = {"network": "network", "baseline": "linear", "last value": "last value", "same time yesterday": "same time yesterday"}
STEPS_SHOWN = 8


def mae_of(target: str) -> str:
    """What its mean absolute error is called: "MAE, degC" of "temperature (degC)"; without a unit by its name."""
    unit = UNIT.search(target)
    return f"MAE, {unit[1]}" if unit else f"MAE of {target}"


def scores(metrics: dict) -> pd.DataFrame:
    """The errors of network and baselines, and how much the network's interval holds, as a table in words."""
    table = report.scores(metrics).rename(index=NAMES)
    names = {"mae": "MAE, normalised", "mse": "MSE, normalised", "mae_target": mae_of(metrics["target"])}
    if "interval" in metrics:
        held = f"in the {metrics['interval']:.0%} interval"
        table[held] = [f"{metrics['test']['network']['coverage']:.1%}", *["-"] * (len(table) - 1)]
        table = table.drop(columns=["coverage", "width"])
    return table.rename(columns=names)


def by_place(errors: dict[str, Errors], series: Series, unit: float) -> pd.DataFrame:
    """Mean absolute error of the target in its own unit: a row for each place, a column for each forecaster."""
    of_windows = {NAMES[who]: pd.DataFrame(found.target_absolute).mean(axis=1) * unit for who, found in errors.items()}
    return pd.DataFrame(of_windows).groupby(np.array(series.places)[series.place[series.origins.test]]).mean()


def print_cleaning(series: Series) -> None:
    """What was done to the data, as a table."""
    table = Table(title=Text(f"Cleaning of {series.name}"))
    for column, justify in (("place", "left"), ("what", "left"), ("count", "right")):
        table.add_column(column, justify=justify)
    for row in series.cleaning.itertuples():
        table.add_row(Text(row.place), Text(row.what), f"{row.count:,}")
    Console(width=120).print(table)


def write(folder: Path, metrics: dict, series: Series, errors: dict[str, Errors], unit: float) -> None:
    """Plots (PNG), tables (CSV) and report.md.

    Args:
        folder: the run folder.
        metrics: what goes into metrics.json.
        series: the data.
        errors: on test, of "network" and of the baselines.
        unit: the target's standard deviation over the training rows: what turns errors into its own unit.
    """
    on, error_name = f"{metrics['app']} on {metrics['dataset']}", mae_of(metrics["target"])
    title, plots, history = f"{on} (test), {metrics['target']}", folder / "plots", pd.read_csv(folder / "history.csv")
    curves = [["loss", "val_loss"], ["mae_target", "val_mae_target"], ["gradient_norm"]]
    plot_history(plots / "training.png", history, curves, f"{on}, {metrics['target']}")
    by_step, by_time = table_by_step(errors, unit), tables_by_time(errors, series, unit)
    squared = pd.DataFrame({f"{NAMES[who]}, mse": found.squared.mean(axis=1) for who, found in errors.items()}, by_step.index)
    by_step.join(squared).to_csv(folder / "by_step.csv", index_label="step")
    for name, table in by_time.items():
        table.to_csv(folder / f"by_{name}.csv", index_label=name)
    plot_by_step(plots / "error_by_step.png", by_step, title, error_name)
    plot_by_time(plots / "error_by_time.png", by_time, title, error_name)
    skills = skill(by_step)
    some = skills.iloc[_some(len(by_step))]
    report.print_table(some, error_name, "step", digits=3)
    behind = steps_behind(skills["skill over best baseline"])
    print(behind, end="\n" if behind else "")
    sections = [
        f"{error_name}, by step. Skill: the fraction by which it is below a baseline's.",
        "",
        *report.markdown_table(some, "step"),
        "",
        behind,
        "",
        *_interval_lines(metrics, errors["network"], unit),
        *_place_lines(folder, errors, series, unit, error_name),
        *report.images(
            "forecasts", "worst", "worst_explained", "error_by_step", "error_by_time", "training", *plots_of_recurrence(folder)
        ),
        "",
        "## What was done to the data",
        "",
        *(f"- {row.place}: {row.what}: {row.count:,}" for row in series.cleaning.itertuples()),
    ]
    report.write_markdown(folder, metrics, sections)
    hparams_to_tensorboard(folder, metrics)
    plots_to_tensorboard(folder)


def _place_lines(folder: Path, errors: dict[str, Errors], series: Series, unit: float, error_name: str) -> list[str]:
    """The table by place, where there are several; also in the terminal and as by_place.csv."""
    if len(series.places) == 1:
        return []
    table = by_place(errors, series, unit)
    table.to_csv(folder / "by_place.csv", index_label="place")
    report.print_table(table, error_name, "place", digits=3)
    return [f"{error_name}, by place.", "", *report.markdown_table(table, "place"), ""]


def table_by_step(errors: dict[str, Errors], unit: float) -> pd.DataFrame:
    """Mean absolute error of the target in its own unit: a row for each step, a column for each forecaster."""
    columns = {NAMES[who]: pd.DataFrame(found.target_absolute).mean().to_numpy() * unit for who, found in errors.items()}
    return pd.DataFrame(columns).set_axis(range(1, 1 + errors["network"].target_absolute.shape[1]))


def skill(by_step: pd.DataFrame) -> pd.DataFrame:
    """With the network's skill against the last value and against the best baseline at that step: 1 is perfect, 0 no better."""
    baselines = by_step.drop(columns="network")
    return by_step.assign(
        **{
            "skill over last value": 1 - by_step["network"] / by_step["last value"],
            "skill over best baseline": 1 - by_step["network"] / baselines.min(axis=1),
        }
    )


def steps_behind(skill: pd.Series) -> str:
    """Where a baseline is better than the network, in words; nothing where none is.

    Args:
        skill: of the network over the best baseline, by step.
    """
    behind = skill[skill < 0]
    if behind.empty:
        return ""
    steps = ", ".join(map(str, behind.index[:STEPS_SHOWN])) + (", ..." if len(behind) > STEPS_SHOWN else "")
    most = f"{-behind.min():.1%}"
    return f"A baseline is ahead of the network at {len(behind)} of {len(skill)} steps ({steps}), by at most {most}."


def tables_by_time(errors: dict[str, Errors], series: Series, unit: float) -> dict[str, pd.DataFrame]:
    """By month and by hour of what is forecast: mean absolute error of the target, coverage and width of its interval."""
    times = pd.DatetimeIndex(series.times[series.windows.target_rows(series.origins.test)].ravel())
    columns = {NAMES[who]: found.target_absolute.ravel() * unit for who, found in errors.items()}
    if errors["network"].target_width.any():
        network = errors["network"]
        columns |= {"coverage": network.target_inside.ravel(), "width": network.target_width.ravel() * unit}
    keys = {"month": times.month, "hour": times.hour}
    return {name: pd.DataFrame(columns).groupby(np.asarray(key)).mean() for name, key in keys.items()}


def _interval_lines(metrics: dict, network: Errors, unit: float) -> list[str]:
    """Coverage and width of the intervals, over all and by step."""
    if "interval" not in metrics:
        return []
    coverage, width = pd.DataFrame(network.target_inside).mean().to_numpy(), network.target_width.mean(axis=0) * unit
    table = pd.DataFrame({"coverage": coverage, "width": width}).set_axis(range(1, 1 + len(width)))
    found = metrics["test"]["network"]
    return [
        f"The interval holds {found['coverage']:.1%} of the targets ({metrics['interval']:.0%} asked); its mean width is "
        f"{found['width']:.2f}.",
        "",
        *report.markdown_table(table.iloc[_some(len(table))], "step"),
        "",
    ]


def _some(steps: int) -> np.ndarray:
    """A few of the steps, the first and the last among them."""
    return np.unique(np.linspace(0, steps - 1, min(steps, STEPS_SHOWN)).round().astype(int))


def plot_by_step(file: Path, by_step: pd.DataFrame, title: str, name: str) -> None:
    """Error against how far ahead it is."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    by_step.plot(ax=axes)
    axes.set(xlabel="steps ahead", ylabel=name, ylim=(0, None))
    save_figure(figure, file, title)


def plot_by_time(file: Path, tables: dict[str, pd.DataFrame], title: str, name_of_error: str) -> None:
    """Error, and coverage where there are intervals, by month and by hour of the day."""
    has_intervals = "coverage" in tables["hour"]
    figure, axes = plt.subplots(1 + has_intervals, 2, figsize=(11, 4.5 + 3 * has_intervals), sharey="row", squeeze=False)
    for number, (name, table) in enumerate(tables.items()):
        table = table.reindex(range(table.index.min(), table.index.max() + 1))  # no line across months without data
        table[[column for column in table if column in NAMES.values()]].plot(ax=axes[0, number], marker="o")
        axes[0, number].set(xlabel=name, ylabel=name_of_error)
        axes[0, number].xaxis.set_major_locator(MaxNLocator(integer=True))
        if has_intervals:
            table["coverage"].plot(ax=axes[1, number], marker="o")
            axes[1, number].set(xlabel=name, ylabel="fraction of the targets in the interval", ylim=(0, 1))
    axes[0, 0].set_ylim(0, None)  # at last: an axis whose limits are set no longer grows
    save_figure(figure, file, title)


def plot_forecasts(folder: Path, series: Series, network: Errors, model: keras.Model, target: int) -> None:
    """Forecasts with their intervals: some evenly spread (forecasts.png) and the ones furthest off (worst.png).

    Args:
        folder: to write to.
        series: the data.
        network: the model's errors on its test windows.
        model: in the data's own units, see `apps.weather.model.build_servable`.
        target: the target's place among the columns that are forecast.
    """
    windows, origins = series.windows, series.origins.test
    worst = origins[worst_windows(network, origins, windows)]
    for name, drawn, what in (("forecasts", spread(origins), "forecasts"), ("worst", worst, "the forecasts furthest off")):
        quantiles = model.predict_on_batch(series.values[windows.history_rows(drawn)])[:, :, target]
        title = f"{series.name} (test), {series.columns[series.target]}: {what}"
        save_figure(draw_forecasts(series, drawn, quantiles), folder / f"{name}.png", title)


def worst_windows(error: Errors, origins: np.ndarray, windows: Windows) -> np.ndarray:
    """Windows with the largest mean error, no two of which overlap in what they forecast; worst first."""
    worst, means = [], pd.DataFrame(error.target_absolute).mean(axis=1)  # NaN where nothing was measured
    for row in np.argsort(-means.to_numpy()):
        if all(abs(origins[row] - origins[other]) >= windows.horizon * windows.stride for other in worst):
            worst.append(row)
        if len(worst) == FORECASTS_DRAWN:
            break
    return np.array(worst)
