"""Comparisons of runs: labels, differences, results and curves in one page; mistakes in one line."""

import json
import re

import pytest

from core.errors import UserError
from reporting import compare
from tests.reporting.pages import check
from tests.training import commands
from training import config as config_lib
from training.workdir import to_json


def run(folder, accuracy=None, **changes):
    """Writes the folder of a run whose config differs from the default by `changes`, "__" for "."."""
    config = config_lib.default()
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        (config[group] if group else config)[name] = value
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config_lib.to_json(config))
    if accuracy is not None:
        rows = [{"step": step, "split": "train", "seconds": 1.0, "loss": 1 / step} for step in (1, 2, 3)]
        rows += [{"step": step, "split": "validation", "loss": 2 / step} for step in (1, 3)]
        rows += [{"step": 3, "split": "test", "accuracy": accuracy}]
        (folder / "metrics.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
        results = {"validation": {"loss": 0.5}, "test": {"accuracy": accuracy}}
        (folder / "results.json").write_text(json.dumps({"step": 3, "results": results}))
    return folder


def page(tmp_path, *runs):
    compare.write(runs, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text()
    check(text)
    return text


def table(text, number):
    """Returns the cells of a table of a page, without elements inside them."""
    rows = re.findall("<tr>(.*?)</tr>", re.findall("<table>(.*?)</table>", text, re.DOTALL)[number], re.DOTALL)
    return [
        [re.sub("<[^>]*>", "", cell).strip() for cell in re.findall("<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows
    ]


def test_runs_are_labelled_by_the_keys_in_which_they_differ(tmp_path):
    a = run(tmp_path / "a", 0.5, optimizer__learning_rate=0.1)
    b = run(tmp_path / "b", 0.75, optimizer__learning_rate=0.01, seed=1, model__depth=3)
    text = page(tmp_path, a, b)
    names = ["learning_rate=0.1, seed=0, depth=unset", "learning_rate=0.01, seed=1, depth=3"]
    assert table(text, 0) == [
        ["run", "folder", "Test accuracy", "Validation loss"],
        [names[0], "a", "50.00%", "0.5"],
        [names[1], "b", "75.00%", "0.5"],
    ]
    differing = [["seed", "0", "1"], ["model.depth", "unset", "3"], ["optimizer.learning_rate", "0.1", "0.01"]]
    (heading, *rows) = table(text, 1)
    assert heading == ["key", "a", "b"] and sorted(rows) == sorted(differing)
    assert re.findall("<h3>([^<]*)", text) == ["Loss, validation", "Loss, train"]
    assert text.count(f">\N{ZERO WIDTH SPACE}{names[1]}</text>") == 2  # in both legends


def test_equal_and_unfinished_runs_are_labelled_by_folder(tmp_path):
    text = page(tmp_path, run(tmp_path / "x/run/0", 0.5), run(tmp_path / "y/run/<0>"))
    assert "The configurations are equal." in text
    assert [row[0] for row in table(text, 0)] == ["run", "x/run/0", "y/run/&lt;0&gt;"]
    assert table(text, 0)[2][1:] == ["y/run/&lt;0&gt; (not finished)", "", ""]


def test_many_runs_keep_their_colours_apart(tmp_path):
    runs = [run(tmp_path / f"{number}", 0.5, seed=number) for number in range(25)]
    styles = re.findall(r'class="swatch" style="([^"]*)"', page(tmp_path, *runs))[:25]
    assert len(set(styles)) == 25


def test_mistakes_are_named(tmp_path):
    a, b = run(tmp_path / "a"), run(tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is not the folder of a run"):
        compare.write([a, tmp_path / "empty"], tmp_path / "compare.html")
    with pytest.raises(UserError, match="emptyy does not exist: did you mean 'empty'"):
        compare.write([a, tmp_path / "emptyy"], tmp_path / "compare.html")
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist"):
        compare.write([a, b], tmp_path / "nowhere/compare.html")
    with pytest.raises(UserError, match=r"empty is a folder: name a file"):
        compare.write([a, b], tmp_path / "empty")
    (a / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"results.json is damaged"):
        compare.write([a, b], tmp_path / "compare.html")


def test_a_killed_run_may_leave_a_part_of_a_line(tmp_path):
    a, b = run(tmp_path / "a"), run(tmp_path / "b")
    row = '{"step": 1, "split": "train", "loss": 1.0}\n'
    (b / "metrics.jsonl").write_text(row)
    (a / "metrics.jsonl").write_text(row + '{"step": 3, "spl')
    assert compare.Run.read(a).history == compare.Run.read(b).history != []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "name the folders of two or more runs"),
        (("x", "x"), "x is named twice"),
        (("x", "--outputt=y"), "--outputt"),
    ],
)
def test_the_command_refuses_with_one_line(tmp_path, arguments, error):
    code, _, err = commands.run(*arguments, script="-mreporting.compare")
    assert code == 2 and err.count("\n") == 1 and error in err


@pytest.mark.slow
def test_the_command_writes_a_page(tmp_path):
    a, b, output = run(tmp_path / "a", 0.5), run(tmp_path / "b", 0.75, seed=1), tmp_path / "page.html"
    code, out, err = commands.run(str(a), str(b), f"--output={output}", script="-mreporting.compare")
    assert code == 0 and out.strip() == str(output) and "seed=1" in output.read_text(), err
