"""The callbacks by which training reports its progress."""

from __future__ import annotations

from collections.abc import Callable

# (steps done, steps in all, text), after every step.
ProgressCallback = Callable[[int, int, str], None]
# Gives the progress callback of a fold.
FoldCallback = Callable[[int], ProgressCallback]
# Receives a sentence for the user.
NoticeCallback = Callable[[str], None]


def no_progress(step: int, steps: int, text: str) -> None:
    """Report nothing."""


def no_fold_progress(fold: int) -> ProgressCallback:
    """Report nothing of any fold."""
    return no_progress


def no_notice(text: str) -> None:
    """Report no sentence."""
