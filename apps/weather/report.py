"""What a run shows of itself: errors by step, month and hour, intervals, forecasts drawn, report.md, TensorBoard."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from apps.weather.cleaning import UNIT
from apps.weather.config import Config
from apps.weather.data import Series
from apps.weather.scoring import Errors, Forecaster
from apps.weather.windows import history_of, horizon_of
from shared import report
from shared.plots import plot_history, plt, save_figure

ROWS = {"network": "test", "linear": "baseline", "last value": "last_value", "same time yesterday": "yesterday"}
NAMES = {prefix: name for name, prefix in ROWS.items()}
STEPS_SHOWN = 8
FORECASTS_DRAWN = 6


def mae_of(target: str) -> str:
    """What its mean absolute error is called: "MAE, degC" of "temperature (degC)"; without a unit by its name."""
    unit = UNIT.search(target)
    return f"MAE, {unit[1]}" if unit else f"MAE of {target}"


def scores(summary: dict) -> pd.DataFrame:
    """The measures of network and baselines, and how much the network's interval holds, as a table in words."""
    table = report.scores(summary, ROWS)
    names = {name: "MAE, normalised" if name == "mae" else "MSE, normalised" for name in ("mae", "mse")}
    table = table.rename(columns=names | {"mae_target": mae_of(summary["target"])})
    if "test_coverage" in summary:
        cells = [f"{summary['test_coverage']:.1%}", *["-"] * (len(table) - 1)]
        table = table.map(lambda value: f"{value:.4f}").assign(**{f"in the {summary['coverage']:.0%} interval": cells})
    return table


def by_place(errors: dict[str, Errors], series: Series, starts: np.ndarray, unit: float) -> pd.DataFrame:
    """Mean absolute error of the target in its own unit: a row for each place, a column for each forecaster."""
    of_windows = {NAMES[who]: pd.DataFrame(found.target_absolute).mean(axis=1) * unit for who, found in errors.items()}
    return pd.DataFrame(of_windows).groupby(np.array(series.places)[series.place[starts]]).mean()


def print_cleaning(series: Series) -> None:
    """What was done to the data, as a table."""
    table = Table(title=Text(f"Cleaning of {series.name}"))
    for column, justify in (("place", "left"), ("what", "left"), ("count", "right")):
        table.add_column(column, justify=justify)
    for row in series.cleaning.itertuples():
        table.add_row(Text(row.place), Text(row.what), f"{row.count:,}")
    Console(width=120).print(table)


def write(
    folder: Path, summary: dict, series: Series, starts: np.ndarray, errors: dict[str, Errors], config: Config, unit: float
) -> None:
    """Plots (PNG), tables (CSV) and report.md.

    Args:
        folder: the run folder.
        summary: what goes into metrics.json.
        series: the data.
        starts: the test windows.
        errors: of the network as "test" and of the baselines, on these windows.
        config: the settings.
        unit: the target's standard deviation over the training rows: what turns errors into its own unit.
    """
    title = f"{summary['app']} on {summary['dataset']} (test), {summary['target']}"
    plots, target = folder / "plots", mae_of(summary["target"])
    history = pd.read_csv(folder / "history.csv")
    plot_history(plots / "training.png", history, [["loss", "val_loss"], ["gradient_norm"], ["clipped_share"]], title)
    by_step, by_time = table_by_step(errors, unit, config), tables_by_time(errors, series, starts, unit, config)
    squared = pd.DataFrame({f"{NAMES[who]}, mse": found.squared.mean(axis=1) for who, found in errors.items()}, by_step.index)
    by_step.join(squared).to_csv(folder / "by_step.csv", index_label="step")
    for name, table in by_time.items():
        table.to_csv(folder / f"by_{name}.csv", index_label=name)
    plot_by_step(plots / "error_by_step.png", by_step, title, target)
    plot_by_time(plots / "error_by_time.png", by_time, title, target)
    some = skill(by_step).iloc[_some(len(by_step))]
    report.print_table(some, target, "step", digits=3)
    places = []
    if len(series.places) > 1:
        table = by_place(errors, series, starts, unit)
        table.to_csv(folder / "by_place.csv", index_label="place")
        report.print_table(table, target, "place", digits=3)
        places = [f"{target}, by place.", "", *report.markdown_table(table, "place"), ""]
    sections = [
        f"Judged by {summary['metric']} against the strongest baseline, {summary['lead']['baseline']}: "
        f"{summary['lead']['verdict']}, by {summary['lead']['mean']:.4f} (95 % interval {summary['lead']['low']:.4f} to "
        f"{summary['lead']['high']:.4f}, normalised; blocks of overlapping windows drawn again).",
        "",
        f"{target}, by step. Skill: the fraction by which it is below a baseline's.",
        "",
        *report.markdown_table(some, "step"),
        "",
        *interval_lines(summary, errors, by_step, unit),
        *places,
        *(f"![{name}](plots/{name}.png)" for name in ("forecasts", "worst", "error_by_step", "error_by_time", "training")),
        "",
        "## What was done to the data",
        "",
        *(f"- {row.place}: {row.what}: {row.count:,}" for row in series.cleaning.itertuples()),
    ]
    report.write_markdown(folder, summary, report.scores(summary, ROWS), "test", sections)
    report.plots_to_tensorboard(folder)


def table_by_step(errors: dict[str, Errors], unit: float, config: Config) -> pd.DataFrame:
    """Mean absolute error of the target in its own unit: a row for each step, a column for each forecaster."""
    columns = {NAMES[who]: pd.DataFrame(found.target_absolute).mean().to_numpy() * unit for who, found in errors.items()}
    return pd.DataFrame(columns, index=range(1, config.horizon + 1))


def skill(by_step: pd.DataFrame) -> pd.DataFrame:
    """With the network's skill against the last value and against the best baseline at that step: 1 is perfect, 0 no better."""
    baselines = by_step.drop(columns="network")
    return by_step.assign(
        **{
            "skill over last value": 1 - by_step["network"] / by_step["last value"],
            "skill over best baseline": 1 - by_step["network"] / baselines.min(axis=1),
        }
    )


def tables_by_time(
    errors: dict[str, Errors], series: Series, starts: np.ndarray, unit: float, config: Config
) -> dict[str, pd.DataFrame]:
    """By month and by hour of what is forecast: mean absolute error of the target, coverage and width of its interval."""
    times = series.times[horizon_of(starts, config)].ravel()
    keys = {"month": pd.DatetimeIndex(times).month, "hour": pd.DatetimeIndex(times).hour}
    columns = {NAMES[who]: found.target_absolute.ravel() * unit for who, found in errors.items()}
    if len(config.quantiles) > 1:
        columns |= {"coverage": errors["test"].target_inside.ravel(), "width": errors["test"].target_width.ravel() * unit}
    return {name: pd.DataFrame(columns).groupby(np.asarray(key)).mean() for name, key in keys.items()}


def interval_lines(summary: dict, errors: dict[str, Errors], by_step: pd.DataFrame, unit: float) -> list[str]:
    """Coverage and width of the intervals, over all and by step."""
    if "test_coverage" not in summary:
        return []
    found = errors["test"]
    table = pd.DataFrame(
        {
            "coverage": pd.DataFrame(found.target_inside).mean().to_numpy(),
            "width": found.target_width.mean(axis=0) * unit,
        },
        index=by_step.index,
    )
    return [
        f"The interval holds {summary['test_coverage']:.1%} of the truth ({summary['coverage']:.0%} asked); its mean width is "
        f"{summary['test_width']:.2f}.",
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
        table[[column for column in table if column in ROWS]].plot(ax=axes[0, number], marker="o")
        axes[0, number].set(xlabel=name, ylabel=name_of_error, ylim=(0, None))
        if has_intervals:
            table["coverage"].plot(ax=axes[1, number], marker="o")
            axes[1, number].set(xlabel=name, ylabel="share of the truth in the interval", ylim=(0, 1))
    save_figure(figure, file, title)


def plot_forecasts(
    folder: Path,
    series: Series,
    starts: np.ndarray,
    error: Errors,
    says: Forecaster,
    target: int,
    scale: tuple[float, float],
    config: Config,
    title: str,
) -> None:
    """Forecasts with their fans: some evenly spread (forecasts.png) and the ones furthest off (worst.png).

    Args:
        folder: to write to.
        series: the data.
        starts: the test windows.
        error: the network's on them.
        says: the network.
        target: the target's place among the columns that are forecast.
        scale: the target's mean and standard deviation over the training rows.
        config: the settings.
        title: of the figures.
    """
    spread = np.linspace(0, len(starts) - 1, FORECASTS_DRAWN).astype(int)
    for name, rows in (("forecasts", spread), ("worst", worst_days(error, starts, config))):
        figure, axes = plt.subplots(2, 3, figsize=(15, 7), squeeze=False)
        quantiles = scale[0] + scale[1] * says(starts[rows])[:, :, target]
        for axis, start, fan in zip(axes.ravel(), starts[rows], quantiles, strict=False):
            past = history_of(start[None], config)[0, -3 * config.horizon :]
            future = horizon_of(start[None], config)[0]
            axis.plot(series.times[past], series.values[past, series.target], "k-")
            axis.plot(series.times[future], series.values[future, series.target], "k:", label="what came")
            axis.plot(series.times[future], fan[:, config.quantiles.index(0.5)], "C0-", label="forecast")
            for pair in range(len(config.quantiles) // 2):
                axis.fill_between(series.times[future], fan[:, pair], fan[:, -1 - pair], color="C0", alpha=0.25, linewidth=0)
            axis.tick_params(axis="x", rotation=30)
        axes[0, 0].legend()
        save_figure(figure, folder / f"{name}.png", title)


def worst_days(error: Errors, starts: np.ndarray, config: Config) -> np.ndarray:
    """Windows with the largest mean error, no two of which overlap in what they forecast; worst first."""
    worst, means = [], pd.DataFrame(error.target_absolute).mean(axis=1)  # NaN where nothing was measured
    for row in np.argsort(-means.to_numpy()):
        if all(abs(starts[row] - starts[other]) >= config.horizon * config.every for other in worst):
            worst.append(row)
        if len(worst) == FORECASTS_DRAWN:
            break
    return np.array(worst)
