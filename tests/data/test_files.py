"""Names of one's own files."""

import pytest

import data
from core.errors import UserError


@pytest.mark.parametrize(
    ("name", "written"),
    [("mine.csv", "csv:mine.csv"), ("../a/b.parquet", "parquet:../a/b.parquet"), ("./photos/", "folder:./photos/")],
)
def test_a_path_without_its_kind_is_answered_with_it(name, written, config):
    with pytest.raises(UserError, match=f"is a path: write '{written}'"):
        data.load(config(name), "/nowhere")
