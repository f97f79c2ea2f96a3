"""Numbers with their uncertainty."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


def interval(results: list[list], rng: np.random.Generator) -> dict:
    """Mean of all answers with its 95 % bootstrap interval; `results` holds a list for each picture.

    Pictures, not answers, are resampled, because answers about one picture depend on each other.
    """
    sums, counts = np.array([sum(r) for r in results], float), np.array([len(r) for r in results])
    picks = rng.integers(len(results), size=(RESAMPLES, len(results)))
    means = sums[picks].sum(1) / np.maximum(counts[picks].sum(1), 1)
    low, high = np.percentile(means, [2.5, 97.5])
    n = int(counts.sum())
    return {"value": float(sums.sum() / max(n, 1)), "low": float(low), "high": float(high), "n": n}
