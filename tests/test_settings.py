"""The settings in common: what is refused, and with which flag in the message; NaN and infinity among it."""

import math
from dataclasses import dataclass, fields, replace

import pytest

from shared import settings
from shared.cli import UserError
from shared.rnn import recurrent_stack
from shared.settings import Recurrent, Training

NAN, INFINITE = math.nan, math.inf


@pytest.mark.parametrize(
    ("kind", "field", "wrong"),
    [
        *((Recurrent, "units", value) for value in (0, -1)),
        (Recurrent, "num_layers", 0),
        *((Recurrent, "dropout", value) for value in (-0.1, 1.0, NAN, INFINITE)),
        *((Training, field, 0) for field in ("epochs", "patience", "batch_size")),
        *((Training, field, value) for field in ("learning_rate", "weight_decay") for value in (-1e-9, NAN, INFINITE)),
        *((Training, "clip_threshold", value) for value in (0.0, -1.0, NAN, INFINITE)),
        *((Training, "seed", value) for value in (-1, 2**31)),
    ],
)
def test_a_wrong_value_is_named_with_its_flag(kind, field, wrong):
    with pytest.raises(UserError, match=rf"^--{field.replace('_', '-')} is .*; got {wrong}\.$"):
        kind(**{field: wrong})


@pytest.mark.parametrize(
    "right",
    [{"learning_rate": 0}, {"weight_decay": 0}, {"seed": 2**31 - 1}, {"seed": 0}, {"clip_threshold": 1e-9}, {"epochs": 1}],
)
def test_the_ends_of_the_ranges_are_allowed(right):
    assert replace(Training(), **right) == Training(**right)


def test_relu_is_for_the_plain_cell():
    assert Recurrent(cell="rnn", activation="relu", dropout=0).activation == "relu"
    with pytest.raises(UserError, match="--activation relu is for --cell rnn; a lstm"):
        Recurrent(cell="lstm", activation="relu")


def test_the_recurrent_settings_are_arguments_of_the_stack():
    assert {field.name for field in fields(Recurrent)} <= set(recurrent_stack.__kwdefaults__)


@dataclass(frozen=True)
class Config:
    data: str | None = None
    dataset: str = "auto"
    limit: int | None = None
    validation_split: float = 0.2
    test_split: float = 0.1


def test_none_is_no_wrong_number():
    settings.check_at_least(1, Config(), "limit")
    with pytest.raises(UserError, match="--limit is 1 or more; got 0"):
        settings.check_at_least(1, Config(limit=0), "limit")


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.5, NAN, INFINITE])
def test_a_split_lies_strictly_between_zero_and_one(wrong):
    with pytest.raises(UserError, match=f"--validation-split lies between 0 and 1; got {wrong}"):
        settings.check_split(Config(validation_split=wrong), "validation_split", "test_split")


@pytest.mark.parametrize("test", [0.8, 0.9])
def test_splits_leave_something_to_train_on(test):
    settings.check_split(Config(test_split=0.79), "validation_split", "test_split")
    with pytest.raises(UserError, match="--validation-split and --test-split together leave nothing"):
        settings.check_split(Config(test_split=test), "validation_split", "test_split")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(data=""), '--data "" is empty'),
        (Config(data="a.csv", dataset="sample"), "--data a.csv and --dataset sample are two sources"),
    ],
)
def test_two_sources_or_an_empty_one_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        settings.check_source(config)
    for right in (Config(), Config(data="a.csv"), Config(dataset="sample")):
        settings.check_source(right)
