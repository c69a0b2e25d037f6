"""Trains the tagging app until it has to have learned."""

from dataclasses import replace

import pytest

from apps.tagging import data, train
from apps.tagging.config import PRESETS
from shared import runs


@pytest.mark.slow
def test_order_and_distance_are_learned_that_a_window_does_not_show():
    """The generated sample: two words to each side do not tell which of two names comes first."""
    config = replace(PRESETS["smoke"], dataset="sample")
    metrics = runs.read_json(train.train(config, data.load(config)) / "metrics.json")
    network, baseline = (metrics["test"][who]["entity_f1"] for who in ("network", "baseline"))
    assert network > 0.98
    assert 0.8 < baseline < 0.93
    assert metrics["beats_baseline"]
