"""The paired bootstrap, against SciPy's and the closed form."""

import numpy as np
import pytest
from scipy import stats

from shared.comparison import Lead, paired_bootstrap, paired_bootstrap_of_totals


def test_the_interval_is_scipys():
    rng = np.random.default_rng(0)
    network, baseline = rng.random(400) < 0.9, rng.random(400) < 0.85
    lead = paired_bootstrap(network, baseline, higher_is_better=True)
    differences = network.astype(float) - baseline
    theirs = stats.bootstrap((differences,), np.mean, n_resamples=2_000, method="percentile", rng=0).confidence_interval
    assert lead.mean == pytest.approx(differences.mean())
    assert (lead.low, lead.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_an_error_that_is_lower_is_a_lead():
    rng = np.random.default_rng(0)
    errors = rng.random(500)
    assert paired_bootstrap(errors, errors + 0.1, higher_is_better=False) == pytest.approx((0.1, 0.1, 0.1))
    assert paired_bootstrap(errors, errors + 0.1, higher_is_better=True).verdict == "worse"


@pytest.mark.parametrize(("wins", "losses", "verdict"), [(12, 5, "draw"), (20, 3, "better"), (3, 20, "worse")])
def test_seven_more_of_a_thousand_are_a_draw(wins, losses, verdict):
    network, baseline = np.ones(1032), np.ones(1032)
    baseline[:wins] = 0
    network[wins : wins + losses] = 0
    assert paired_bootstrap(network, baseline, higher_is_better=True).verdict == verdict
    p_value = stats.binomtest(wins, wins + losses).pvalue  # McNemar's exact test
    assert (p_value < 0.05) == (verdict != "draw")


def test_blocks_widen_the_interval_of_dependent_neighbours():
    differences = np.repeat(np.random.default_rng(0).normal(size=200), 24)  # 24 neighbours that are the same
    alone, blocks = (paired_bootstrap(differences, 0, higher_is_better=True, block=block) for block in (1, 24))
    assert (blocks.high - blocks.low) / (alone.high - alone.low) == pytest.approx(24**0.5, rel=0.1)
    assert blocks.high - blocks.low == pytest.approx(2 * 1.96 * differences.std() / 200**0.5, rel=0.1)


def test_a_lead_becomes_its_entries_of_the_metrics():
    entries = Lead(0.02, 0.01, 0.03).describe("accuracy", "n-grams")
    lead = {"metric": "accuracy", "baseline": "n-grams", "mean": 0.02, "low": 0.01, "high": 0.03, "verdict": "better"}
    assert entries == {"beats_baseline": True, "lead": lead}
    for drawn_or_lost in (Lead(0.02, -0.01, 0.05), Lead(-0.02, -0.03, -0.01)):
        assert drawn_or_lost.describe("accuracy")["beats_baseline"] is False


def test_the_verdict_needs_an_interval_beyond_zero():
    verdicts = [Lead(0, low, high).verdict for low, high in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.2), (0, 0))]
    assert verdicts == ["better", "worse", "draw", "draw"]


def test_a_lead_in_f1_is_that_of_the_totals_and_its_interval_scipys():
    """F1 of all examples together is not the mean of theirs."""
    rng = np.random.default_rng(0)
    expected = rng.integers(1, 4, 400)
    right = [rng.binomial(expected, probability) for probability in (0.9, 0.8)]
    network, baseline = (np.stack([one, expected, expected], axis=1) for one in right)

    def f1(right, found, expected):
        return 2 * right / (found + expected)

    lead = paired_bootstrap_of_totals(network, baseline, f1)
    assert lead.mean == pytest.approx((right[0].sum() - right[1].sum()) / expected.sum())

    def statistic(rows):
        return f1(*network[rows].sum(axis=0)) - f1(*baseline[rows].sum(axis=0))

    rows = np.arange(400)
    theirs = stats.bootstrap((rows,), statistic, n_resamples=2_000, method="percentile", rng=0, vectorized=False)
    assert (lead.low, lead.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.004)
    assert lead.verdict == "better"
    assert paired_bootstrap_of_totals(network, network, f1) == Lead(0, 0, 0)
