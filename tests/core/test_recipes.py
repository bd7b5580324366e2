"""Recipes are loaded by their file and argument; whatever is wrong is one line that names the place."""

import pytest

from core import cli
from core.errors import UserError
from core.recipes import load

RECIPE = """
from core.errors import UserError

def get_config(arg="x"):
    if arg == "slip":
        raise UserError("unknown argument 'slip'")
    return 1 / len(arg.replace("0", ""))
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    return path


def test_a_recipe_gets_its_argument(recipe):
    assert load(str(recipe)) == 1.0 and load(f"{recipe}:four") == 0.25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("configs/digit.py", ["configs/digit.py does not exist", "did you mean 'configs/digits.py'"]),
        (
            "configs/digits.py:foo",
            ["configs/digits.py:foo: this recipe takes no argument: write --config=configs/digits.py"],
        ),
        ("configs/images.py:cifar", ["configs/images.py:cifar: unknown argument 'cifar': did you mean 'cifar10'"]),
        ("core/errors.py", ["no function get_config"]),
        ("setup.cfg", ["setup.cfg: not a Python file"]),
        ("{recipe}:slip", ["mine.py:slip: unknown argument 'slip'"]),
        ("{recipe}:0", ["mine.py, line 7: ZeroDivisionError: division by zero"]),
    ],
)
def test_slips(text, words, recipe):
    with pytest.raises(UserError) as refusal:
        load(text.format(recipe=recipe))
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_broken_file_is_named_with_its_line(tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\ndef get_config(:\n")
    with pytest.raises(UserError, match=r"broken\.py, line 2: SyntaxError"):
        load(str(tmp_path / "broken.py"))


def test_an_error_in_a_recipe_has_the_traceback_from_the_recipe_on(recipe, monkeypatch, capsys):
    monkeypatch.chdir(recipe.parent)
    with pytest.raises(UserError) as refusal:
        load("mine.py:0")
    lines = refusal.value.trace.splitlines()
    assert lines[0].startswith("Traceback") and "mine.py" in lines[1] and lines[-1].startswith("ZeroDivisionError")
    assert "recipes.py" not in refusal.value.trace

    def main(argv):
        load("mine.py:0")

    with pytest.raises(SystemExit) as end:
        cli.guarded(main, [])
    assert end.value.code == cli.USER_ERROR
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: --config mine.py:0: ") and "mine.py, line 7: ZeroDivisionError" in last
