"""See why gates and clipping help: the gradient through time, and what is recalled after a lag"""

from dataclasses import dataclass

import tyro

from shared import cli
from shared.cli import UserError
from shared.settings import check_at_least


@dataclass(frozen=True)
class Config:
    """The settings of the comparison."""

    lag: int = 100
    """The longest lag, in steps; in training every lag up to it comes up."""
    steps: int = 700
    """Training steps of each network."""
    units: int = 48
    """Width of the recurrent layer."""
    batch_size: int = 64
    """Sequences per step."""
    learning_rate: float = 4e-3
    """Adam's."""
    clip_threshold: float = 1.0
    """Bound on the global norm, in those runs that clip."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the weights and the sequences; every network is trained once with each."""

    def __post_init__(self):
        check_at_least(2, self, "lag")
        check_at_least(1, self, "steps", "units", "batch_size")
        check_at_least(0, self, "learning_rate")
        if not self.seeds or not all(0 <= seed < 2**31 - 1 for seed in self.seeds):
            raise UserError(f"--seeds is one or more whole numbers from 0 to {2**31 - 2}; got {self.seeds}.")
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds names a seed twice: {self.seeds}. Give different ones.")
        if self.clip_threshold <= 0:
            raise UserError(f"--clip-threshold is above 0; got {self.clip_threshold}.")


def main() -> None:
    """Read the command line, compare, print where the result lies."""
    config = tyro.cli(Config, prog="python -m tools.gradients", description=__doc__)
    from tools.recall import compare  # imports TensorFlow; --help and a mistake are answered without it

    compare(config)


if __name__ == "__main__":
    cli.run(main)
