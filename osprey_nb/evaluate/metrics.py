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


def format_table(table: dict[str, dict], measure: str = "right") -> str:
    """The rows as text, below the names of their groups; `measure` heads the values. A goal that isn't reached is marked."""
    lines = [f"{'':38}{measure:>8}  {'95 % interval':15}{'n':>7}{'guesser':>9}{'goal':>10}"]
    group = None
    for name, row in table.items():
        if row.get("group") != group:
            group = row["group"]
            lines += ["", group]
        name = name.removeprefix(f"{group}: ") + (f": {row['which']}" if "which" in row else "")
        span = f"{row['low']:.1%} – {row['high']:.1%}" if row["low"] is not None else ""
        guess = f"{row['guesser']:.1%}" if "guesser" in row else ""
        missed = "  missed" if not row.get("reached", True) else ""
        line = f"{name:38}{row['value']:>8.1%}  {span:15}{row['n']:>7}{guess:>9}{_goal(row.get('goal')):>10}{missed}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _goal(goal: float | tuple[float, float] | None) -> str:
    if goal is None:
        return ""
    return "–".join(f"{100 * value:.3g}" for value in (goal if isinstance(goal, tuple) else (goal,))) + "%"
