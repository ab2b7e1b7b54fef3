"""Boltzmann machines on images: flags, training by persistent chains, and log Z by annealed importance sampling.

    MachineConfig                         flags
    load                                  images as vectors
    start, train                          the initial parameters of a machine, and its training
    gibbs_chains, tempered_chains         samplers of the machine: block Gibbs sampling, or parallel tempering
    draw_hidden, draw_visible             draws of one layer given the other
    hidden_batch                          hidden units as the data of another machine
    equilibrate, log_partition_functions  samples of a trained machine, and log Z by forward and reverse annealing
    likelihood_rows, curve_rows           rows of log p(x) after training, and at every checkpoint
    draw_samples, draw_filters            figures of samples beside test images, and of the connections

`experiments/rbm.py` shows how these functions are used together.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, plots, training
from bayesjax.evaluation import annealing, partition_function
from bayesjax.evaluation import partition_function_curve as curve
from bayesjax.models import boltzmann
from bayesjax.objectives import boltzmann as objectives
from bayesjax.types import ArrayLike, Kernel, Params
from experiments.harness import Count, Natural, NonNegative, Positive, Range, Run, RunConfig, require, row

FORWARD, REVERSE, EXACT = "log p(x), forward AIS (nats)", "log p(x), reverse AIS (nats)", "log p(x), exact (nats)"
MAX_EXACT = 20  # hidden units that are enumerated
EQUILIBRATION = 1000  # Gibbs sweeps of the chains of a trained machine, before they start reverse annealing


@dataclass(frozen=True)
class MachineConfig(RunConfig):
    """Flags of every experiment with Boltzmann machines."""

    dataset: str = "digits"
    """Images: digits, a set of TensorFlow Datasets, an .npz file (x_train, y_train, x_test, y_test) or an .npy file."""
    num_validation: Natural = 0
    """Number of training images that are held out and replace the test set, to choose settings; 0 uses the test set."""
    num_chains: Annotated[int, Range(least=2)] = 100
    """Number of persistent chains of the negative phase, and of chains of annealed importance sampling, at least 2."""
    num_gibbs_steps: Count = 1
    """Number of sweeps of block Gibbs sampling per update of the parameters."""
    batch_size: Count = 100
    """Number of images in a step."""
    learning_rate: Positive = 0.05
    """Learning rate of stochastic gradient descent."""
    final_rate: Annotated[float, Range(least=0, most=1)] = 0.1
    """Learning rate at the last step as a fraction of the initial one, in [0, 1]; it decays linearly. 1 is constant."""
    weight_decay: NonNegative = 0.0
    """Weight decay of the connections, at least 0: coefficient of half their squared norm in the loss."""
    offset_rate: Annotated[float, Range(above=0, most=1)] = 0.01
    """Rate, in (0, 1], at which the offsets of a centred machine follow the means of the data."""
    average_decay: Annotated[float, Range(least=0, below=1)] = 0.999
    """Decay per step, in [0, 1), of the moving average of the parameters that is evaluated; 0 evaluates the last
    ones."""
    num_temperatures: Annotated[int, Range(least=10)] = 2000
    """Number of temperatures of annealed importance sampling in each direction, at least 10, on Salakhutdinov's
    schedule."""


class Images(NamedTuple):
    """Images as vectors `[num, pixels]` in [0, 1], their labels and number of classes, and the shape of one image."""

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    shape: tuple[int, ...]


class Trained(NamedTuple):
    """A trained machine.

    Attributes:
      checkpoints: averaged parameters at the evaluations, leaves `[num_evaluations, ...]`.
      epochs: the epochs of the checkpoints.
      chains: position of the persistent chains after the last step; visible units `[num_chains, V]` of Gibbs sampling.
      seconds_per_epoch: duration of an epoch without compilation; None if a resumed run had no step left.
    """

    checkpoints: Params
    epochs: np.ndarray
    chains: np.ndarray
    seconds_per_epoch: float | None

    @property
    def params(self) -> Params:
        """Parameters at the end."""
        return jax.tree.map(lambda leaf: leaf[-1], self.checkpoints)


def load(config: Any) -> Images:
    """Loads the images of --dataset; the last --num-validation training images replace the test set.

    Raises:
      ValueError: if the data are not grey images, fewer than 2 are left to test, or --num-validation is too large.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, held = dataset.train, config.num_validation
    require(
        train.inputs.ndim == 4 and train.inputs.shape[-1] == 1,
        f"--dataset {config.dataset} must be of images [num, height, width, 1]; got {train.inputs.shape}",
    )
    require(held < len(train), f"--num-validation must be less than the {len(train)} training images; got {held}")
    dataset = dataset.hold_out(held)
    require(len(dataset.test) > 1, f"--dataset {config.dataset} must have at least 2 test images")
    train, test = (
        data.Split(each.inputs.reshape(len(each), -1), each.labels) for each in (dataset.train, dataset.test)
    )
    return Images(train.inputs, test.inputs, train.labels, test.labels, dataset.num_classes, dataset.input_shape)


def start(model: boltzmann.RBM, rng_key: jax.Array, mean: np.ndarray) -> Params:
    """Initial parameters: visible units have the means of the data, to which a centred model also sets its offsets."""
    params = jax.jit(model.init)(rng_key, jnp.asarray(mean))["params"]
    if model.visible_units == "bernoulli":
        mean = np.clip(mean, 0.001, 0.999)
        params = {**params, "visible_bias": jax.scipy.special.logit(mean)}
    elif not model.is_centred:
        params = {**params, "visible_bias": jnp.asarray(mean)}
    if model.is_centred:
        params = {**params, "visible_offset": jnp.asarray(mean)}
    return params


class Chains(NamedTuple):
    """Sampler of a machine, with many chains.

    Attributes:
      kernel: a kernel whose batch is the machine's parameters.
      read: visible units `[num_chains, V]` of a position.
    """

    kernel: Kernel
    read: Callable[[Any], Any]


def gibbs_chains(machine: boltzmann.Machine, num: int) -> Chains:
    """`num` chains of block Gibbs sampling, whose position is `[num, V]`."""
    return Chains(
        kernels.particles(kernels.block_gibbs(machine.hidden, machine.visible), num), lambda position: position
    )


def tempered_chains(machine: boltzmann.Machine, num: int, num_replicas: int, mean: np.ndarray) -> Chains:
    """`num` chains of parallel tempering, each a ladder from independent units with the means `mean` to the machine.

    The position is `[num, num_replicas, V]`.
    """
    ladder = kernels.parallel_tempering(
        kernels.block_gibbs(machine.hidden, machine.visible),
        lambda v, rng_key, params: -machine.free_energy(params, v), num_replicas,
    )  # fmt: skip
    ladders = kernels.particles(ladder, num)

    def step(rng_key: jax.Array, state: Any, params: Params) -> tuple[Any, Any]:
        base = base_machine(params, mean)
        levels = jnp.linspace(0.0, 1.0, num_replicas)
        return ladders.step(rng_key, state, jax.vmap(lambda t: boltzmann.interpolate(base, params, t))(levels))

    return Chains(ladders._replace(step=step), lambda position: position[:, -1])


def train(
    run: Run, name: str, machine: boltzmann.Machine, params: Params, batches: Callable, first: jax.Array, *,
    num_epochs: int, steps_per_epoch: int, num_evaluations: int = 1, variance_rate: float = 0.0,
    positive: Callable | None = None, learning_rate: float | None = None, chains: Chains | None = None,
) -> Trained:  # fmt: skip
    """Trains a machine by persistent contrastive divergence (Tieleman, ICML 2008).

    Args:
      run: the run of the experiment.
      name: name of the stage.
      machine: energies and conditionals.
      params: its initial parameters.
      batches: visible vectors `[batch_size, V]` as a function of the step.
      first: position from which the chains start; visible vectors `[num_chains, V]` of Gibbs sampling.
      num_epochs, steps_per_epoch: length of the training.
      num_evaluations: number of evenly spaced checkpoints; remaining steps are dropped.
      variance_rate: learning rate of the log variances of Gaussian units.
      positive: the free energy of an image, `(params, rng_key, x) -> scalar`; None means that of the machine.
      learning_rate: initial learning rate; None means --learning-rate.
      chains: sampler of the negative phase; None means --num-chains chains of Gibbs sampling.

    Raises:
      ValueError: if the training has fewer steps than evaluations.
    """
    config, available = run.config, num_epochs * steps_per_epoch
    thinning = available // num_evaluations
    num_steps = thinning * num_evaluations
    require(thinning > 0, f"training must have a step for each of {num_evaluations} evaluations; it has {available}")

    # Chains: those of Gibbs sampling carry h, because p(h | v) and the free energy of v share a matrix product.
    start_key, chain_key, init_key, run_key, last_key = jax.random.split(jax.random.key(config.seed), 5)
    if chains is None:
        sampler = kernels.particles(kernels.block_gibbs(machine.visible, machine.hidden), config.num_chains)
        position = jax.jit(functools.partial(draw_hidden, machine))(params, start_key, first)
    else:
        sampler, position = chains.kernel, first

    # Loss: mean free energy of the images minus that of the chains.
    loss = objectives.persistent_contrastive_divergence(
        machine.free_energy, sampler, num_steps=config.num_gibbs_steps, positive=positive,
        samples=lambda state, info: chains.read(state.position) if chains else info.other,
    )  # fmt: skip

    # Optimiser: stochastic gradient descent; the offsets of a centred machine follow the means of the data.
    rate = learning_rate or config.learning_rate
    rate = optax.linear_schedule(rate, config.final_rate * rate, num_steps)
    rates = {"weights": rate, "offsets": config.offset_rate, "variances": variance_rate}
    groups: Any = {name: optax.sgd(each) for name, each in rates.items()}
    special = {"log_variance": "variances", **dict.fromkeys(boltzmann.OFFSETS, "offsets")}
    optimizer = optax.chain(
        optax.add_decayed_weights(config.weight_decay, {each: each.startswith("kernel") for each in params}),
        optax.partition(groups, {each: special.get(each, "weights") for each in params}),
    )
    if boltzmann.OFFSETS[0] in params:
        loss = objectives.follow_means(loss, lambda params, x: machine.hidden(params, x).mean())
        optimizer = optax.chain(optimizer, kernels.adjust(boltzmann.keep_distribution))

    kernel = kernels.carrying(kernels.optimize(loss, optimizer), sampler.init(position, chain_key))
    kernel, options = run.stage(name, kernels.averaging(kernel, config.average_decay))
    state, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(params, init_key), batches, num_steps=num_steps, thinning=thinning,
        keep=lambda state: state.average, **options,
    )  # fmt: skip
    seconds = trace.chunk_seconds / trace.steps * steps_per_epoch if trace.steps else None
    epochs = np.arange(1, num_evaluations + 1) * thinning / steps_per_epoch
    position = training.fetch(state.inner.carry.position)
    if chains is None:
        position = np.asarray(jax.jit(functools.partial(draw_visible, machine))(state.average, last_key, position))
    return Trained(trace.draws, epochs, position, seconds)


def draw_hidden(machine: boltzmann.Machine, params: Params, rng_key: jax.Array, v: jax.Array) -> jax.Array:
    """One draw of the hidden units for each row of v, `[num, H]`."""
    keys = jax.random.split(rng_key, len(v))
    return jax.vmap(lambda key, v: machine.hidden(params, v).sample(seed=key))(keys, v)


def draw_visible(machine: boltzmann.Machine, params: Params, rng_key: jax.Array, h: jax.Array) -> jax.Array:
    """One draw of the visible units for each row of h, `[num, V]`."""
    keys = jax.random.split(rng_key, len(h))
    return jax.vmap(lambda key, h: machine.visible(params, h).sample(seed=key))(keys, h)


def hidden_batch(
    machine: boltzmann.Machine, params: Params, batches: Callable, rng_key: jax.Array, step: jax.Array
) -> jax.Array:
    """One draw of the hidden units of a trained machine for every row of the batch of a step, `[batch_size, H]`."""
    return draw_hidden(machine, params, jax.random.fold_in(rng_key, step), batches(step))


def base_machine(params: Params, mean: np.ndarray) -> Params:
    """The machine of independent units from which annealing starts; Gaussian units have the variance 1."""
    if "log_variance" in params:
        return boltzmann.independent_units(params, mean, jnp.ones(len(mean)))
    return boltzmann.independent_units(params, np.clip(mean, 0.01, 0.99))


def equilibrate(
    run: Run, name: str, machine: boltzmann.Machine, params: Params, position: ArrayLike,
    num_sweeps: int = EQUILIBRATION, chains: Chains | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Continues chains with fixed parameters.

    Args:
      run, name: the run, and the name of the stage.
      machine, params: the machine.
      position: position from which the chains continue.
      num_sweeps: number of sweeps.
      chains: the sampler; None means block Gibbs sampling from visible units `[num_chains, V]`.

    Returns:
      The visible units after the last sweep, `[num_chains, V]`, and those of the first twelve chains after every tenth
      sweep, `[num_sweeps // 10, 12, V]`.
    """
    chains = chains or gibbs_chains(machine, len(np.asarray(position)))
    kernel, options = run.stage(f"{name}-sweeps", chains.kernel)
    rng_key = jax.random.key(run.config.seed + 1)
    state, trace = training.run(
        rng_key, kernel, kernel.init(jnp.asarray(position), rng_key), params, num_steps=num_sweeps, thinning=10,
        keep=lambda state: chains.read(state.position)[:12], **options,
    )  # fmt: skip
    return chains.read(training.fetch(state.position)), trace.draws


def log_partition_functions(
    run: Run, name: str, machine: boltzmann.Machine, params: Params, samples: np.ndarray, mean: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Estimates log Z of an RBM, forward by annealing from independent units and in reverse from its samples.

    Returns:
      `{"forward" or "reverse": fields of partition_function.AnnealedPartitionFunction}`.
    """
    config = run.config

    def annealed() -> dict[str, Any]:
        both = jax.jit(functools.partial(
            partition_function.bidirectional_log_partition_function, machine, num_chains=config.num_chains,
            inverse_temperatures=annealing.salakhutdinov_schedule(config.num_temperatures),
        ))(base_machine(params, mean), params, jax.random.key(config.seed + 2), samples)  # fmt: skip
        return {side: getattr(both, side)._asdict() for side in ("forward", "reverse")}

    return run.part(f"{name}-annealed", annealed)


def likelihood_rows(log_weights: ArrayLike, sides: dict[str, dict[str, Any]], **keys: Any) -> list[dict]:
    """Rows of the mean log p(x) over test images, with log Z from forward and from reverse annealing, and diagnostics.

    Args:
      log_weights: log p(x) + log Z of each test image.
      sides: the result of `log_partition_functions`.
      **keys: keys of every row.
    """
    values, rows = evaluation.mean_estimate(np.asarray(log_weights, float)), []
    for measure, side in ((FORWARD, "forward"), (REVERSE, "reverse")):
        log_z = float(sides[side]["log_partition_function"])
        rows += [
            row(measure, values.value - log_z, values.stderr, n=len(log_weights), **keys),
            row(f"standard error of log Z, {side} AIS", float(sides[side]["standard_error"]), **keys),
            row(f"effective chains, {side} AIS", float(sides[side]["effective_sample_size"]), **keys),
        ]
    gap = sides["reverse"]["log_partition_function"] - sides["forward"]["log_partition_function"]
    return [*rows, row("AIS gap (nats)", float(gap), **keys)]


def curve_rows(
    run: Run, name: str, machine: boltzmann.Machine, trained: Trained, samples: np.ndarray, mean: np.ndarray,
    test: np.ndarray, **keys: Any,
) -> list[dict]:  # fmt: skip
    """Rows of log p(x) at every checkpoint, by annealing from each checkpoint to the next in both directions."""
    config = run.config
    first = jax.tree.map(lambda leaf: leaf[0], trained.checkpoints)
    forward_key, reverse_key = jax.random.split(jax.random.key(config.seed + 3))
    options = {
        "inverse_temperatures": annealing.salakhutdinov_schedule(config.num_temperatures),
        "num_steps": max(1, config.num_temperatures // 10),
    }

    def annealed() -> dict[str, Any]:
        base = base_machine(first, mean)
        forward = jax.jit(functools.partial(
            curve.checkpoint_log_partition_functions, machine, num_chains=config.num_chains, **options
        ))(base, trained.checkpoints, forward_key)  # fmt: skip
        reverse = jax.jit(functools.partial(
            curve.reverse_checkpoint_log_partition_functions, machine, **options
        ))(base, trained.checkpoints, reverse_key, samples)  # fmt: skip
        return {"forward": forward.log_partition_function, "reverse": reverse.log_partition_function}

    log_z = run.part(f"{name}-along", annealed)
    free_energies = jax.jit(jax.vmap(jax.vmap(machine.free_energy, in_axes=(None, 0)), in_axes=(0, None)))
    means = -np.asarray(free_energies(trained.checkpoints, test), float).mean(axis=1)
    return [
        row(measure, means[index] - float(log_z[side][index]), epoch=round(float(epoch), 2), **keys)
        for index, epoch in enumerate(trained.epochs)
        for measure, side in ((FORWARD, "forward"), (REVERSE, "reverse"))
    ]


def exact_log_partition_function(machine: boltzmann.Machine, params: Params) -> Any:
    """Log Z by enumeration of the hidden units."""
    num_hidden = params["hidden_bias"].shape[-1]
    return partition_function.log_partition_function(machine.hidden_free_energy, params, num_hidden)


def draw_samples(run: Run, test: np.ndarray, samples: np.ndarray) -> None:
    """Draws a row of test images and up to five rows of samples, `[num, *shape]` with pixels in [0, 1]."""
    columns = min(12, len(test), len(samples))
    num_rows = min(5, len(samples) // columns)
    rows = samples[: num_rows * columns].reshape(num_rows, columns, *test.shape[1:])
    names = ["test", *["samples"] * num_rows]
    plots.image_grid(run.figure("samples.png"), np.concatenate([test[None, :columns], rows]), row_names=names)


def draw_filters(run: Run, name: str, kernel: ArrayLike, shape: tuple[int, ...]) -> None:
    """Draws the connections `[V, H]` of up to 64 hidden units as images of `shape`, each scaled to its largest."""
    filters = np.asarray(kernel).T[:64]
    columns = max(1, min(16, len(filters) // 4))
    filters = filters[: len(filters) // columns * columns]
    images = 0.5 + 0.5 * filters / np.abs(filters).max(axis=1, keepdims=True)
    plots.image_grid(run.figure(f"filters-{name}.png"), images.reshape(-1, columns, *shape), title=f"filters, {name}")
