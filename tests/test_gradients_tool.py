"""The recall task of make gradients: its sequences, its measure, and the command made tiny."""

import numpy as np
import pandas as pd
import pytest

from shared.cli import UserError
from shared.states import Recording
from tools import recall, recall_plots
from tools.gradients import Config

DRAWN = True


@pytest.mark.parametrize("lag", [1, 4, 9])
def test_the_symbol_stands_where_it_should_and_nothing_else_speaks(lag):
    inputs, targets = recall.make_batch(np.random.default_rng(0), 200, 10, lag)
    symbols = inputs.argmax(axis=2)
    np.testing.assert_array_equal(symbols[:, 9 - lag], targets)
    assert (np.delete(symbols, 9 - lag, axis=1) >= recall.SYMBOLS).all()
    np.testing.assert_array_equal(np.unique(targets), np.arange(recall.SYMBOLS))


def test_one_sequence_is_made_with_each_symbol():
    inputs = recall.make_exchanged(np.random.default_rng(0), 10, 4)
    symbols = inputs.argmax(axis=2)
    np.testing.assert_array_equal(symbols[:, 5], range(recall.SYMBOLS))
    rest = np.delete(symbols, 5, axis=1)
    assert (rest == rest[0]).all()
    assert (rest >= recall.SYMBOLS).all()
    assert (inputs.sum(axis=2) == 1).all()


def test_a_unit_holds_a_symbol_if_its_state_tells_it_and_its_gate_keeps_it():
    """Of three units, 0 tells the symbol and its gate keeps it, 1 tells more but its gate lets go, 2 keeps what tells none."""
    hidden, update = np.zeros((2, 6, 3)), np.zeros((2, 6, 3))
    hidden[0, -1], hidden[1, -1] = (0.5, 0.9, 1), (-0.5, -0.9, 1)
    update[0, 3:, 0] = 0.8  # since the symbol; of the second symbol, it lets go
    update[:, :, 2] = 1
    recording = Recording(hidden, None, {"update": update, "reset": np.ones_like(update)})
    symbol, units = recall_plots.memory_units(recording, step=2)
    assert symbol == 0
    assert units[0] == 0
    np.testing.assert_array_equal(recall_plots.keeping(recording), update)
    symbol, units = recall_plots.memory_units(Recording(hidden, None, {}), step=2)
    np.testing.assert_array_equal(units, [1, 0, 2])  # without gates, what the states tell counts alone


def test_in_training_every_lag_comes_up():
    inputs, targets = recall.make_batch(np.random.default_rng(0), 2000, 10)
    symbols = inputs.argmax(axis=2)
    rows, places = np.nonzero(symbols < recall.SYMBOLS)
    np.testing.assert_array_equal(rows, np.arange(2000))
    np.testing.assert_array_equal(symbols[rows, places], targets)
    assert set(9 - places) == set(range(1, 10))


def test_what_is_left_of_a_gradient_is_measured_from_its_start():
    """Also of a curve that falls and rises again, of which no decay per step could be told; and rows count alike."""
    rows = np.array([[4.0, 1.0, 2.0, 8.0], [400.0, 100.0, 200.0, 800.0], [np.nan, np.inf, 1.0, 0.0]])
    np.testing.assert_allclose(recall.left(rows), [[0.5, 0.125, 0.25, 1], [0.5, 0.125, 0.25, 1], [0, 0, 0, 0]])


def test_the_gradient_is_that_of_the_right_logit_however_wrong_the_network_is():
    logits = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "float32")
    np.testing.assert_array_equal(recall.right_logit(np.array([2, 0]), logits), [3, 4])


def test_the_command_saves_a_figure_and_a_table(capsys, monkeypatch):
    monkeypatch.setattr(recall, "NETWORKS", {name: recall.NETWORKS[name] for name in ("SimpleRNN", "GRU")})
    folder = recall.compare(Config(lag=6, steps=3, units=4, batch_size=8, seeds=(0, 1)))
    table = pd.read_csv(folder / "table.csv")
    assert list(table["network"].unique()) == list(recall.NETWORKS)
    assert len(table) == 8
    assert len(table["left untrained"].unique()) == 4  # of two networks and two seeds; clipping does not change the start
    assert [column for column in table if column.startswith("lag ")] == ["lag 1", "lag 2", "lag 5", "lag 6"]
    assert table.filter(like="lag ").stack().between(0, 1).all()
    assert (folder / "gradients.png").stat().st_size > 3_000
    assert (folder / "gates.png").stat().st_size > 3_000
    drawn = np.load(folder / "gates.npz")
    assert set(drawn) == {"SimpleRNN/hidden", "GRU/hidden", "GRU/update", "GRU/reset"}
    assert drawn["GRU/update"].shape == (recall.SYMBOLS, 7, 4)
    hidden = drawn["GRU/hidden"]
    assert (hidden[:, :3] == hidden[:1, :3]).all()  # the symbol comes 3 steps before the last of 7
    assert (hidden[1:, 3] != hidden[:1, 3]).any(axis=1).all()
    assert "Saved: runs/gradients/" in capsys.readouterr().out


def test_the_summary_is_mean_and_range_over_the_seeds():
    rows = [("GRU", "none", 0, 0.25, 1.0), ("GRU", "none", 1, 0.5, 1.0), ("LSTM", "none", 0, 1.0, 0.5)]
    table = pd.DataFrame(rows, columns=["network", "clipping", "seed", "lag 1", "lag 2"])
    summary = recall.summarize(table)
    assert summary.values.tolist() == [["GRU", "none", "0.375\n0.25\n0.5", "1"], ["LSTM", "none", "1", "0.5"]]


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="--lag is 2 or more; got 1"):
        Config(lag=1)
    with pytest.raises(UserError, match="--seeds names a seed twice"):
        Config(seeds=(1, 1))
    with pytest.raises(UserError, match="--seeds is one or more whole numbers"):
        Config(seeds=())


@pytest.mark.slow
def test_gates_recall_what_a_plain_recurrence_forgets_and_clipping_helps_it():
    table = pd.read_csv(recall.compare(Config(seeds=(0,))) / "table.csv").set_index(["network", "clipping"])
    assert table.loc[("GRU", "global_norm"), "lag 100"] > 0.95
    assert table.loc[("SimpleRNN", "none"), "lag 100"] < 0.3
    assert table.loc[("SimpleRNN", "global_norm"), "lag 20"] > table.loc[("SimpleRNN", "none"), "lag 20"] + 0.2
    assert table.loc[("SimpleRNN", "global_norm"), "left untrained"] < 1e-3
    assert table.loc[("SimpleRNN, ReLU from identity", "global_norm"), "left untrained"] > 0.1
    assert table.loc[("GRU", "global_norm"), "left trained"] > 0.1
