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


def format_table(result: dict[str, dict], measure: str = "right") -> str:
    """The result as text, a line a metric; `measure` heads the values."""
    lines = [f"{'':36}{measure:>8}  {'95 % interval':15}{'n':>6}{'goal':>7}"]
    for metric, row in result.items():
        interval = f"{row['low']:.1%} – {row['high']:.1%}" if row["low"] is not None else ""
        goal = f"{row['goal']:.0%}" if "goal" in row else ""
        lines.append(f"{metric:36}{row['value']:>8.1%}  {interval:15}{row['n']:>6}{goal:>7}")
    return "\n".join(lines)
