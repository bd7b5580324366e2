"""How an experiment is declared, and how a cell of it becomes a config."""

import pytest

from core.errors import UserError
from experiments.engine.bases import digits_mlp
from experiments.engine.cells import Outcome, choose, count, wanted
from experiments.engine.experiment import (
    Cell,
    Claim,
    Curves,
    Paper,
    Scale,
    candidates,
    cell_config,
    changed,
    equalised,
    experiment,
    folder_name,
    parse_cell,
    source,
    with_sources,
)
from tests.experiments import tiny
from training.config import difference, validate


def declare(arg="", **changes):
    base = digits_mlp(steps=10, batch_size=8)
    settings = {
        "metric": "-test/loss",
        "rows": {"a": {"model.widths": (2,)}, "b": {"optimizer.momentum": 0.5}},
        "scales": {"cpu": Scale(base=base, seeds=3), "full": Scale(base=base, seeds=2, rows=("b",))},
        "paper": Paper(title="A", arxiv="0", values={"a": 1.0, "b": 2.0}, recalled=("b",)),
        "claims": (Claim("a", "b", "A is better."),),
        "curves": Curves("x", {"a": ("one", 1.0), "b": ("one", 2.0)}),
    }
    return experiment(arg, **(settings | changes))


def test_a_scale_has_its_own_rows_claims_and_numbers():
    whole = declare()
    assert whole == declare("cpu") and whole.seeds == (0, 1, 2) and list(whole.rows) == ["a", "b"]
    assert whole.paper.values == {"a": 1.0, "b": 2.0} and len(whole.claims) == 1
    full = declare("full")
    assert list(full.rows) == ["b"] and full.claims == () and list(full.curves.points) == ["b"]
    assert full.paper.values == {"b": 2.0} and full.scales == ("cpu", "full")


def test_a_cell_is_the_base_with_the_rows_overrides():
    whole = declare(tune={"optimizer.learning_rate": (0.5, 0.25)})
    alone = declare("cpu,b,seed=3,optimizer.learning_rate=0.25", tune={"optimizer.learning_rate": (0.5, 0.25)})
    changes = difference(validate(whole.base), alone)
    keys = {change.partition(":")[0] for change in changes}
    assert keys == {"seed", "optimizer.momentum", "optimizer.learning_rate"}
    assert (alone.seed, alone.optimizer.momentum, alone.optimizer.learning_rate) == (3, 0.5, 0.25)
    assert declare("cpu,a").model.widths == (2,) and "widths" not in whole.base.model
    cell = Cell("b", 3, (("optimizer.learning_rate", 0.25),))
    assert parse_cell(whole, cell.argument.split(",")) == cell and cell.folder == "b/learning_rate=0.25/3"


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("cpuu", ["'cpuu'", "did you mean 'cpu'"]),
        ("cpu,c", ["'c'", "there are: a, b"]),
        ("full,a", ["'full'", "unknown row 'a'"]),
        ("cpu,a,sed=1", ["'sed=1'", "did you mean 'seed'"]),
        ("cpu,a,seed=x", ["seed=NUMBER"]),
        ("cpu,a,seed=-1", ["'seed=-1'"]),
        ("cpu,a,optimizer.learning_rate=1.0", ["optimizer.learning_rate", "seed"]),
    ],
)
def test_slips_in_the_argument(arg, words):
    with pytest.raises(UserError) as refusal:
        declare(arg)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"claims": (Claim("a", "bb", ""),)}, ["claims", "'bb'", "did you mean"]),
        ({"paper": Paper(title="A", arxiv="0", values={"c": 1.0})}, ["paper", "'c'"]),
        ({"curves": Curves("x", {"c": ("one", 1.0)})}, ["curves", "'c'"]),
        ({"rows": {"a": {}, "b": {}, "c d": {}}}, ["'c d'"]),
        ({"starts": {"a": "bb"}}, ["starts", "'a'", "'bb'", "did you mean"]),
        ({"starts": {"a": "b", "b": "a"}}, ["starts", "a start itself"]),
        ({"starts": {"a": "b"}, "tune": {"optimizer.momentum": (0.0, 0.5)}}, ["starts and tune"]),
    ],
)
def test_slips_in_the_declaration(changes, words):
    with pytest.raises(UserError) as refusal:
        declare(**changes)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize(
    ("key", "near"), [("optimizer.momentun", None), ("trian.steps", "train"), ("train.step", "steps")]
)
def test_an_override_of_an_unknown_key(key, near):
    whole = declare(rows={"a": {key: 3}, "b": {}})
    if near is None:  # optax knows what its arguments are, and says so when the run is built
        assert cell_config(whole, Cell("a")).optimizer[key.partition(".")[2]] == 3
        return
    with pytest.raises(UserError, match=near):
        cell_config(whole, Cell("a"))


def test_a_row_starts_from_another_ones_weights_of_the_same_seed(tmp_path):
    whole = declare(starts={"a": "b"})
    assert source(whole, Cell("a", 2)) == Cell("b", 2) and source(whole, Cell("b", 2)) is None
    assert with_sources(whole, ["a"]) == ["a", "b"] and with_sources(whole, ["b"]) == ["b"]
    config = cell_config(whole, Cell("a", 2), tmp_path)
    assert config.init_from == str(tmp_path / Cell("b", 2).folder) and config.model.widths == (2,)
    assert cell_config(whole, Cell("b", 2), tmp_path).init_from == ""
    assert declare("cpu,a,seed=2", starts={"a": "b"}).init_from == "b/2"  # which train.py says is no run of its own
    assert declare("full", starts={"a": "b"}).starts == {}
    with pytest.raises(UserError, match="starts: row 'b'"):
        declare("full", starts={"b": "a"})


def test_tuning_is_over_before_further_seeds_begin():
    whole = declare(tune={"optimizer.learning_rate": (1.0, 2.0), "optimizer.momentum": (0.0,)})
    grid = candidates(whole)
    assert len(grid) == 2 and count(whole) == 2 * (2 + 2)
    assert wanted(whole, {}) == [Cell(row, 0, values) for row in "ab" for values in grid]
    outcomes = {
        Cell("a", 0, grid[0]): Outcome({"validation/loss": 2.0}),
        Cell("a", 0, grid[1]): Outcome(reason="broke"),
    }
    assert choose(whole, "a", outcomes) is None and len(wanted(whole, outcomes)) == 4
    outcomes[Cell("a", 0, grid[1])] = Outcome({"validation/loss": 1.0})  # lower is better
    assert choose(whole, "a", outcomes) == grid[1]
    assert [cell for cell in wanted(whole, outcomes) if cell.seed] == [Cell("a", seed, grid[1]) for seed in (1, 2)]
    outcomes[Cell("a", 0, grid[1])] = Outcome(diverged=True)
    assert choose(whole, "a", outcomes) == grid[0]


def test_without_tuning_all_cells_are_known():
    whole = tiny.get_config()
    assert wanted(whole, {}) == [Cell("narrow", 0), Cell("wide", 0)] and count(whole) == 2


def test_a_change_of_the_whole_table_wins_over_rows_and_recipe():
    whole = changed(declare(), ["optimizer.name=adamw", "train.epochs=2"])
    config = cell_config(whole, Cell("a", 1))
    assert config.optimizer.name == "adamw" and "momentum" not in config.optimizer and config.model.widths == (2,)
    assert (config.train.steps, config.train.epochs, config.seed) == (0, 2.0, 1)
    assert whole.change_texts == ["optimizer.name=adamw", "train.epochs=2"]
    assert folder_name("x/tiny.py:cpu", whole) == "tiny-cpu-optimizer.name=adamw-train.epochs=2"
    assert folder_name("x/tiny.py:cpu", changed(declare(), ["model.widths=(1, 2)"])) == "tiny-cpu-model.widths=_1_2_"
    tuned = changed(declare(tune={"optimizer.learning_rate": (1.0, 2.0)}), ["optimizer.learning_rate=0.5"])
    assert candidates(tuned) == [()] and cell_config(tuned, Cell("a")).optimizer.learning_rate == 0.5
    with pytest.raises(UserError, match="--seeds"):
        changed(declare(), ["seed=1"])


@pytest.mark.parametrize(
    ("texts", "keys"),
    [
        (["train.steps=3"], []),
        (["optimizer.name=adamw"], ["optimizer.momentum"]),  # which a row sets
        (["model.widths=(2,)"], ["model.widths"]),
        (["model.name=mlp.TabularResNet"], ["model.widths"]),
    ],
)
def test_rows_that_a_change_makes_equal_are_seen(texts, keys):
    assert equalised(changed(declare(), texts)) == keys


def test_a_row_may_have_another_network():
    whole = declare(rows={"a": {"model.name": "mlp.TabularResNet"}, "b": {"train.epochs": 1.0}})
    assert cell_config(whole, Cell("a")).model.to_dict() == {"name": "mlp.TabularResNet"}
    assert cell_config(whole, Cell("b")).train.steps == 0
