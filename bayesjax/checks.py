"""Argument validation. Traced values cannot be inspected and are accepted.

Each check raises a ValueError of one line for the first invalid argument. The message states the name of the argument,
the expected value and the given value. `tree.py` has the functions on pytrees; read it next.
"""

import inspect
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from bayesjax.types import Array, PyTree


def non_negative(**arguments: float | Array) -> None:
    """Raises ValueError for the first argument that is negative, not finite or not a scalar."""
    satisfies("non-negative and finite", lambda value: (value >= 0) & (value < np.inf), **arguments)
    number(**arguments)


def positive(**arguments: float | Array) -> None:
    """Raises ValueError for the first argument that is not positive, not finite or not a scalar."""
    all_positive(**arguments)
    number(**arguments)


def all_positive(**arguments: float | Array) -> None:
    """Raises ValueError for the first argument, number or array, with an element that is not positive and finite."""
    satisfies("positive and finite", lambda value: (value > 0) & (value < np.inf), **arguments)


def probability(**arguments: Array) -> None:
    """Raises ValueError for the first argument that has an integer type or a value outside [0, 1].

    Booleans count as the probabilities 0 and 1. Integers are refused because they are probably grey values from 0 to
    255.
    """
    for name, value in arguments.items():
        dtype = jnp.result_type(value)
        if dtype != jnp.bool_ and not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{name} must be floating-point numbers in [0, 1] or booleans; got {dtype}")
        satisfies("in [0, 1]", lambda value: (value >= 0) & (value <= 1), **{name: value})


def count(**arguments: int | Array) -> None:
    """Raises ValueError for the first argument that is not a scalar integer of at least 1."""
    for name, value in arguments.items():
        if not _is_number(value) or jnp.ndim(value) != 0 or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
            raise ValueError(f"{name} must be an integer, and at least 1; got {_format(value)}")
        satisfies("at least 1", lambda value: value >= 1, **{name: value})


def scalar(value: Array, name: str) -> Array:
    """Returns the value of a loss or a log density if it is a scalar.

    Averaging or summing an array here would silently change the scale of a likelihood. For example, the mean over three
    outputs is a third of their log likelihood.

    Args:
      value: the value of the loss or log density.
      name: the name of the function, used only in the error message.

    Raises:
      ValueError: if `value` is not a scalar; the message states its shape.
    """
    if jnp.shape(value) != ():
        raise ValueError(f"{name} must return a scalar; got an array of shape {jnp.shape(value)}: sum over its axes")
    return value


def scalar_valued(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wraps a function so that every call checks that it returns a scalar or `(scalar, aux)`.

    The library wraps the functions that users pass: objectives of one example, log priors, divergences and losses. A
    function of one example is wrapped before `vmap`. The message then states the shape for one example, and a value of
    shape `[1]` is refused like any other array.

    Args:
      function: returns a scalar or `(scalar, aux)`.
      name: the name of the function, used only in the error message.

    Returns:
      A function with the same arguments and results.

    Raises:
      ValueError: the returned function raises it if its value is not a scalar.
    """

    def checked(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        scalar(out[0] if isinstance(out, tuple) else out, name)
        return out

    return checked


def rank(expected: str, ndim: int, **arguments: Array) -> None:
    """Raises ValueError for the first array that does not have `ndim` axes; the message states the shape `expected`."""
    for name, value in arguments.items():
        if jnp.ndim(value) != ndim:
            raise ValueError(f"{name} must be {expected}; got an array of shape {jnp.shape(value)}")


def varies_with_step(source: Callable[[Array], Any], name: str) -> None:
    """Raises ValueError if a function `step -> batch` returns the same batch at every step.

    JAX calls the function once, while it traces a run. `lambda step: next(iterator)` would therefore return its first
    batch at every step. The function is traced here, and at least one leaf of its result must depend on `step`. Results
    without leaves are accepted, and so are results that a callback reads at every step.

    Args:
      source: the function. If it is a pytree, its leaves are traced as arguments.
      name: the name of the argument, used only in the error message.
    """
    step = jnp.int32(0)
    if jax.tree_util.all_leaves([source]):
        jaxpr = jax.make_jaxpr(source)(step).jaxpr
    else:
        jaxpr = jax.make_jaxpr(lambda source, step: source(step))(source, step).jaxpr
    if jaxpr.outvars and not any(_varying_outputs(jaxpr, [False] * (len(jaxpr.invars) - 1) + [True])):
        raise ValueError(
            f"{name} returned the same batch at every step: it is called once, while the run is traced. Pass the "
            "arrays themselves for a full batch, or compute the batch from the step, as data.Minibatches does"
        )


def arrays(tree: PyTree, name: str) -> None:
    """Raises ValueError unless every leaf is an array or a number. The message states `name`, path and type."""
    if isinstance(tree, Iterator):  # checked first because JAX warns about iterators
        raise ValueError(f"{name} must hold arrays; got {type(tree).__name__}: data.stream takes iterators")
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not isinstance(leaf, (numbers.Number, jax.Array, np.ndarray, np.generic)):
            at = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"{name} must hold arrays; got {type(leaf).__name__}{at and f' at {at}'}")


def number(**arguments: float | Array) -> None:
    """Raises ValueError for the first argument that is not a scalar, traced or not.

    An array as a hyper-parameter would broadcast the position to a different shape.
    """
    for name, value in arguments.items():
        if jnp.shape(value) != ():
            raise ValueError(f"{name} must be a number; got an array of shape {jnp.shape(value)}")


def floating(tree: PyTree, name: str) -> PyTree:
    """Converts the leaves of a tree of real floating-point arrays to JAX arrays.

    Args:
      tree: a pytree of arrays or numbers.
      name: the name of the tree, used only in the error message.

    Raises:
      ValueError: if a leaf is not a real floating-point array; the message states its path and type.
    """
    for path, leaf in jax.tree.leaves_with_path(tree):
        is_numeric = hasattr(leaf, "dtype") or isinstance(leaf, numbers.Number)
        dtype = jnp.result_type(leaf) if is_numeric else type(leaf).__name__
        if not is_numeric or not jnp.issubdtype(dtype, jnp.floating):
            at = jax.tree_util.keystr(path, simple=True, separator="/")
            hint = ": adapters.split gives the parameters of a module" if callable(leaf) else ""
            raise ValueError(f"{name} must hold floating-point arrays; got {dtype}{at and f' at {at}'}{hint}")
    return jax.tree.map(jnp.asarray, tree)


def kernel(**arguments: Any) -> None:
    """Raises ValueError for the first argument that is not a kernel, with functions `init` and `step`."""
    for name, value in arguments.items():
        if not (callable(getattr(value, "init", None)) and callable(getattr(value, "step", None))):
            raise ValueError(f"{name} must be a kernel, with init and step; got {type(value).__name__}")


def step_result(result: Any, state: Any) -> tuple[Any, Any]:
    """Returns the result of a kernel's step if `scan` can carry its state.

    Args:
      result: the result of `kernel.step(rng_key, state, batch)`.
      state: the state before the step.

    Returns:
      `(state, info)`.

    Raises:
      ValueError: if `result` is not a pair, or its state differs from `state` in structure, shapes or types; the
        message names the leaf.
    """
    if not isinstance(result, tuple | list) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise ValueError(f"kernel.step must return the pair (state, info); got {got}")
    before, after = ({path: leaf for path, leaf in jax.tree.leaves_with_path(each)} for each in (state, result[0]))
    for path in [*before, *after]:
        name = f"state{jax.tree_util.keystr(path)}"
        if path not in before or path not in after:
            difference = f"without {name}" if path in before else f"with {name}"
            names = type(state).__name__, type(result[0]).__name__
            raise ValueError(
                f"kernel.step must keep the structure of its state, {names[0]}; got {names[1]} {difference}"
            )
        expected, got = jax.typeof(before[path]), jax.typeof(after[path])
        is_weak = getattr(expected, "weak_type", False)  # scan gives a Python number the type of the result
        if expected.shape != got.shape or (expected.dtype != got.dtype and not is_weak):
            raise ValueError(
                f"kernel.step must keep the shapes and types of its state; {name} must be "
                f"{expected.dtype}{list(expected.shape)}, got {got.dtype}{list(got.shape)}"
            )
    return result[0], result[1]


def density(function: Callable[..., Any], name: str) -> None:
    """Raises ValueError if `function`, called `name` in the message, does not accept `(params, rng_key, batch)`."""
    if not callable(function):
        raise ValueError(f"{name} must be a function (params, rng_key, batch); got {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins have no signature
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        parameters = ", ".join(
            f"{parameter.name}=..." if parameter.kind is parameter.KEYWORD_ONLY else parameter.name
            for parameter in signature.parameters.values()
        )
        raise ValueError(f"{name} must take (params, rng_key, batch); got ({parameters})") from None


def satisfies(expected: str, is_right: Callable[[Any], Any], **arguments: float | Array) -> None:
    """Raises ValueError for the first argument that is not a number or array, or does not satisfy a condition.

    Args:
      expected: description of the condition, used only in the error message.
      is_right: the condition, elementwise for arrays.
      **arguments: numbers or arrays by name; traced values are accepted.
    """
    for name, value in arguments.items():
        if isinstance(value, Tracer):
            continue
        with np.errstate(invalid="ignore"):  # comparisons with NaN in bfloat16 warn
            # The condition gets a NumPy array, because operations on a jax.Array would be traced.
            is_valid = _is_number(value) and np.all(is_right(np.asarray(value)))
        if not is_valid:
            raise ValueError(f"{name} must be {expected}; got {_format(value)}")


def _varying_outputs(jaxpr: Jaxpr, is_varying: list[bool]) -> list[bool]:
    """For each output, whether it depends on a varying input or on a side effect, such as a callback."""
    varying = {var for var, varies in zip(jaxpr.invars, is_varying, strict=True) if varies}

    def varies(var: Any) -> bool:
        return not isinstance(var, Literal) and var in varying

    for equation in jaxpr.eqns:
        inputs, inner = [varies(var) for var in equation.invars], equation.params.get("jaxpr")
        if equation.primitive.name in ("jit", "pjit") and isinstance(inner, ClosedJaxpr):
            outputs = _varying_outputs(inner.jaxpr, inputs)
        else:
            outputs = [bool(equation.effects) or any(inputs)] * len(equation.outvars)
        varying.update(var for var, varies in zip(equation.outvars, outputs, strict=True) if varies)
    return [varies(var) for var in jaxpr.outvars]


def _is_number(value: Any) -> bool:
    return isinstance(value, (numbers.Real, jax.Array, np.ndarray))


def _format(value: Any) -> str:
    """The value in one line, for an error message."""
    array = np.asarray(value)
    if array.size <= 8:
        return " ".join(f"{value}".split())
    return f"an array {array.shape} from {array.min():g} to {array.max():g}"
