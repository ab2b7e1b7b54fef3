"""The samplers of the samplers suite: those of bayesjax, those of BlackJAX and NumPyro, and the user's own.

A sampler of one's own is an object of this kind in any importable module, for `--kernel MODULE:NAME`:

    MALA = Sampler(make=mala, step_size=1e-5, num_gradients=2)

Full-batch samplers receive all 512 examples in every step, stochastic-gradient samplers one batch of 64. Step sizes
hold for 1000 weights; with more weights they are divided by the ratio, since only the time is of interest there.
"""

import importlib
import importlib.util
import operator
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bayesjax import kernels
from bayesjax.types import Density, Kernel
from benchmarks.samplers_checks import FRICTION, chen
from benchmarks.suites.reference import LEAPS, NUM_DATA, STEP_SIZE

NUM_DOUBLINGS = 6  # of NUTS: at most 63 gradients in a step, beside 50 of HMC
STOCHASTIC_STEP = 1e-6  # in bayesjax's units, for SGD, SGLD, SGHMC and SGNHT


class Sampler(NamedTuple):
    """A sampler on the axes of the suite.

    Attributes:
      make: `(density, step_size) -> Kernel`, where `density(params, rng_key, batch)` is `(log density, aux)`.
      step_size: step size for 1000 weights.
      num_gradients: number of gradients in a step, or a function of the step's info that returns it.
      is_full_batch: whether a step needs the whole data set.
      library: name of the library.
      position: `state -> params`.
    """

    make: Callable[[Density, float], Kernel]
    step_size: float
    num_gradients: int | Callable[[Any], jax.Array] = 1
    is_full_batch: bool = True
    library: str = "bayesjax"
    position: Callable[[Any], Any] = operator.attrgetter("position")

    @property
    def most_gradients(self) -> int:
        """Number of gradients in a step, or the largest number that NUTS takes."""
        return 2**NUM_DOUBLINGS - 1 if callable(self.num_gradients) else self.num_gradients


def ours() -> dict[str, Sampler]:
    """The optimiser and the samplers of bayesjax."""

    def sgd(density: Density, step_size: float) -> Kernel:
        def loss(params: Any, rng_key: jax.Array, batch: Any) -> jax.Array:
            out: Any = density(params, rng_key, batch)
            return -out[0] / NUM_DATA

        return kernels.optimize(loss, optax.sgd(step_size * NUM_DATA))

    def stochastic(make: Callable[[Density, float], Kernel]) -> Sampler:
        return Sampler(make, STOCHASTIC_STEP, is_full_batch=False)

    return {
        "sgd": stochastic(sgd),
        "sgld": stochastic(lambda density, eta: kernels.sgld(density, step_size=eta)),
        "sghmc": stochastic(lambda density, eta: kernels.sghmc(density, step_size=eta, friction=FRICTION)),
        "sgnht": stochastic(lambda density, eta: kernels.sgnht(density, step_size=eta, friction=FRICTION)),
        "hmc": Sampler(
            lambda density, eps: kernels.hmc(
                density, step_size=eps, num_integration_steps=LEAPS, full_batch=True
            ), STEP_SIZE, LEAPS,
        ),
        "nuts": Sampler(
            lambda density, eps: kernels.nuts(
                density, step_size=eps, max_num_doublings=NUM_DOUBLINGS, full_batch=True
            ), STEP_SIZE, lambda info: info.num_integration_steps,
        ),
    }  # fmt: skip


def peers(data: Any) -> dict[str, Sampler]:
    """Samplers of BlackJAX and, where it is installed, of NumPyro; their `init` needs the whole data set."""
    found = blackjax_samplers(data)
    return found | (numpyro_samplers(data) if importlib.util.find_spec("numpyro") else {})


def blackjax_samplers(data: Any) -> dict[str, Sampler]:
    """HMC, NUTS, SGHMC (10 gradients in a call, its default) and SGLD of BlackJAX."""
    import blackjax

    def full(name: str, **options: Any) -> Callable[[Density, float], Kernel]:
        def make(density: Density, step_size: float) -> Kernel:
            def sampler(position: Any) -> Any:
                dim = sum(leaf.size for leaf in jax.tree.leaves(position))
                return getattr(blackjax, name)(_value(density, data), step_size, jnp.ones(dim), **options)

            return Kernel(
                lambda position, rng_key: sampler(position).init(position),
                lambda rng_key, state, batch: sampler(state.position).step(rng_key, state),
            )

        return make

    def sghmc(density: Density, eta: float) -> Kernel:
        step_size, friction = chen(eta)
        kernel: Any = blackjax.sghmc(jax.grad(_value_of_batch(density)), 10, alpha=friction)
        return Kernel(
            lambda position, rng_key: position,
            lambda rng_key, state, batch: (kernel.step(rng_key, state, batch, step_size), ()),
        )

    def sgld(density: Density, eta: float) -> Kernel:
        kernel: Any = blackjax.sgld(jax.grad(_value_of_batch(density)))
        return Kernel(
            lambda position, rng_key: position,
            lambda rng_key, state, batch: (kernel.step(rng_key, state, batch, eta), ()),
        )

    def stochastic(make: Callable[[Density, float], Kernel], num_gradients: int) -> Sampler:
        return Sampler(make, STOCHASTIC_STEP, num_gradients, False, "blackjax", lambda state: state)

    nuts = full("nuts", max_num_doublings=NUM_DOUBLINGS)
    return {
        "blackjax sgld": stochastic(sgld, 1),
        "blackjax sghmc": stochastic(sghmc, 10),
        "blackjax hmc": Sampler(full("hmc", num_integration_steps=LEAPS), STEP_SIZE, LEAPS, library="blackjax"),
        "blackjax nuts": Sampler(nuts, STEP_SIZE, lambda info: info.num_integration_steps, library="blackjax"),
    }


def numpyro_samplers(data: Any) -> dict[str, Sampler]:
    """HMC and NUTS of NumPyro."""
    from numpyro.infer.hmc import hmc as numpyro_hmc  # pyright: ignore[reportMissingImports]

    settings: Any = {"num_warmup": 0, "adapt_step_size": False, "adapt_mass_matrix": False, "trajectory_length": None}

    def full(algorithm: str, **options: Any) -> Callable[[Density, float], Kernel]:
        def make(density: Density, step_size: float) -> Kernel:
            value = _value(density, data)
            begin, step = numpyro_hmc(lambda params: -value(params), algo=algorithm)

            def init(position: Any, rng_key: jax.Array) -> Any:
                return begin(position, step_size=step_size, rng_key=rng_key, **settings, **options)

            def move(rng_key: jax.Array, state: Any, batch: Any) -> tuple[Any, jax.Array]:
                state = step(state)  # its state has a key
                return state, state.num_steps

            return Kernel(init, move)

        return make

    def sampler(make: Callable[[Density, float], Kernel], num_gradients: Any) -> Sampler:
        return Sampler(make, STEP_SIZE, num_gradients, True, "numpyro", operator.attrgetter("z"))

    nuts = full("NUTS", max_tree_depth=NUM_DOUBLINGS)
    return {
        "numpyro hmc": sampler(full("HMC", num_steps=LEAPS), LEAPS),
        "numpyro nuts": sampler(nuts, lambda num_steps: num_steps),
    }


def own(names: tuple[str, ...]) -> dict[str, Sampler]:
    """The user's samplers, `MODULE:NAME`, by their names in lower case.

    Raises:
      ValueError: if a name cannot be imported or is not a `Sampler`.
    """
    found = {}
    for each in names:
        module, _, name = each.partition(":")
        sys.path[:] = dict.fromkeys(["", *sys.path])
        try:
            sampler = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"--kernel must be MODULE:NAME; got {each!r}: {error}") from None
        if not isinstance(sampler, Sampler):
            raise ValueError(
                f"--kernel {each} must be a benchmarks.suites.kernels.Sampler; got {type(sampler).__name__}"
            )
        found[name.lower()] = sampler._replace(library="own")
    return found


def _value(density: Density, data: Any) -> Callable[[Any], jax.Array]:
    return lambda params: _value_of_batch(density)(params, data)


def _value_of_batch(density: Density) -> Callable[[Any, Any], jax.Array]:
    """The log density as a function of parameters and data, without key and auxiliary output."""

    def value(params: Any, batch: Any) -> jax.Array:
        out: Any = density(params, jax.random.key(0), batch)
        return out[0] if isinstance(out, tuple) else out

    return value
