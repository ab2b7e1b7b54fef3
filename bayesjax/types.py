"""Types that all parts of bayesjax share: densities, kernels, and the batches of special kernels.

    model      apply(params, x)                                  the pure function of a Flax Linen module
    objective  f(params, rng_key, example) -> scalar             for one example without a batch axis;
                                                                 `objectives.batch_mean` turns it into a loss
    density    f(params, rng_key, batch) -> scalar               a loss (mean per example, minimised) or a log density
                                                                 (sum over the whole data set, sampled at temperature 1)
    kernel     init(position, rng_key), step(rng_key, state, batch)

An objective or a density may return `(scalar, aux)` in place of the scalar, where `aux` is a pytree of arrays for
display. An array in place of the scalar, even of shape `[1]`, raises a ValueError that states its shape
(`checks.scalar_valued`). Otherwise a mean over several outputs would silently divide a log likelihood by their number.
Read `kernels/sghmc.py` next for an example of a kernel, and `training/run.py` for the training loop.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
ArrayLike = jax.Array | np.ndarray
"""An array on the device or the host, for evaluation, plots and data."""
PRNGKey = jax.Array
"""A typed key from `jax.random.key`. A function that receives a key consumes it: split or fold a key before reuse."""
PyTree = Any
Params = PyTree
"""A pytree of floating-point arrays that is differentiated, optimised or sampled."""
Distribution = Any
"""A distribution of distrax, NumPyro or distreqx over one event, see `distributions.py`.

The type is `Any`, because the class of a library would have to be imported together with bayesjax."""
Conditional = Callable[[Params, Array], Distribution]
"""An encoder `(params, x) -> q(z | x)` or a decoder `(params, z) -> p(x | z)`, for one x or one z."""
Schedule = Callable[[Array], Array | float]
"""A step size or temperature as a function of the number of steps taken so far (an int32 scalar)."""
OFFSETS = ("visible_offset", "hidden_offset")
"""Names of the offsets among the parameters of a centred Boltzmann machine (`models/boltzmann.py`)."""


class Density(Protocol):
    """A loss or a log density, which returns a scalar or a pair `(scalar, aux)` with a pytree of arrays.

    Kernels refuse an array in place of the scalar. Only `kernels.hmc` and `kernels.nuts` also accept an array
    `[num_terms]` of terms that sum to the log density, such as `posteriors.log_posterior(as_terms=True)` returns.
    """

    def __call__(self, params: Params, rng_key: PRNGKey, batch: PyTree, /) -> Array | tuple[Array, PyTree]:
        """The value at `params`, or the pair of value and auxiliary output."""
        ...


class Prior(Protocol):
    """A normalised log prior over weights, `params -> scalar`."""

    def __call__(self, params: Params, /) -> Array:
        """The log density at `params`."""
        ...


class State(Protocol):
    """The state of a kernel: a NamedTuple of arrays with at least a `position`."""

    @property
    def position(self) -> Any:
        """The parameters that the kernel moves."""
        ...


class Kernel(NamedTuple):
    """An optimiser or a Markov chain: a pair of functions that initialise and update its state.

    Attributes:
      init: `init(position, rng_key) -> state`. The position is a pytree of parameters.
      step: `step(rng_key, state, batch) -> (state, info)`, a pure function that works under jit, vmap, scan, pmap and
        shard_map. `state` and `info` are NamedTuples whose leaves are arrays; `state.position` is the position.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]

    @property
    def structure(self) -> "ParticleAxis | Players | None":
        """The particle axis or the players of the state, for `training.parallel`; None for a single position."""
        return None


class ParticleAxis(NamedTuple):
    """The structure of a kernel made by `kernels.particles`, whose states and infos have a leading particle axis.

    Attributes:
      num: the number of particles.
      batch_axis: the axis of the batch's leaves that indexes particles; None if all particles share the batch.
    """

    num: int
    batch_axis: int | None = None


class Players(NamedTuple):
    """The structure of a kernel made by `kernels.alternate`, whose states and infos have an entry for each player.

    Attributes:
      players: the structure of the kernel of each player of the game, by name.
    """

    players: "dict[str, ParticleAxis | Players | None]"


class StructuredKernel(Kernel):
    """A kernel with particles or players. It unpacks into `init` and `step` like any other kernel."""

    _structure: ParticleAxis | Players

    def __new__(
        cls, init: Callable[..., Any], step: Callable[..., Any], structure: ParticleAxis | Players
    ) -> "StructuredKernel":
        """Makes a kernel with the given `structure`."""
        kernel = super().__new__(cls, init, step)
        kernel._structure = structure
        return kernel

    @property
    def structure(self) -> ParticleAxis | Players:
        """The particle axis or the players of the state, for `training.parallel`."""
        return self._structure

    def _replace(self, **changes: Any) -> "StructuredKernel":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns a kernel with the same structure and a different `init` or `step`."""
        functions = {"init": self.init, "step": self.step} | changes
        return StructuredKernel(**functions, structure=self.structure)


class Numbered(NamedTuple):
    """A batch with the number of its training step, for losses that depend on the step.

    `data.number_batches` makes such batches.

    Attributes:
      step: int32 `[n]`, the same number for every example, so that a batch can be divided over devices.
      batch: the examples, leaves `[n, ...]`.
    """

    step: Array
    batch: PyTree


class Carried(NamedTuple):
    """The batch for a kernel made by `kernels.carrying`: the data and the value carried over from the previous step.

    Attributes:
      batch: the data.
      carry: the carried value, such as the state of a recurrent network.
    """

    batch: PyTree
    carry: PyTree


class CodeHead(NamedTuple):
    """The parameters of InfoGAN's Q(c | x), a distribution over the code c of an image x.

    `models.infogan.CodeDiscriminator` computes them for a batch of images, with a leading batch axis on every array.
    The functions of `objectives.infogan` take the parameters for one image.

    Attributes:
      logits: logits of each categorical code, a sequence of arrays `[num_classes]`.
      mean: means of the continuous codes, `[num_continuous]`.
      log_scale: logarithms of the standard deviations of the continuous codes, `[num_continuous]`.
    """

    logits: Sequence[Array]
    mean: Array
    log_scale: Array


class Given(NamedTuple):
    """The batch for one player of a game (`kernels.alternate`, `game_descent`): the data and the other players.

    Attributes:
      data: the batch of the whole game.
      others: the current position of every other player, by name. The leaves have a leading particle axis if the player
        consists of particles.
    """

    data: PyTree
    others: dict[str, PyTree]
