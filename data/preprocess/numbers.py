"""How a table's column of numbers becomes features: standardised or by quantiles, in one number or piecewise linear.

The state of a column is a dict, as JSON, which is fitted on the training rows. Missing numbers are NaN.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

# n: rows, f: features of one column

Scaling = Literal["standard", "quantile"]
ROWS_PER_QUANTILE = 30  # as Gorishniy et al. 2021, whose code has 10 to 1000 quantiles


def fit_numbers(numbers: Float64[np.ndarray, " n"], scaling: Scaling, bins: int) -> dict[str, Any] | None:
    """Returns the state of a column; None if the numbers do not vary and none is missing."""
    present = numbers[~np.isnan(numbers)]
    mean, std = (float(present.mean()), float(present.std())) if len(present) else (0.0, 0.0)
    missing, varies = 0 < len(present) < len(numbers), std > 1e-12 * abs(mean)
    if not varies and not missing:
        return None
    state: dict[str, Any] = {"mean": mean, "std": std if varies else 1.0, "missing": missing}
    if scaling == "quantile" and varies:
        count = min(len(present), max(10, min(1000, len(present) // ROWS_PER_QUANTILE)))
        quantiles = np.maximum.accumulate(np.quantile(present, np.linspace(0, 1, count)))
        state |= {"quantiles": quantiles.tolist(), "rows": len(present)}
    if bins and varies:
        edges = np.unique(np.quantile(_scaled(present, state), np.linspace(0, 1, bins + 1)))
        state["edges"] = edges.tolist()
    return state


def numbers_width(state: Mapping[str, Any]) -> int:
    """Returns f."""
    return len(state.get("edges", (0, 1))) - 1 + state["missing"]


def encode_numbers(numbers: Float64[np.ndarray, " n"], state: Mapping[str, Any]) -> Float64[np.ndarray, "n f"]:
    """Returns the features: the scaled number, or its piecewise-linear encoding, and 1 for a missing one if training
    rows had some."""
    scaled = np.nan_to_num(_scaled(numbers, state))
    parts = [_piecewise(scaled, np.array(state["edges"])) if "edges" in state else scaled[:, None]]
    parts += [np.isnan(numbers)[:, None]] * state["missing"]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def _scaled(numbers: Float64[np.ndarray, " n"], state: Mapping[str, Any]) -> Float64[np.ndarray, " n"]:
    """Returns standardised numbers or, with quantiles, normal scores of their ranks among the training rows.

    The rank of a number that several quantiles share is in their middle. The first and the last rank are half a row
    from the ends, where the score is finite.
    """
    if "quantiles" not in state:
        return (numbers - state["mean"]) / state["std"]
    quantiles = np.array(state["quantiles"])
    ranks = np.linspace(0, 1, len(quantiles))
    rank = (np.interp(numbers, quantiles, ranks) - np.interp(-numbers, -quantiles[::-1], -ranks[::-1])) / 2
    end = 0.5 / state["rows"]
    return ndtri(np.clip(rank, end, 1 - end))


def _piecewise(x: Float64[np.ndarray, " n"], edges: Float64[np.ndarray, " e"]) -> Float64[np.ndarray, "n f"]:
    """Returns the share of each bin that lies below x (Gorishniy et al. 2022, arXiv 2203.05556, equation 1).

    The first bin continues below, and the last one above.
    """
    shares = (x[:, None] - edges[:-1]) / np.diff(edges)
    lowest, highest = (np.full(len(edges) - 1, float(end)) for end in (0, 1))
    lowest[0], highest[-1] = -np.inf, np.inf
    return np.clip(shares, lowest, highest)
