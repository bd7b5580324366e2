"""Fixtures of the runner's tests."""

import pytest

from experiments import run


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(run, "TICK_SECONDS", 0)
