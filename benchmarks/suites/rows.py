"""Compiled rows and their results for the suites: rates with ranges, work beside a roofline, and a check of precision.

Read `targets.py` next, which measures the time until a stated quality.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bayesjax.types import Kernel
from benchmarks import machine, measure, roofline

CHECKED = 0.05  # largest relative difference of a gradient from that of the highest precision, or of one device


class Program(NamedTuple):
    """A compiled row of steps and its work.

    Attributes:
      row: the row to time.
      projected: projected seconds of a step.
      flops: FLOPs of the matrix products of a step on one device.
      peak_bytes: memory of the program on one device.
    """

    row: measure.Row
    projected: float
    flops: float
    peak_bytes: int


def steps(kernel: Kernel, num_steps: int) -> Callable[..., tuple[Any, Any]]:
    """A program of `num_steps` steps: `(rng_key, state, batches, first) -> (state, infos)`.

    `batches` is a function of the step, and `first` is the number of the first step.
    """

    def run(rng_key: jax.Array, state: Any, batches: Callable, first: jax.Array) -> tuple[Any, Any]:
        def one(state: Any, step: jax.Array) -> tuple[Any, Any]:
            return kernel.step(jax.random.fold_in(rng_key, step), state, batches(step))

        return jax.lax.scan(one, state, first + jnp.arange(num_steps))

    return run


def program(
    kernel: Kernel, state: Any, batches: Callable, num_steps: int, rates: machine.Rates, devices: int
) -> Program:
    """Compiles steps of a kernel from a fixed state, runs them once and checks that the new state is finite."""
    arguments = jax.random.key(2), state, batches, jnp.int32(0)
    compiled, seconds = measure.compiled(steps(kernel, num_steps), *arguments)

    def run() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    measure.check_finite(run()[0])
    projected, counted = roofline.on_this_device(compiled, rates, devices)
    row = measure.Row(run, num_steps, seconds)
    return Program(row, projected / num_steps, counted.flops / num_steps, roofline.working_set(compiled))


def of_program(
    keys: dict[str, Any], rate: str, per_step: float, made: Program, times: list[float], rates: machine.Rates
) -> list[dict[str, Any]]:
    """The rows of a program, from its milliseconds per step.

    Args:
      keys: the keys of the rows.
      rate: the measure whose value is `per_step` divided by the seconds of a step, such as "examples per second".
      per_step: number of examples, images or gradients in a step.
      made: the program.
      times: milliseconds per step of each repeat.
      rates: rates of the device.
    """
    step = measure.summary(times)["median"] / 1e3
    values = {
        "projected seconds per step": made.projected,
        "measured / projected": step / made.projected,
        "share of product rate": made.flops / step / rates.peak,
        "compile seconds": made.row.compile_seconds,
        "program MiB": made.peak_bytes / 2**20,
    }
    return [
        ranged(keys, rate, [1e3 * per_step / value for value in times]),
        ranged(keys, "seconds per step", [value / 1e3 for value in times]),
        *plain(keys, values),
    ]


def ranged(keys: dict[str, Any], name: str, values: list[float]) -> dict[str, Any]:
    """The row of a measure with repeats: median, range and number of repeats."""
    summary = measure.summary(values)
    extremes = {"min": summary["min"], "max": summary["max"], "n": len(values)}
    return {**keys, "measure": name, "value": summary["median"], **extremes}


def plain(keys: dict[str, Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each measure."""
    return [{**keys, "measure": name, "value": value} for name, value in values.items()]


def check_precision(gradient: Callable, *arguments: Any) -> float:
    """Relative difference of a gradient at the precision that is set from that at the highest precision.

    Raises:
      ArithmeticError: if it exceeds CHECKED.
    """
    found = jax.jit(gradient)(*arguments)
    with jax.default_matmul_precision("highest"):
        exact = jax.jit(gradient)(*arguments)
    return check_close(found, exact, "the gradient", "the highest precision")


def check_close(found: Any, expected: Any, name: str, reference: str) -> float:
    """Relative difference of two trees of arrays in the Euclidean norm.

    Raises:
      ArithmeticError: if it exceeds CHECKED; the message contains the two names.
    """
    found, expected = (ravel_pytree(jax.device_get(each))[0] for each in (found, expected))
    difference = float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))
    if not difference < CHECKED:
        raise ArithmeticError(f"{name} differs from that of {reference} by {difference:.1e}")
    return difference
