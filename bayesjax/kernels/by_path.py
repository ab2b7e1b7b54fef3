"""Different kernels for different parts of a network, chosen by the paths of its leaves; other parts stay fixed.

    in turn        each part moves given the current values of the others (Metropolis-within-Gibbs, block descent)
    together       one gradient at the current position moves all parts

A posterior of the last layer alone, partial stochasticity (Sharma et al., "Do Bayesian neural networks need to be fully
stochastic?", AISTATS 2023) and fine-tuning with frozen features are special cases. Each kernel is given as a function
of its density, so all parts share one density. Read `alternate.py` for parts that have different densities.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax

from bayesjax import checks, tree
from bayesjax.kernels.gradient import value_and_grad
from bayesjax.types import Density, Given, Kernel, Params, PRNGKey, PyTree

Order = Literal["in turn", "together"]


class ByPathState(NamedTuple):
    """State of `by_path`.

    Attributes:
      parts: the state of the kernel of each moving part, by pattern. Its position has None in place of other leaves.
      fixed: the fixed leaves, with None in place of others.
    """

    parts: dict[str, Any]
    fixed: PyTree

    @property
    def position(self) -> PyTree:
        """The parameters of all parts."""
        return tree.combine(self.fixed, *(state.position for state in self.parts.values()))


class ByPathInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      parts: the info of each kernel, by pattern.
    """

    parts: dict[str, Any]

    @property
    def aux(self) -> PyTree:
        """The auxiliary output of the density for one of the parts; all are equal if the parts move together."""
        return next(iter(self.parts.values())).aux


class _At(NamedTuple):
    """The batch of a part that moves together with others: the value and the gradient at its position."""

    value: Any
    aux: PyTree
    gradient: PyTree
    position: PyTree


def by_path(
    density: Density, kernels: Mapping[str, Callable[[Density], Kernel] | None], *, order: Order = "in turn"
) -> Kernel:
    """Moves each part of a network by its own kernel, or leaves it fixed.

    Example:
      SGHMC over the last layer, on features that are optimised.

        by_path(logdensity, {
            "Dense_1/*": functools.partial(kernels.sghmc, step_size=1e-4),
            "*": lambda density: kernels.optimize(posteriors.as_loss(density, num_data), optax.adam(1e-3)),
        })

    Args:
      density: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, of the whole network. If a loss is given, every
        kernel must minimise.
      kernels: for each pattern of paths (`tree.match_paths`), a function from the density of these leaves, with the
        others held fixed, to their kernel; None for leaves that stay fixed. The first pattern that matches counts.
      order: "in turn" evaluates the density for each part, and suits every kernel. "together" evaluates it once per
        step, and suits kernels that need one gradient per step: `sgld`, `sghmc`, `sgnht`, and `optimize` without line
        search. In both cases the parts have equal batches, but "in turn" gives each its own noise.

    Returns:
      A kernel of the whole network whose state is a `ByPathState` and whose info is a `ByPathInfo`.

    Raises:
      ValueError: if no kernel is given, `order` is unknown, or `density` does not take three arguments. `init` raises
        it if a leaf matches no pattern or a pattern is the first match of no leaf. With "together", `step` raises it if
        a kernel does not evaluate its density exactly once.
    """
    if all(make is None for make in kernels.values()):
        raise ValueError(f"kernels must have at least one kernel; got {dict(kernels)}")
    if order not in get_args(Order):
        raise ValueError(f"order must be one of {', '.join(get_args(Order))}; got {order!r}")
    checks.density(density, "density")
    makers = {pattern: make for pattern, make in kernels.items() if make is not None}
    if order == "together":
        return _together(density, tuple(kernels), makers)
    return _in_turn(density, tuple(kernels), makers)


def _in_turn(density: Density, patterns: tuple[str, ...], makers: Mapping[str, Callable[[Density], Kernel]]) -> Kernel:
    def conditional(part: Params, rng_key: PRNGKey, given: Given) -> Any:
        return density(tree.combine(part, given.others["rest"]), rng_key, given.data)

    moving = {pattern: make(conditional) for pattern, make in makers.items()}

    def init(position: Params, rng_key: PRNGKey) -> ByPathState:
        return _init(position, rng_key, patterns, moving)

    def step(rng_key: PRNGKey, state: ByPathState, batch: PyTree) -> tuple[ByPathState, ByPathInfo]:
        infos, parts = {}, dict(state.parts)
        for key, (pattern, kernel) in zip(jax.random.split(rng_key, len(moving)), moving.items(), strict=True):
            others = (each.position for name, each in parts.items() if name != pattern)
            given = Given(batch, {"rest": tree.combine(state.fixed, *others)})
            parts[pattern], infos[pattern] = kernel.step(key, parts[pattern], given)
        return ByPathState(parts, state.fixed), ByPathInfo(infos)

    return Kernel(init, step)


def _together(density: Density, patterns: tuple[str, ...], makers: Mapping[str, Callable[[Density], Kernel]]) -> Kernel:
    def joined(parts: tuple[Params, ...], rng_key: PRNGKey, given: Given) -> Any:
        return density(tree.combine(given.others["fixed"], *parts), rng_key, given.data)

    evaluate, calls = value_and_grad(joined, "density"), []

    def linearised(part: Params, rng_key: PRNGKey, at: _At) -> Any:
        """The value at the position of the part, with the gradient that was computed there."""
        del rng_key
        calls.append(None)
        change = jax.tree.map(lambda x, start: x - start, part, jax.lax.stop_gradient(at.position))
        return at.value + tree.dot(at.gradient, change), at.aux

    moving = {pattern: make(linearised) for pattern, make in makers.items()}

    def init(position: Params, rng_key: PRNGKey) -> ByPathState:
        return _init(position, rng_key, patterns, moving)

    def step(rng_key: PRNGKey, state: ByPathState, batch: PyTree) -> tuple[ByPathState, ByPathInfo]:
        density_key, *keys = jax.random.split(rng_key, 1 + len(moving))
        positions = tuple(state.parts[pattern].position for pattern in moving)  # jit sorts the entries of a dict
        value, aux, gradients = evaluate(positions, density_key, Given(batch, {"fixed": state.fixed}))
        infos, parts = {}, {}
        for key, position, gradient, (pattern, kernel) in zip(keys, positions, gradients, moving.items(), strict=True):
            calls.clear()
            at = _At(value, aux, gradient, position)
            parts[pattern], infos[pattern] = kernel.step(key, state.parts[pattern], at)
            if len(calls) != 1:
                raise ValueError(
                    f'order must be "in turn" for the kernel of {pattern}, which evaluates its density {len(calls)} '
                    'times in a step; "together" suits kernels that need one gradient'
                )
        return ByPathState(parts, state.fixed), ByPathInfo(infos)

    return Kernel(init, step)


def _init(position: Params, rng_key: PRNGKey, patterns: tuple[str, ...], moving: Mapping[str, Kernel]) -> ByPathState:
    chosen = tree.match_paths(tree.leaves_by_path(position), patterns, "kernels")

    def part(names: set[str]) -> PyTree:
        return tree.select(position, [pattern in names for pattern in chosen])

    keys = jax.random.split(rng_key, len(moving))
    parts = {name: kernel.init(part({name}), key) for key, (name, kernel) in zip(keys, moving.items(), strict=True)}
    return ByPathState(parts, part(set(patterns) - set(moving)))
