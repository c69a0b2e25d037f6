"""Watch all runs in a browser, or with APP=... those of one app"""

import contextlib
import io
import json
import threading
from pathlib import Path
from urllib.parse import urlencode

import tyro
from tensorboard import program

from shared import cli, runs
from shared.cli import UserError
from shared.tensorboard import QUALITY, tag


def choose(app: str) -> list[str]:
    """The apps to show: the one that is named, or without a name all that have runs.

    Raises:
        UserError: if there are no runs to show.
    """
    folders = sorted(path.name for path in runs.ROOT.glob("*") if path.is_dir())
    apps = [name for name in folders if _runs_of(name)]
    if not apps:
        raise UserError(f"No runs in {runs.ROOT}/ yet. Train an app first; make lists them.")
    if app and app not in apps:
        raise UserError(f"APP={app}: there are no runs in {runs.ROOT / app}/; there are some of {', '.join(apps)}.")
    return [app] if app else apps


def tags_to_pin(apps: list[str]) -> list[str]:
    """What is looked at first: what each app is judged by, the loss, the largest gradient norm.

    What an app is judged by is read from its runs' history.csv; until the first epoch of all has ended, it is not known.
    """
    files = [folder / "history.csv" for app in apps for folder in _runs_of(app)]
    columns = [name for file in files if file.exists() for name in file.read_text(encoding="utf-8").split("\n")[0].split(",")]
    validated = [tag(name.removeprefix("val_")) for name in columns if name.startswith("val_")]
    quality = [name for name in dict.fromkeys(validated) if name.startswith(QUALITY)]
    return [*quality, tag("loss"), tag("gradient_norm_max")]


def address(url: str, tags: list[str]) -> str:
    """Where TensorBoard's page opens with charts pinned on top and curves as they are, not smoothed.

    Args:
        url: of the page, with / at its end.
        tags: of scalars; those that no run has are left out by the page.
    """
    cards = [{"plugin": "scalars", "tag": name} for name in tags]
    query = urlencode({"smoothing": 0, "pinnedCards": json.dumps(cards, separators=(",", ":"))}, safe="/:,")
    return f"{url}?{query}#timeseries"


def start(folder: Path, host: str, port: int | None) -> str:
    """Start TensorBoard in a thread that ends with this process. Returns its page's URL.

    Args:
        folder: what it reads, again and again.
        host: the address to listen on.
        port: None: 6006 or, if that is taken, the next free one.

    Raises:
        UserError: if it cannot listen there.
    """
    tensorboard = program.TensorBoard()
    tensorboard.configure(logdir=str(folder), host=host, port=port)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a remark on how it reads the logs, with another address in it
            return tensorboard.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"{error.msg}. Name another --host or --port.") from None


def main(app: str = "", host: str = "localhost", port: int | None = None) -> None:
    """Start TensorBoard, print the address to open, go on until Ctrl-C.

    Args:
        app: whose runs to show; all apps' if empty.
        host: address to listen on; 0.0.0.0 for all of this machine's.
        port: where to listen; without it 6006 or, if that is taken, the next free one.
    """
    apps = choose(app)
    for name in apps:
        runs.link_all_logs(name)
    url = start(runs.ROOT / runs.TENSORBOARD / app, host, port)
    print(f"The runs of {', '.join(apps)}, until Ctrl-C:\n{address(url, tags_to_pin(apps))}", flush=True)
    threading.Event().wait()


def _runs_of(app: str) -> list[Path]:
    return [*runs.finished(app), *runs.unfinished(app)]


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(main, prog="python -m tools.tensorboard"))
