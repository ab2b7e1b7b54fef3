"""The cost of one sweep of the synthetic Bayesian GAN in bayesjax and in PyTorch.

A sweep is one SGHMC step of the discriminator and one of each generator, with the networks of the paper preset of
`experiments/bayesian_gan.py`: generators 10-1000-100, discriminator 100-1000-1, leaky ReLU, batch
64, N = 10000 training points, temperature T = 1.

    python -m benchmarks.bayesian_gan                      fifteen repeats, four minutes on two idle cores
    python -m benchmarks.bayesian_gan --repeats 2 --num-sweeps 20 --num-run-sweeps 200      a short check

Each library has its own process on the same cores. Rows run in alternating order, after compilation. The PyTorch ports
are eager code for the same equations: "loop" has one `linear` per generator, and "batched" has one `baddbmm` for all
generators. Both evaluate the discriminator once on all images and update all parameters with `torch._foreach_*`. Before
the timing, their gradients and two steps at T = 0 are compared with bayesjax's from equal parameters, noise vectors and
data. The ports compute no diagnostics. In bayesjax's rows the compiler removes unused diagnostics, except in one row
that has all of them and shows their cost. Rows at T = 0 exclude the samplers' noise, which the libraries generate
differently. The last measurement is `training.run`, with the share of its time outside compiled code (target: below
5 %).

Bars: ten generators cost at most 9 times one; PyTorch's loop takes at least 2 times and its batched form at least 1.6
times as long as bayesjax. Results: benchmarks/results/bayesian_gan.json.
"""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, kernels, models, posteriors, training
from bayesjax.objectives import adversarial
from bayesjax.types import Density, Given, Kernel
from benchmarks import bayesian_gan_torch as peer
from benchmarks import measure

TOLERANCE = 1e-3  # relative, between the ports' gradients and bayesjax's


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.bayesian_gan."""

    repeats: int = 15
    """Number of times that every row is measured."""
    num_sweeps: int = 30
    """Number of sweeps in a measurement."""
    num_run_sweeps: int = 2000
    """Number of sweeps of training.run; 0 skips that measurement."""
    num_generators: int = 10
    """Number of generators J_g in the rows that have more than one."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "bayesian_gan.json")
    """The JSON file to write."""


# ---- bayesjax


def generate(params: Any, rng_key: jax.Array, num: int) -> Any:
    """One generator's samples `[num, dim]`; `params` may be a pair with the noise vectors to use."""
    if not isinstance(params, tuple):
        params = params, models.latent_noise(rng_key, num, peer.LATENT_DIM)
    params, noise = params
    dim = params["layers_1"]["bias"].shape[-1]
    return network(dim).apply({"params": params}, noise)


def network(num_outputs: int) -> models.MLP:
    """A generator or discriminator: one hidden layer of leaky ReLU units."""
    return models.MLP((peer.HIDDEN, num_outputs), functools.partial(jax.nn.leaky_relu, negative_slope=peer.SLOPE))


def log_prior(params: Any) -> jax.Array:
    """The log prior density of one network's weights; `params` may be a pair with noise vectors."""
    return posteriors.gaussian(peer.PRIOR_SCALE)(params[0] if isinstance(params, tuple) else params)


def conditionals(num_data: int) -> dict[str, Density]:
    """The log conditional density of each player's weights given the other player's weights, by player."""

    def log_prob(of_logit: Callable) -> Callable:
        def apply(params: Any, x: jax.Array) -> jax.Array:
            logits: Any = network(1).apply({"params": params}, x)
            return of_logit(logits[:, 0])

        return apply

    real, fake = log_prob(adversarial.log_prob_real), log_prob(adversarial.log_prob_fake)
    return {
        "discriminator": posteriors.discriminator_conditional(
            generate, real, fake, log_prior, num_data=num_data, batch_size=peer.BATCH_SIZE
        ),
        "generator": posteriors.generator_conditional(
            generate, real, log_prior, num_generated=num_data, batch_size=peer.BATCH_SIZE
        ),
    }


def sampler(density: Density, num: int, num_data: int, temperature: float) -> Kernel:
    """SGHMC on the `num` networks of one player."""
    step_size = peer.LEARNING_RATE / num_data
    return kernels.particles(
        kernels.sghmc(density, step_size=step_size, friction=peer.FRICTION, temperature=temperature), num
    )


def game(num_data: int, num_generators: int, temperature: float) -> Kernel:
    """The kernel of one sweep: the discriminator moves, then the generators."""
    density = conditionals(num_data)
    return kernels.alternate(
        discriminator=sampler(density["discriminator"], 1, num_data, temperature),
        generator=sampler(density["generator"], num_generators, num_data, temperature),
    )


def minibatches(rng_key: jax.Array, inputs: np.ndarray) -> Callable[[jax.Array], posteriors.GANBatch]:
    """Returns a function of the step whose value is that step's minibatch of unlabelled examples."""

    def batch(source: data.Minibatches, step: jax.Array) -> posteriors.GANBatch:
        return posteriors.GANBatch(source(step))

    return jax.tree_util.Partial(batch, data.Minibatches(rng_key, inputs, peer.BATCH_SIZE))


def initial_position(num_generators: int, dim: int, num_discriminators: int = 1) -> dict:
    """Initial parameters of the discriminators and the generators, with a leading axis of networks."""
    stacked = {}
    for i, (name, num, width, outputs) in enumerate(
        (("discriminator", num_discriminators, dim, 1), ("generator", num_generators, peer.LATENT_DIM, dim))
    ):
        keys = jax.random.split(jax.random.key(i), num)
        stacked[name] = jax.vmap(network(outputs).init, in_axes=(0, None))(keys, jnp.zeros((1, width)))["params"]
    return stacked


def bayesjax_sweeps(
    inputs: np.ndarray, num_generators: int, temperature: float, num_sweeps: int, diagnostics: bool = False
) -> measure.Row:
    """Returns a row of compiled sweeps of the game.

    If `diagnostics` is true, the program also returns the infos of the sweeps, so that the compiler cannot remove them.
    """
    kernel = game(len(inputs), num_generators, temperature)
    state = kernel.init(initial_position(num_generators, inputs.shape[1]), jax.random.key(3))

    def sweeps(rng_key: jax.Array, state: Any, source: Callable) -> tuple[Any, Any]:
        def one(state: Any, step: jax.Array) -> tuple[Any, Any]:
            state, info = kernel.step(jax.random.fold_in(rng_key, step), state, source(step))
            return state, info if diagnostics else None

        state, infos = jax.lax.scan(one, state, jnp.arange(num_sweeps))
        return state, jax.tree.map(lambda leaf: leaf.mean(axis=0), infos)

    arguments = jax.random.key(4), state, minibatches(jax.random.key(2), inputs)
    program, seconds = measure.compiled(sweeps, *arguments)

    def run() -> None:
        moved, _ = jax.block_until_ready(program(*arguments))
        measure.check_finite(moved)

    run()
    return measure.Row(run, num_sweeps, seconds)


def bayesjax_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of bayesjax: one generator and many, with diagnostics, and at T = 0 without noise."""
    inputs, many = data.load("synthetic/ten_clusters").train.inputs, config.num_generators
    settings = {
        "bayesjax J_g=1": (1, 1.0),
        f"bayesjax J_g={many}": (many, 1.0),
        f"bayesjax J_g={many} with diagnostics": (many, 1.0, True),
        f"bayesjax J_g={many} T=0": (many, 0.0),
    }
    return {
        name: bayesjax_sweeps(inputs, num, temperature, config.num_sweeps, *diagnostics)
        for name, (num, temperature, *diagnostics) in settings.items()
    }


# ---- PyTorch


def torch_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of the PyTorch ports, which start from the parameters that bayesjax starts from."""
    inputs, many = data.load("synthetic/ten_clusters").train.inputs, config.num_generators
    position, rows = initial_position(many, inputs.shape[1]), {}
    for name, temperature in (("loop", 1.0), ("batched", 1.0), ("batched T=0", 0.0)):
        port = peer.TorchGame(position, inputs, temperature, batched=name != "loop")
        peer.torch_sweeps(port, 3)()
        kind, *cold = name.split()
        row = " ".join([f"torch {kind} J_g={many}", *cold])
        rows[row] = measure.Row(peer.torch_sweeps(port, config.num_sweeps), config.num_sweeps)
    return rows


def check_ports(position: dict, inputs: np.ndarray) -> dict[str, float]:
    """Compares the gradients of the ports with bayesjax's, and their momenta after two steps at T = 0.

    The two steps have different noise vectors.

    Returns:
      The largest relative difference over the tensors of a player, in the Euclidean norm, by the name of the
      comparison, such as "loop generator gradient".

    Raises:
      ArithmeticError: if a difference exceeds TOLERANCE.
    """
    import torch  # pyright: ignore[reportMissingImports]

    num_generators = len(peer.layers(position["generator"])[0])
    density, step_size = conditionals(len(inputs)), peer.LEARNING_RATE / len(inputs)
    real = jnp.asarray(inputs[: peer.BATCH_SIZE])
    shape = (2, num_generators, peer.BATCH_SIZE, peer.LATENT_DIM)
    noises = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    differences = {}
    for name, other, num in (("discriminator", "generator", 1), ("generator", "discriminator", num_generators)):
        kernel = sampler(density[name], num, len(inputs), temperature=0.0)
        state = kernel.init({**position, "generator": (position["generator"], noises[0])}[name], jax.random.key(4))
        ports = {label: peer.TorchGame(position, inputs, 0.0, label == "batched") for label in ("loop", "batched")}
        step = jax.jit(kernel.step)
        for noise in noises:
            others = {**position, "generator": (position["generator"], noise)}
            if name == "generator":
                state = state._replace(position=(state.position[0], noise))
            state, _ = step(jax.random.key(4), state, Given(posteriors.GANBatch(real), {other: others[other]}))
            unit_mass = state.momentum[0] if name == "generator" else state.momentum
            momentum = peer.layers(_velocity(unit_mass, step_size))
            for label, port in ports.items():
                z = torch.tensor(noise)
                if name == "generator":
                    gradient = port.generator_gradient(z)
                else:
                    gradient = port.discriminator_gradient(torch.tensor(inputs[: peer.BATCH_SIZE]), z)
                port.move(name, gradient)
                if f"{label} {name} gradient" not in differences:  # the momentum of step 1
                    differences[f"{label} {name} gradient"] = _difference(port.stacked(name, gradient), momentum)
                velocity = [v / step_size for v in port.stacked(name, port.velocity[name])]
                differences[f"{label} {name} momentum"] = _difference(velocity, momentum)
    for key, value in differences.items():
        if not value < TOLERANCE:
            raise ArithmeticError(f"the PyTorch {key} differs from bayesjax's by {value:.1e}; at most {TOLERANCE:g}")
    return differences


def _velocity(momentum: Any, step_size: float) -> Any:
    """The momentum of the equivalent SGD, the decayed sum of gradients, from SGHMC's unit-mass momentum."""
    scale = (1 - peer.FRICTION) * np.sqrt(2 * step_size / (2 - peer.FRICTION))
    return jax.tree.map(lambda p: p / scale, momentum)


def _difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest relative difference over tensors, in the Euclidean norm."""
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(found, expected, strict=True))


# ---- measurement


def time_outside_chunks(inputs: np.ndarray, num_generators: int, num_sweeps: int) -> dict[str, float]:
    """Times `training.run` with a metrics file and a draw of all networks every 100 sweeps, without checkpoints.

    Returns:
      The number of sweeps, the seconds of the whole call, of compilation and of the compiled chunks of sweeps, and the
      fraction of the time after compilation that is spent outside the chunks.
    """
    kernel = game(len(inputs), num_generators, 1.0)
    state = kernel.init(initial_position(num_generators, inputs.shape[1]), jax.random.key(3))
    source = minibatches(jax.random.key(2), inputs)
    with tempfile.TemporaryDirectory() as folder:
        _, trace = training.run(
            jax.random.key(4), kernel, state, source, num_steps=num_sweeps, thinning=min(100, num_sweeps),
            metrics=training.MetricsFile(Path(folder) / "metrics.jsonl", "benchmark"),
        )  # fmt: skip
    outside = trace.seconds - trace.compile_seconds - trace.chunk_seconds
    return {
        "num_sweeps": num_sweeps,
        "seconds": trace.seconds,
        "compile_seconds": trace.compile_seconds,
        "chunk_seconds": trace.chunk_seconds,
        "fraction_outside_chunks": outside / (trace.seconds - trace.compile_seconds),
    }


def main(config: Config) -> None:
    """Checks the ports, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_sweeps", "num_generators")
    if config.num_run_sweeps < 0:
        measure.fail(f"--num-run-sweeps must be at least 0; got {config.num_run_sweeps}")
    inputs = data.load("synthetic/ten_clusters").train.inputs
    many = config.num_generators
    position = initial_position(many, inputs.shape[1])
    differences = check_ports(position, inputs)
    worst = max(differences.values())
    print(f"equal parameters, noise and data: gradients and momenta differ by {worst:.1e} (allowed {TOLERANCE:g})\n")

    sides = {
        "bayesjax": functools.partial(bayesjax_rows, config),
        "torch": functools.partial(torch_rows, config),
    }
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats)
    ratio = functools.partial(measure.ratio, times)
    one, ten, cold = "bayesjax J_g=1", f"bayesjax J_g={many}", f"bayesjax J_g={many} T=0"
    informed = f"{ten} with diagnostics"
    loop, batched = f"torch loop J_g={many}", f"torch batched J_g={many}"
    batched_cold = f"{batched} T=0"
    ratios = {
        f"{ten} / {one}": ratio(ten, one, "<= 9"),
        f"{loop} / {ten}": ratio(loop, ten, ">= 2"),
        f"{batched} / {ten}": ratio(batched, ten, ">= 1.6"),
        f"{informed} / {ten}": ratio(informed, ten, "-"),
        f"{batched} / {informed}": ratio(batched, informed, "-"),
        f"{ten} / {cold}": ratio(ten, cold, "- (cost of the noise)"),
        f"{batched_cold} / {cold}": ratio(batched_cold, cold, "- (without noise)"),
    }
    overhead = {}
    for name, num in ((one, 1), (ten, many)) if config.num_run_sweeps else ():
        overhead[name] = time_outside_chunks(inputs, num, config.num_run_sweeps)

    results = {
        **measure.made_beside_torch(config, load_average),
        "milliseconds_per_sweep": measure.summaries(times),
        "compile_seconds": running.compile_seconds,
        "peak_mib": running.peak_mib,
        "ratios": ratios,
        "training_run": overhead,
        "differences": differences,
    }
    measure.write(config.out, results)
    for name, run in overhead.items():
        share, seconds = 100 * run["fraction_outside_chunks"], run["seconds"] - run["compile_seconds"]
        print(f"training.run, {name}: {share:.2f} % of {seconds:.1f} s outside compiled chunks (target < 5 %)")
    print(f"\nload average at start {load_average[0]:.1f}; results in {config.out}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
