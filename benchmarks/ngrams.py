"""Kneser-Ney models of token ids, the baseline of language models."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# n: tokens


class Table(NamedTuple):
    """Discounted counts of the tokens after each context."""

    kept: Float[np.ndarray, "_"]  # per n-gram: its count minus the discount
    totals: Float[np.ndarray, "_"]  # per context: counts of all its n-grams
    freed: Float[np.ndarray, "_"]  # per context: the sum of its discounts, which goes to the shorter context


class NGrams:
    """Interpolated modified Kneser-Ney models, all orders up to `order`, of token ids below `vocabulary`.

    S. Chen, J. Goodman, An empirical study of smoothing techniques for language modeling (1999), section 3, eq. 23 and
    26. The shortest context is interpolated with the uniform distribution, so that no token is impossible.
    """

    def __init__(self, ids: Int[np.ndarray, "n"], order: int, vocabulary: int):
        self.vocabulary, self.order = vocabulary, min(order, len(ids))
        self.keys = list[np.ndarray]()  # by length, sorted; an n-gram's id is the position of its key
        self.highest, self.lower = list[Table](), list[Table]()  # by length, as last order and as an inner order
        grams, known = np.zeros(len(ids) + 1, np.int64), 1  # at every position, the id of the n-gram that begins there
        for length in range(1, self.order + 1):
            pairs = grams[:-1] * vocabulary + ids[length - 1 :]
            keys, first, longer, counts = np.unique(pairs, True, True, True)
            if self.keys:  # lower orders count the distinct preceding tokens instead of occurrences
                counts_before = np.bincount(grams[1:][first], minlength=known)
                self.lower.append(self._table(counts_before, self.keys[-1], len(self.highest[-1].totals)))
            self.highest.append(self._table(counts, keys, known))
            self.keys.append(keys)
            grams, known = longer, len(keys)

    def _table(self, counts: Int[np.ndarray, "_"], keys: Int[np.ndarray, "_"], contexts: int) -> Table:
        n = np.bincount(counts, minlength=5)  # number of n-grams per count
        share = n[1] / max(n[1] + 2 * n[2], 1)
        discounts = [i - (i + 1) * share * n[i + 1] / max(n[i], 1) for i in (1, 2, 3)]
        discount = np.array([0, *np.clip(discounts, 0.1, (1, 2, 3))])[np.minimum(counts, 3)]
        totals, freed = (np.bincount(keys // self.vocabulary, of, contexts) for of in (counts, discount))
        return Table(counts - discount, totals, freed)

    def probabilities(self, ids: Int[np.ndarray, "n"], order: int) -> Float[np.ndarray, "n"]:
        """Returns the probability of every token given up to `order - 1` preceding tokens."""
        result = np.full(len(ids), 1 / self.vocabulary)
        contexts = np.zeros(len(ids), np.int64)  # of every token; -1: too short or not seen in training
        for keys, table in zip(self.keys, [*self.lower[: order - 1], self.highest[order - 1]], strict=False):
            pairs = contexts * self.vocabulary + ids
            grams = np.minimum(np.searchsorted(keys, pairs), len(keys) - 1)
            grams = np.where((contexts >= 0) & (keys[grams] == pairs), grams, -1)
            kept = np.where(grams >= 0, table.kept[grams], 0)
            totals, freed = (np.where(contexts >= 0, of[contexts], 0) for of in (table.totals, table.freed))
            result = np.where(totals > 0, (kept + freed * result) / np.maximum(totals, 1), result)
            contexts = np.concatenate([[-1], grams[:-1]])
        return result
