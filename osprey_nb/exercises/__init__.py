"""Exercises of the notebooks: `check("03.1", answer)` says what is right, or what to look at next.

    cards          what a card looks like, how an answer is checked
    notebook_NN    the checks of one notebook
"""

from . import (
    notebook_00,
    notebook_01,
    notebook_02,
    notebook_03,
    notebook_06,
    notebook_07,
    notebook_08,
    notebook_09,
    notebook_10,
    notebook_11,
)
from .cards import CHECKS, Exercise, Verdict, Wrong, check, exercise, read_exercises

__all__ = [
    "CHECKS", "Exercise", "Verdict", "Wrong", "check", "exercise", "notebook_00", "notebook_01", "notebook_02", "notebook_03",
    "notebook_06", "notebook_07", "notebook_08", "notebook_09", "notebook_10", "notebook_11",
    "read_exercises",
]  # fmt: skip
