"""The time until a stated quality: a program runs in chunks, and the quality is evaluated after each chunk.

    course = targets.run(chunk, evaluate, state, least=0.03, most_seconds=120)
    seconds = targets.time_to(course.values, course.seconds, 0.03)

The clock counts the chunks only, after compilation. Evaluations are outside the clock. A run ends once the quality has
been at most `least` in CONFIRMED evaluations in a row, or after `most_seconds`. Small values are good.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

CONFIRMED = 3


class Course(NamedTuple):
    """The quality over the time of a run.

    Attributes:
      values: the quality after each chunk, `[num_chunks]`.
      seconds: seconds of all chunks until then, without compilation and evaluation, `[num_chunks]`.
      state: the state after the last chunk.
    """

    values: np.ndarray
    seconds: np.ndarray
    state: Any


def run(
    chunk: Callable[[Any, int], tuple[Any, Any]], evaluate: Callable[[Any, Any], float], state: Any, *,
    least: float, most_seconds: float, most_chunks: int | None = None,
) -> Course:  # fmt: skip
    """Runs chunks of steps and evaluates the quality after each.

    Args:
      chunk: `(state, index) -> (state, output)`, already compiled.
      evaluate: `(state, output) -> quality`; NaN counts as too large.
      state: the initial state.
      least: the smallest stated quality.
      most_seconds: seconds of chunks after which the run ends.
      most_chunks: number of chunks after which the run ends; None means any number.
    """
    values, seconds, spent = [], [], 0.0
    while spent < most_seconds and (most_chunks is None or len(values) < most_chunks):
        begun = time.perf_counter()
        state, output = jax.block_until_ready(chunk(state, len(values)))
        spent += time.perf_counter() - begun
        values.append(evaluate(state, output))
        seconds.append(spent)
        if len(values) >= CONFIRMED and max(values[-CONFIRMED:]) <= least:
            break
    return Course(np.asarray(values), np.asarray(seconds), state)


def time_to(values: np.ndarray, seconds: np.ndarray, stated: float) -> float | None:
    """The first time after which a value stays at most `stated`; None if it is larger, or NaN, at the end."""
    above = np.flatnonzero(~(values <= stated))
    if not above.size:
        return float(seconds[0])
    return None if above[-1] == len(values) - 1 else float(seconds[above[-1] + 1])
