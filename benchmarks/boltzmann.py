"""The cost of training an RBM, compared with scikit-learn, PyTorch and its matrix products, and of estimating log Z.

The machine has 784 visible and 500 hidden Bernoulli units, as for MNIST. It is trained by persistent contrastive
divergence with one Gibbs step (PCD-1; Tieleman, ICML 2008), with stochastic gradient descent, batches of 100 images and
100 chains. An epoch of 60000 images is 600 steps, of which a measurement takes 50. The images are random bits with
MNIST's shape; the cost does not depend on their content.

    python -m benchmarks.boltzmann                                         about four minutes on two idle cores
    python -m benchmarks.boltzmann --repeats 3 --num-temperatures 500      a short check

The bayesjax rows have the loss, chains and optimiser of `experiments/shared/boltzmann.py`, in a scan with minibatches
and infos as in `training.run`. The row of scikit-learn is `BernoulliRBM.fit` on float32 images. The PyTorch port does
not use autograd: it writes products into buffers that are allocated once, and updates parameters in place. The chains
carry h everywhere, so one product v W gives both the statistics of the chains and the next h, and a step has five
products of 100 x 784 x 500. In the row "visible chains" they carry v, and a step has six. The rows "products" compute
only the matrix products of a step, which bound its time from below. Before the timing, the update of the port from
given images and chains is compared with bayesjax's, in the plain and the centred parameterisation.

The AIS row estimates log Z by annealed importance sampling with 100 chains (Salakhutdinov & Murray, ICML 2008). One of
its steps is one inverse temperature. The last measurement is one call with --num-temperatures inverse temperatures.

Bar: scikit-learn and PyTorch take at least twice as long as bayesjax. Results: benchmarks/results/boltzmann.json.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bayesjax import data, kernels
from bayesjax.evaluation import annealing, partition_function
from bayesjax.models import boltzmann
from bayesjax.objectives import boltzmann as objectives
from bayesjax.types import Carried, Kernel, Params
from benchmarks import hlo, measure
from experiments.harness.report import markdown

NUM_IMAGES, NUM_VISIBLE, NUM_HIDDEN, BATCH_SIZE, NUM_CHAINS = 60_000, 784, 500, 100, 100
LEARNING_RATE, OFFSET_RATE = 0.05, 0.01
STEPS_PER_EPOCH = NUM_IMAGES // BATCH_SIZE
PLAIN, CENTRED, VISIBLE_CHAINS = "bayesjax plain", "bayesjax centred", "bayesjax plain, visible chains"
AIS, WHOLE = "bayesjax AIS", "bayesjax AIS, all temperatures"
PEER_PRODUCTS = 5  # matrix products of a step of PyTorch and of scikit-learn
TOLERANCE = 1e-4  # relative, between the update of the port and bayesjax's


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.boltzmann."""

    repeats: int = 9
    """Number of times that every row is measured."""
    num_steps: int = 50
    """Number of training steps, or of inverse temperatures, in a measurement."""
    num_temperatures: int = 20_000
    """Number of inverse temperatures in the long estimate of log Z, which is measured once."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "boltzmann.json")
    """The JSON file to write."""


def made_images(num: int) -> np.ndarray:
    """Random bits `[num, 784]` as float32; a seventh of them are 1."""
    return (np.random.default_rng(0).random((num, NUM_VISIBLE), np.float32) < 1 / 7).astype(np.float32)


# ---- bayesjax


def made_params(is_centred: bool) -> tuple[boltzmann.Machine, Params]:
    """The machine and its initial parameters."""
    model = boltzmann.RBM(NUM_VISIBLE, NUM_HIDDEN, is_centred=is_centred)
    return boltzmann.machine(model), jax.jit(model.init)(jax.random.key(0), jnp.zeros(NUM_VISIBLE))["params"]


def made_optimizer(params: Params) -> optax.GradientTransformation:
    """SGD. The offsets of a centred machine follow the means of its units; the biases compensate for their change."""
    groups: Any = {"weights": optax.sgd(LEARNING_RATE), "offsets": optax.sgd(OFFSET_RATE)}
    optimizer = optax.partition(
        groups, {name: "offsets" if name in boltzmann.OFFSETS else "weights" for name in params}
    )
    if boltzmann.OFFSETS[0] not in params:
        return optimizer
    return optax.chain(optimizer, kernels.adjust(boltzmann.keep_distribution))


def follow_means_if_centred(loss: Callable, machine: boltzmann.Machine, params: Params) -> Callable:
    """Adds the gradient of the offsets to the loss of a centred machine, and returns that of a plain one unchanged."""
    if boltzmann.OFFSETS[0] not in params:
        return loss
    return objectives.follow_means(loss, lambda params, x: machine.hidden(params, x).mean())


def training_parts(is_centred: bool = False, carries_hidden: bool = True) -> tuple[Kernel, Params]:
    """The kernel of `experiments/shared/boltzmann.py`, with chains of v or of h, and the initial parameters."""
    machine, params = made_params(is_centred)
    if carries_hidden:
        gibbs, size = kernels.block_gibbs(machine.visible, machine.hidden), NUM_HIDDEN
    else:
        gibbs, size = kernels.block_gibbs(machine.hidden, machine.visible), NUM_VISIBLE
    chains = kernels.particles(gibbs, NUM_CHAINS)
    loss = objectives.persistent_contrastive_divergence(
        machine.free_energy, chains, samples=lambda state, info: info.other if carries_hidden else state.position
    )
    loss = follow_means_if_centred(loss, machine, params)
    kernel = kernels.optimize(loss, made_optimizer(params))
    start = chains.init(jnp.zeros((NUM_CHAINS, size)), jax.random.key(1))
    return kernels.carrying(kernel, start), params


def training_row(num_steps: int, **options: Any) -> measure.Row:
    """A row of training steps, each with its own minibatch; `options` are those of `training_parts`."""
    kernel, params = training_parts(**options)

    def step(rng_key: jax.Array, state: Any, source: Callable) -> tuple[Any, Any]:
        return kernel.step(rng_key, state, source(state.inner.step))

    batches = data.Minibatches(jax.random.key(2), made_images(num_steps * BATCH_SIZE), BATCH_SIZE)
    return measure.kernel_steps(kernel._replace(step=step), params, batches, num_steps)


def products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes the five matrix products of a plain step without its activations; the result has the shape `[V, H]`."""
    h = x @ kernel
    v = h @ kernel.T
    return x.T @ h - v.T @ (v @ kernel)


def products_row(num_steps: int) -> measure.Row:
    """A row of `products` in a scan over batches.

    Every step adds a negligible multiple of the previous result to the images, so that the compiler cannot move a
    product out of the loop.
    """

    def steps(xs: jax.Array, kernel: jax.Array) -> jax.Array:
        def one(gradient: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
            return products(xs[step % len(xs)] + 1e-30 * gradient[:1, :1], kernel), None

        return lax.scan(one, jnp.zeros_like(kernel), jnp.arange(num_steps))[0]

    xs = jnp.asarray(made_images(4 * BATCH_SIZE)).reshape(4, BATCH_SIZE, NUM_VISIBLE)
    arguments = xs, made_params(is_centred=False)[1]["kernel"]
    program, seconds = measure.compiled(steps, *arguments)
    jax.block_until_ready(program(*arguments))
    return measure.Row(lambda: jax.block_until_ready(program(*arguments)), num_steps, seconds)


def annealing_row(num_temperatures: int, is_warm: bool = True) -> measure.Row:
    """A row of log Z by annealed importance sampling with 100 chains. A step is one inverse temperature.

    The program is called once before the timing if `is_warm` is true.
    """
    machine, params = made_params(is_centred=False)
    estimate = functools.partial(
        partition_function.annealed_log_partition_function, machine, num_chains=NUM_CHAINS,
        inverse_temperatures=annealing.salakhutdinov_schedule(num_temperatures),
    )  # fmt: skip
    arguments = boltzmann.independent_units(params, np.full(NUM_VISIBLE, 1 / 7)), params, jax.random.key(4)
    program, seconds = measure.compiled(estimate, *arguments)

    def run() -> None:
        measure.check_finite(program(*arguments))

    if is_warm:
        run()
    return measure.Row(run, num_temperatures, seconds)


def bayesjax_rows(config: Config) -> dict[str, measure.Row]:
    num_steps = config.num_steps
    return {
        PLAIN: training_row(num_steps),
        CENTRED: training_row(num_steps, is_centred=True),
        VISIBLE_CHAINS: training_row(num_steps, carries_hidden=False),
        "bayesjax products": products_row(num_steps),
        AIS: annealing_row(num_steps),
    }


def whole_rows(config: Config) -> dict[str, measure.Row]:
    return {WHOLE: annealing_row(config.num_temperatures, is_warm=False)}


def num_products(**options: Any) -> float:
    """Number of products of 100 x 784 x 500 in a compiled step, from the operations in its HLO."""
    kernel, params = training_parts(**options)
    arguments = jax.random.key(0), kernel.init(params, jax.random.key(1)), jnp.zeros((BATCH_SIZE, NUM_VISIBLE))
    text = jax.jit(kernel.step).lower(*arguments).compile().as_text()
    return hlo.read(text or "").flops / (2 * BATCH_SIZE * NUM_VISIBLE * NUM_HIDDEN)


# ---- the peers


def torch_rows(config: Config) -> dict[str, measure.Row]:
    from benchmarks import boltzmann_torch as peer

    images, num_steps = made_images(config.num_steps * BATCH_SIZE), config.num_steps
    plain, centred = (peer.TorchRBM(made_params(is_centred)[1], NUM_CHAINS) for is_centred in (False, True))
    return {
        "torch plain": measure.Row(peer.training_steps(plain, images, BATCH_SIZE), num_steps),
        "torch centred": measure.Row(peer.training_steps(centred, images, BATCH_SIZE), num_steps),
        "torch products": measure.Row(peer.products(plain, images[:BATCH_SIZE], num_steps), num_steps),
    }


def sklearn_rows(config: Config) -> dict[str, measure.Row]:
    from sklearn.neural_network import BernoulliRBM

    images = made_images(config.num_steps * BATCH_SIZE)
    machine = BernoulliRBM(NUM_HIDDEN, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, n_iter=1, random_state=0)

    def run() -> None:
        machine.fit(images)
        if machine.components_.dtype != np.float32 or not np.isfinite(machine.components_).all():
            raise FloatingPointError("the weights of scikit-learn are not finite float32 numbers")

    run()
    return {"scikit-learn": measure.Row(run, config.num_steps)}


def check_port() -> dict[str, float]:
    """Compares one update of the port with bayesjax's, from equal parameters, images and chains.

    Returns:
      The largest relative difference over parameters, in the Euclidean norm, for the "plain" and the "centred" machine.

    Raises:
      ArithmeticError: if a difference exceeds TOLERANCE.
    """
    from benchmarks import boltzmann_torch as peer

    x, v = made_images(BATCH_SIZE + NUM_CHAINS)[:BATCH_SIZE], made_images(BATCH_SIZE + NUM_CHAINS)[BATCH_SIZE:]
    differences = {}
    for name, is_centred in (("plain", False), ("centred", True)):
        machine, params = made_params(is_centred)

        def loss(params: Params, rng_key: jax.Array, batch: Carried, machine: Any = machine) -> tuple[jax.Array, dict]:
            del rng_key
            free_energies = jax.vmap(machine.free_energy, in_axes=(None, 0))
            return free_energies(params, batch.batch).mean() - free_energies(params, batch.carry).mean(), {}

        loss, optimizer = follow_means_if_centred(loss, machine, params), made_optimizer(params)
        gradient = jax.grad(loss, has_aux=True)(params, jax.random.key(0), Carried(jnp.asarray(x), jnp.asarray(v)))[0]
        updates: Any = optimizer.update(gradient, optimizer.init(params), params)[0]
        port = peer.TorchRBM(params, NUM_CHAINS)
        port.update(*port.statistics(x, v))
        moved = {key: value - np.asarray(params[key]) for key, value in port.parameters().items()}
        differences[name] = max(
            float(np.linalg.norm(moved[key] - updates[key]) / np.linalg.norm(updates[key])) for key in params
        )
    for name, difference in differences.items():
        if not difference < TOLERANCE:
            raise ArithmeticError(f"the {name} update of PyTorch differs by {difference:.1e}; at most {TOLERANCE:g}")
    return differences


# ---- measurement


def remarks(
    medians: dict[str, float], counts: dict[str, float], annealing_seconds: dict[str, float], num_temperatures: int
) -> list[str]:
    """The table of seconds per epoch and products per step, and the time of a long estimate of log Z.

    Args:
      medians: milliseconds per step of each row.
      counts: matrix products of a step of bayesjax's rows.
      annealing_seconds: seconds of the long estimate, measured and extrapolated from the short row.
      num_temperatures: number of inverse temperatures of the long estimate.
    """
    products = counts | dict.fromkeys(("torch plain", "torch centred", "scikit-learn"), PEER_PRODUCTS)
    lines = [
        [name, f"{medians[name] * STEPS_PER_EPOCH / 1000:.1f}", f"{count:.1f}"] for name, count in products.items()
    ]
    size = f"{BATCH_SIZE} x {NUM_VISIBLE} x {NUM_HIDDEN}"
    table = markdown(["program", f"seconds per epoch ({STEPS_PER_EPOCH} steps)", f"products of {size} per step"], lines)
    seconds = {name: f"{value:.0f} s" for name, value in annealing_seconds.items()}
    return [
        table,
        "The seconds per epoch are computed from the medians. The products of bayesjax are counted in the compiled "
        "program, those of PyTorch and scikit-learn in their source code.",
        f"One step of an AIS row updates {NUM_CHAINS} chains at one inverse temperature. One call with "
        f"{num_temperatures} inverse temperatures takes {seconds['measured']}; the short row extrapolates to "
        f"{seconds['extrapolated']}.",
    ]


def main(config: Config) -> None:
    """Checks the port, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps", "num_temperatures", needs=("torch", "sklearn"))
    differences = check_port()
    counts = {PLAIN: num_products(), CENTRED: num_products(is_centred=True)}
    counts[VISIBLE_CHAINS] = num_products(carries_hidden=False)
    makers = {"bayesjax": bayesjax_rows, "torch": torch_rows, "scikit-learn": sklearn_rows, WHOLE: whole_rows}
    sides = {name: functools.partial(make_rows, config) for name, make_rows in makers.items()}
    rows = [PLAIN, CENTRED, VISIBLE_CHAINS, "bayesjax products", AIS, "torch plain", "torch centred", "torch products"]
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats, [*rows, "scikit-learn"])
        times |= running.alternate(1, [WHOLE])
    ratios = {
        f"{over} / {under}": measure.ratio(times, over, under, bar)
        for over, under, bar in (
            ("scikit-learn", PLAIN, ">= 2"),
            ("torch plain", PLAIN, ">= 2"),
            ("torch centred", CENTRED, ">= 2"),
            (VISIBLE_CHAINS, PLAIN, "-"),
            ("bayesjax products", PLAIN, "-"),
            ("torch products", "torch plain", "-"),
            ("torch plain", "torch products", "- (if below 2, the bar is unreachable)"),
            ("scikit-learn", "torch products", "- (if below 2, the bar is unreachable)"),
            ("scikit-learn", "bayesjax products", "- (if below 2, the bar is unreachable)"),
        )
    }
    medians = {name: measure.summary(values)["median"] for name, values in times.items()}
    annealing_seconds = {
        "extrapolated": medians[AIS] * config.num_temperatures / 1000,
        "measured": medians[WHOLE] * config.num_temperatures / 1000,
    }
    results = {
        **measure.made_beside_torch(config, load_average, "scikit-learn"),
        **measure.of_steps(running, times, ratios),
        "differences": differences,
        "products_per_step": counts,
        "annealing_seconds": annealing_seconds,
        "remarks": remarks(medians, counts, annealing_seconds, config.num_temperatures),
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
