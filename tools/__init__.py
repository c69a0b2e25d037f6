"""Commands over all apps. They import apps and shared; neither imports them."""

from pathlib import Path

from shared import quiet

quiet.install()  # before a tool imports TensorFlow
ROOT = Path(__file__).parent.parent


def list_apps(root: Path = ROOT) -> list[str]:
    """The names of all apps in a tree: every folder of `apps/` with a `__main__.py`."""
    return sorted(path.parent.name for path in root.glob("apps/[a-z]*/__main__.py"))
