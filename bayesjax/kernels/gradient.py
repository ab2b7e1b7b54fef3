"""Value, auxiliary output and gradient of a density that returns a scalar or a pair of scalar and aux.

Gradients are averaged over devices in this file and in no other (`axes.py`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from bayesjax import axes, checks, tree
from bayesjax.types import Array, Density, Params, PRNGKey, PyTree, Schedule

Evaluate = Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree, Params]]


def value_and_grad(density: Density, name: str = "logdensity") -> Evaluate:
    """Returns `(params, rng_key, batch) -> (value, aux, gradient)`; without auxiliary output, `aux` is an empty dict.

    Where a `data` axis is bound, each device has its part of the batch, and all three are means over the devices.

    Args:
      density: a loss or log density, which returns a scalar or `(scalar, aux)`.
      name: name of the density in error messages: "logdensity" or "loss".

    Raises:
      ValueError: if the density cannot be called with three arguments; from the evaluation, if it returns an array.
    """
    return _evaluate(density, name, lambda value: checks.scalar(value, name))


def terms_and_grad(density: Density, name: str = "logdensity") -> Evaluate:
    """Like `value_and_grad`, for a density that may return its terms: the value is then `[num_terms]`, not their sum.

    Args:
      density: returns a scalar or its terms `[num_terms]`, alone or with aux.
      name: name of the density in error messages.

    Raises:
      ValueError: as `value_and_grad`; from the evaluation, if the density returns an array of two axes or more.
    """

    def terms(value: Array) -> Array:
        if jnp.ndim(value) > 1:
            raise ValueError(
                f"{name} must return a scalar or its terms [num_terms]; got an array of shape {jnp.shape(value)}"
            )
        return value

    return _evaluate(density, name, terms)


def _evaluate(density: Density, name: str, checked: Callable[[Array], Array]) -> Evaluate:
    checks.density(density, name)

    def summed(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, tuple[Array, PyTree]]:
        value, aux = tree.value_and_aux(density(params, rng_key, batch))
        value = tree.widen(checked(value))
        return jnp.sum(value), (value, aux)

    def evaluate(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree, Params]:
        (_, (value, aux)), gradient = jax.value_and_grad(summed, has_aux=True)(params, rng_key, batch)
        return axes.mean((value, aux, gradient), axes.DATA)

    return evaluate


def value_of(evaluate: Evaluate) -> Callable[[Params, PRNGKey, PyTree], Array]:
    """The value of an evaluation, as a function whose derivative is the gradient of the evaluation.

    JAX's own derivative of a mean over devices would contain only the part of each device. Line searches differentiate
    this function.

    Args:
      evaluate: a result of `value_and_grad`.
    """

    @jax.custom_jvp
    def value(params: Params, rng_key: PRNGKey, batch: PyTree) -> Array:
        return evaluate(params, rng_key, batch)[0]

    @value.defjvp
    def _(primals: tuple[Params, PRNGKey, PyTree], tangents: tuple[Params, Any, Any]) -> tuple[Array, Array]:
        value, _, gradient = evaluate(*primals)
        return value, tree.dot(gradient, tangents[0]).astype(value.dtype)

    return value


def grad_of_mean(value: Callable[[Params], Array]) -> Callable[[Params], Params]:
    """The gradient of a scalar that is computed from the results of `value_and_grad`, the same on all devices.

    Each device differentiates its own part of the mean, so the gradients are averaged over devices once more.

    Args:
      value: `position -> scalar`.
    """
    return lambda params: axes.mean(jax.grad(value)(params), axes.DATA)


def uses_key(density: Density, params: Params, rng_key: PRNGKey, batch: PyTree) -> bool:
    """Whether the value of the density depends on its key, read from its trace without evaluating it.

    Args:
      density: returns a scalar, its terms, or either with aux. The aux may depend on the key.
      params: parameters; only shapes are used, here and below.
      rng_key: a key.
      batch: a batch.
    """

    def value(rng_key: PRNGKey) -> Array:
        return tree.value_and_aux(density(params, rng_key, batch))[0]

    _, is_used = partial_eval.dce_jaxpr(jax.make_jaxpr(value)(rng_key).jaxpr, [True])
    return any(is_used)


def as_schedule(step_size: float | Array | Schedule) -> Schedule:
    """Turns a positive number into a constant schedule, and checks that a schedule returns scalars.

    Raises:
      ValueError: if a number is not positive and finite, or an array with axes; from the schedule, if its value has
        axes.
    """
    return _as_schedule("step_size", step_size, checks.positive)


def as_temperature(temperature: float | Array | Schedule, *, is_zero_allowed: bool = False) -> Schedule:
    """Like `as_schedule`, for a temperature, which may be 0 if `is_zero_allowed`.

    Raises:
      ValueError: if a number is negative, not finite, or 0 and that is not allowed, or an array with axes; from the
        schedule, if its value has axes.
    """
    check = checks.non_negative if is_zero_allowed else checks.positive
    return _as_schedule("temperature", temperature, check)


def _as_schedule(name: str, value: float | Array | Schedule, check: Callable[..., None]) -> Schedule:
    if not callable(value):
        check(**{name: value})
        return lambda step: value

    def schedule(step: Array) -> Array | float:
        current = value(step)
        checks.number(**{name: current})
        return current

    return schedule
