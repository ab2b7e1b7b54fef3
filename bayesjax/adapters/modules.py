"""Modules of Flax NNX and Equinox, and any callable pytree, as pure functions of their parameters.

    apply, params = adapters.split(module)              module(x) == apply(params, x)
    init, apply = adapters.init_apply(make)             make(rng_key) -> module;  init(rng_key) -> params

The rest of the library takes `apply` and `params` as it takes those of a Linen module, which needs no adapter.
Parameters of NNX are nested dicts with the names of the module, and those of Equinox are the module itself with None in
place of everything else. Paths such as "layers/0/kernel" work in `kl.by_path` and `kernels.by_path`. Read
`kernels/by_path.py` next.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import tree
from bayesjax.types import Params, PRNGKey


class Split(NamedTuple):
    """A module as a pure function.

    Attributes:
      apply: `(params, *args, **kwargs) -> outputs`. For a module of NNX with dropout, pass `rng_key` by name; without
        it, every call has the same noise.
      params: the floating-point parameters.
    """

    apply: Callable[..., Any]
    params: Params


class InitApply(NamedTuple):
    """The initialisation and the pure function of a module.

    Attributes:
      init: `rng_key -> params`; `vmap` over keys makes the parameters of many networks.
      apply: as in `Split`.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[..., Any]


def split(module: Any) -> Split:
    """Separates the parameters of a module from its computation.

    A module of Equinox computes one example, so `vmap` it over a batch, as with `posteriors.log_posterior`. Linear
    layers of Equinox have weights `[out, in]`: pass `out_axis=0` to priors that depend on the fan-in.

    Args:
      module: a module of Flax NNX or of Equinox, or another callable that is a pytree of arrays and functions.

    Returns:
      The pure function and the parameters.

    Raises:
      TypeError: if `module` is a Linen module, which has `init` and `apply` of its own, or is not callable.
      ValueError: if it has no floating-point parameters, or state that a call changes, such as that of BatchNorm.
    """
    if _is_from(module, "flax.linen"):
        raise TypeError(f"{type(module).__name__} is a Linen module: use its own init and apply")
    if not callable(module):
        raise TypeError(f"module must be callable; got {type(module).__name__}")
    made = _split_nnx(module) if _is_from(module, "flax.nnx") else _split_pytree(module)
    if not jax.tree.leaves(made.params):
        raise ValueError(f"{type(module).__name__} has no floating-point parameters")
    return made


def init_apply(make: Callable[[PRNGKey], Any]) -> InitApply:
    """The initialisation and the pure function of the modules that `make` returns.

    Args:
      make: `rng_key -> module`, for example `lambda key: Network(nnx.Rngs(key))`. The structure of the module must not
        depend on the key.

    Returns:
      The pair of functions.

    Raises:
      TypeError, ValueError: as in `split`.
    """
    return InitApply(lambda rng_key: split(make(rng_key)).params, split(make(jax.random.key(0))).apply)


def _is_from(module: Any, package: str) -> bool:
    """Whether a class of the module or one of its bases is defined in the package; the package is not imported."""
    return any(f"{each.__module__}.".startswith(f"{package}.") for each in type(module).__mro__)


def _split_pytree(module: Any) -> Split:
    leaves = jax.tree.leaves(module)
    is_param = [_is_floating_array(leaf) for leaf in leaves]
    params = tree.select(module, is_param)
    rest = tree.select(module, [not each for each in is_param])

    def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
        return tree.combine(params, rest)(*args, **kwargs)

    return Split(apply, params)


def _is_floating_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _split_nnx(module: Any) -> Split:
    from flax import nnx

    graph, params, rest = nnx.split(module, nnx.Param, ...)
    kinds = (nnx.BatchStat, nnx.Cache)
    changing = [(path, value) for path, value in nnx.to_flat_state(rest) if isinstance(value, kinds)]
    if changing:
        path, value = changing[0]
        raise ValueError(
            f"{type(module).__name__} has state that a call changes, {type(value).__name__} at "
            f"{'/'.join(map(str, path))}: use GroupNorm or LayerNorm in place of BatchNorm"
        )

    def fresh(variable: Any, rng_key: PRNGKey | None, index: int) -> Any:
        """A variable made anew in every call, because NNX changes random states during the call."""
        if not isinstance(variable, nnx.Variable):
            return variable
        value = variable[...]
        if isinstance(variable, nnx.RngCount):
            value = jnp.zeros_like(value)
        elif isinstance(variable, nnx.RngKey) and rng_key is not None:
            key = jax.random.fold_in(rng_key, index)
            value = jax.random.split(key, value.shape) if value.shape else key
        return variable.replace(value)

    def apply(params: Params, *args: Any, rng_key: PRNGKey | None = None, **kwargs: Any) -> Any:
        filled = jax.tree.map(lambda leaf: leaf, template)
        nnx.replace_by_pure_dict(filled, params)
        state = nnx.to_flat_state(rest)
        variables = [(path, fresh(variable, rng_key, i)) for i, (path, variable) in enumerate(state)]
        return nnx.merge(graph, filled, nnx.from_flat_state(variables))(*args, **kwargs)

    template, values = params, nnx.to_pure_dict(params)
    not_floating = [path for path, leaf in tree.leaves_by_path(values).items() if not _is_floating_array(leaf)]
    if not_floating:
        raise ValueError(
            f"{type(module).__name__} has parameters that are not floating-point: {', '.join(not_floating)}"
        )
    return Split(apply, values)
