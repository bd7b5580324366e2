import pytest


@pytest.fixture(autouse=True, scope="module")
def always(compile_fast):
    """These tests compile much and compute little."""
