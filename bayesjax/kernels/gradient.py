"""Value, auxiliary output and gradient of a density that returns a scalar or `(scalar, aux)`.

This is the only file that averages gradients over devices (`axes.py`). Read `sgld.py` next, which uses it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from bayesjax import axes, checks, tree
from bayesjax.kernels.schedules import Cyclical
from bayesjax.types import Array, Density, Params, PRNGKey, PyTree, Schedule

Evaluate = Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree, Params]]


def value_and_grad(density: Density, name: str = "logdensity") -> Evaluate:
    """Returns a function `(params, rng_key, batch) -> (value, aux, gradient)` that evaluates a density.

    If the density has no auxiliary output, `aux` is an empty dict. Where a `data` axis is bound, each device has its
    part of the batch, and value, aux and gradient are means over the devices.

    Args:
      density: a loss or log density, which returns a scalar or `(scalar, aux)`.
      name: name of the density in error messages: "logdensity" or "loss".

    Raises:
      ValueError: if the density cannot be called with three arguments. The returned function raises it if the value of
        the density is not a scalar.
    """
    return _evaluate(density, name, lambda value: checks.scalar(value, name))


def terms_and_grad(density: Density, name: str = "logdensity") -> Evaluate:
    """Returns a function like that of `value_and_grad`, for a density that may return terms instead of a scalar.

    The value is then the array of terms `[num_terms]`, and the gradient is that of their sum.

    Args:
      density: returns a scalar or its terms `[num_terms]`, alone or with aux.
      name: name of the density in error messages.

    Raises:
      ValueError: if the density cannot be called with three arguments. The returned function raises it if the value of
        the density has two axes or more.
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
    """Returns a function `(params, rng_key, batch) -> value` whose derivative is the gradient that `evaluate` returns.

    Line searches differentiate this function. JAX's own derivative of a mean over devices would contain only the part
    of each device.

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
    """Returns the gradient function of a scalar that is computed from results of `value_and_grad`.

    Each device differentiates its own part of the mean, so the gradients are averaged over devices once more.

    Args:
      value: `params -> scalar`.

    Returns:
      A function `params -> gradient`, whose result is shaped like `params` and equal on all devices.
    """
    return lambda params: axes.mean(jax.grad(value)(params), axes.DATA)


def uses_key(density: Density, params: Params, rng_key: PRNGKey, batch: PyTree) -> bool:
    """Whether the value of a density depends on its key. The density is traced and not evaluated.

    Args:
      density: returns a scalar or terms `[num_terms]`, alone or with aux. The aux may depend on the key.
      params, rng_key, batch: arguments of the density. Only their structure, shapes and types are used.
    """

    def value(rng_key: PRNGKey) -> Array:
        return tree.value_and_aux(density(params, rng_key, batch))[0]

    _, is_used = partial_eval.dce_jaxpr(jax.make_jaxpr(value)(rng_key).jaxpr, [True])
    return any(is_used)


def as_schedule(step_size: float | Array | Schedule) -> Schedule:
    """Turns a positive number into a constant schedule, and checks that a schedule returns scalars.

    Args:
      step_size: a positive number, or a function of the step.

    Raises:
      ValueError: if `step_size` is neither a schedule nor a positive, finite scalar. The returned schedule raises it if
        its value is not a scalar.
    """
    return _as_schedule("step_size", step_size, checks.positive)


def as_temperature(temperature: float | Array | Schedule, *, is_zero_allowed: bool = False) -> Schedule:
    """Turns a constant temperature into a schedule, and checks that a schedule returns scalars.

    Args:
      temperature: a number, or a function of the step.
      is_zero_allowed: whether the number may be 0, for which a sampler follows the gradient without noise.

    Raises:
      ValueError: if `temperature` is a number that is negative, not finite, or 0 without `is_zero_allowed`, or an array
        that is not a scalar. The returned schedule raises it if its value is not a scalar.
    """
    check = checks.non_negative if is_zero_allowed else checks.positive
    return _as_schedule("temperature", temperature, check)


def _as_schedule(name: str, value: float | Array | Schedule, check: Callable[..., None]) -> Schedule:
    if isinstance(value, Cyclical):
        raise ValueError(f"{name} must be a number or a schedule; got all schedules of a cycle: pass cycle.{name}")
    if not callable(value):
        check(**{name: value})
        return lambda step: value

    def schedule(step: Array) -> Array | float:
        current = value(step)
        checks.number(**{name: current})
        return current

    return schedule
