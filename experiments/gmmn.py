"""Generative moment matching networks, in data space and in the code space of an auto-encoder; also Bayesian ones.

Paper: Li, Swersky & Zemel, "Generative moment matching networks", ICML 2015 (table 1, figures 2 to 4).

    python -m experiments.gmmn                        quick: digits, by Adam and by SGHMC: under a minute
    python -m experiments.gmmn --preset paper         MNIST, 40000 steps of SGD with momentum: minutes on a GPU
    python -m experiments.gmmn --preset bayes         paper, continued by SGHMC and SGLD: for a GPU
    python -m experiments.gmmn --preset cpu           MNIST, 1000 steps of Adam on 500 images: 32 minutes on two cores

A generator maps uniform noise to samples and minimises sqrt(MMD^2) between a batch of samples and a batch of data
(`objectives.moment_matching`); there is no discriminator. In code space the data are the codes of an auto-encoder that
is trained first, and samples are decoded. A sampler (--kernels sghmc, sgld) starts where an optimiser ended and draws
weights w from exp(-N loss(w)) prior(w), with N training images. The samples of all its draws are pooled.

The measure is that of the literature, the log-likelihood of the test set under a Parzen window of --num-samples
samples, although it is a poor measure (Theis, van den Oord & Bethge, ICLR 2016). The window's width is chosen on
--num-validation held-out training images. For comparison, the table has the log-likelihood under a Parzen window of as
many training images, and the unbiased MMD^2 between samples and test set.

Expected (paper preset, MNIST): GMMN 147 +- 2 nats, GMMN+AE 282 +- 2 (Li et al. 2015). The cpu preset reaches 49 and
210, and training images themselves reach 244. As in the authors' program, the six numbers of the kernel are variances
(a single variance of 1 in code space). From step 10000 on, SGD has a momentum of 0.99 and a tenth of its learning rate.
Initial weights are N(0, 1 / fan-in). From the authors' N(0, 0.1 / fan-in), training in code space stays on a plateau
for thousands of steps.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, divergences, evaluation, kernels, models, plots, posteriors, training
from bayesjax.evaluation import likelihood
from bayesjax.models.autoencoder import AutoEncoder
from bayesjax.models.initializers import fan_in_normal
from bayesjax.objectives.moment_matching import moment_matching_loss
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, require, row

Fraction = Annotated[float, Range(above=0, below=1)]
Counts = Annotated[tuple[Count, ...], NonEmpty]
Variances = Annotated[tuple[Positive, ...], NonEmpty]
NUM_SHOWN = 14  # samples in the figure


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.gmmn."""

    dataset: str = "digits"
    """Images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file."""
    spaces: tuple[Literal["data", "code"], ...] = ("data", "code")
    """Spaces in which samples and data are compared: data (GMMN) or the code of an auto-encoder (GMMN+AE)."""
    kernels: tuple[Literal["adam", "sgd", "sghmc", "sgld"], ...] = ("adam", "sghmc")
    """Optimisers and samplers of the generator's weights to compare; sgd has momentum."""
    latent_dim: Count = 10
    """Dimension of the generator's noise, which is uniform on (-1, 1)."""
    hidden: Counts = (64, 256, 256)
    """Widths of the generator's hidden layers."""
    initial_scale: Positive = 1.0
    """Scale s of the initial weights, which are N(0, s^2 / fan-in)."""
    variances: Variances = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Variances of the Gaussian kernels that are summed in data space."""
    code_variances: Variances = (0.1, 0.3, 1.0)
    """Variances of the Gaussian kernels that are summed in code space."""
    batch_size: Count = 200
    """Number of training images, and of generated samples, in a step."""
    num_steps: Count = 300
    """Number of steps of the optimiser."""
    learning_rate: Positive = 3e-3
    """Initial learning rate of the optimiser; Adam's decays to 0 along a cosine."""
    momentum: Fraction = 0.9
    """Momentum of SGD, in (0, 1)."""
    drop_after: Annotated[float, Range(above=0, most=1)] = 1.0
    """Fraction of the steps, in (0, 1], after which SGD continues with a tenth of its learning rate and of 1 -
    momentum."""
    warmup_kernel: Literal["adam", "sgd"] = "adam"
    """Optimiser whose final weights the samplers start from."""
    num_sampling_steps: Count = 60
    """Number of steps of a sampler, at least twice --num-draws; draws are taken from the second half."""
    num_draws: Count = 10
    """Number of evenly spaced draws of the weights that a sampler keeps."""
    sampling_learning_rate: Positive = 0.02
    """Learning rate of the samplers, their step size times the number of training images."""
    friction: Fraction = 0.1
    """Friction of SGHMC per step, in (0, 1); 1 - friction is its momentum."""
    temperature: Positive = 1.0
    """Temperature T of the sampled density, exp(-N loss / T) prior^(1/T)."""
    prior_scale: Positive = 1.4
    """Scale s of the prior, which is N(0, s^2 / fan-in) for weights and N(0, s^2) for biases."""
    code_features: Counts = (128, 16)
    """Widths of the auto-encoder from its first hidden layer to the code."""
    code_dropout_rates: tuple[Annotated[float, Range(least=0, below=1)], ...] = (0.0, 0.0)
    """Dropout rates of the inputs of the encoder's layers, in [0, 1), one for each of --code-features."""
    num_code_steps: Count = 600
    """Number of steps of Adam for the auto-encoder, each on 100 images."""
    code_learning_rate: Positive = 1e-2
    """Initial learning rate of Adam for the auto-encoder; it decays to 0 along a cosine."""
    num_samples: Annotated[int, Range(least=NUM_SHOWN)] = 1000
    """Number of samples of each model in its Parzen window, at least 14 and at least --num-draws."""
    num_validation: Annotated[int, Range(least=2)] = 300
    """Number of training images that are held out to choose the window's width, at least 2."""

    def __post_init__(self) -> None:
        """Checks that there are enough steps and samples for the draws, and a dropout rate for each layer."""
        super().__post_init__()
        require(
            self.num_sampling_steps >= 2 * self.num_draws,
            f"--num-sampling-steps must be at least twice --num-draws, {self.num_draws}; got {self.num_sampling_steps}",
        )
        require(
            self.num_samples >= self.num_draws,
            f"--num-samples must be at least --num-draws, {self.num_draws}; got {self.num_samples}",
        )
        require(
            len(self.code_dropout_rates) == len(self.code_features),
            f"--code-dropout-rates must have a number for each of --code-features; got {self.code_dropout_rates}",
        )


PAPER = Config(
    dataset="mnist", kernels=("sgd",), hidden=(64, 256, 256, 1024), variances=(2.0, 5.0, 10.0, 20.0, 40.0, 80.0),
    code_variances=(1.0,), batch_size=1000, num_steps=40_000, learning_rate=2.0, drop_after=0.25, warmup_kernel="sgd",
    num_sampling_steps=10_000, sampling_learning_rate=0.2, code_features=(1024, 32), code_dropout_rates=(0.2, 0.5),
    num_code_steps=20_000, code_learning_rate=1e-3, num_samples=10_000, num_validation=5000,
)  # fmt: skip
PRESETS = {
    "quick": Config(),
    "paper": PAPER,
    "cpu": replace(
        PAPER, kernels=("adam",), num_steps=1000, learning_rate=3e-3, drop_after=1.0, warmup_kernel="adam",
        batch_size=500, num_code_steps=3000, code_learning_rate=3e-3, num_validation=1000,
    ),
    "bayes": replace(PAPER, kernels=("sgd", "sghmc", "sgld")),
}  # fmt: skip
PUBLISHED, SOURCE = {"data": 147.0, "code": 282.0}, "Li, Swersky & Zemel 2015, table 1"  # nats, +- 2
PARZEN = "Parzen log-likelihood (nats)"


def table_note(config: dict) -> str:
    """The note below the table on the settings of a run."""
    note = f"Test images are evaluated under a Parzen window of {config['num_samples']} samples, and ± is the standard "
    note += f"error over images. The window's width is chosen on {config['num_validation']} held-out training images. "
    note += f"Each generator was trained for {config['num_steps']} steps of the optimiser with batches of "
    note += f"{config['batch_size']} images."
    if {"sghmc", "sgld"} & set(config["kernels"]):
        note += f" Samplers take {config['num_sampling_steps']} more steps at T = {config['temperature']:g}, and the "
        note += f"samples of {config['num_draws']} draws are pooled."
    return note


TABLES = [
    Table(
        {"space": "space", "method": "kernel"},
        [
            Column(PARZEN, digits=1), Column(PARZEN, "published", field="paper"), Column("window width"),
            Column("MMD^2", digits=4), Column("loss at the end", digits=3), Column("kinetic temperature / T"),
            Column("configurational temperature / T"), Column("cross-entropy (nats)", digits=1),
        ],
        note=table_note,
    )
]  # fmt: skip
HEADLINE = "gmmn-cpu-mnist", {"measure": PARZEN, "space": "code", "method": "adam"}

WIDTHS = np.arange(5, 41) / 100  # candidate widths of the Parzen window; the authors try 0.10 to 0.29
NUM_COMPARED = 2000  # largest number of samples, and of test images, in the MMD
CODE_BATCH_SIZE, CHUNK_SIZE = 100, 1000  # images per step of the auto-encoder; images coded at once


def split_images(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Returns training, held-out and test images as vectors `[num, pixels]`, and the shape of one image.

    Raises:
      ValueError: if the data are not images, fewer than 2 are test images, or --num-validation is too large.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, test, num_held_out = dataset.train.inputs, dataset.test.inputs, config.num_validation
    require(len(test) > 1, f"--dataset {config.dataset} must have at least 2 test examples")
    require(
        train.ndim == 4 and train.shape[-1] in (1, 3),
        f"--dataset {config.dataset} must be of images [num, height, width, 1 or 3]; got {train.shape}",
    )
    require(num_held_out < len(train), f"--num-validation must be less than the {len(train)} training images")
    order = np.random.default_rng(0).permutation(len(train))  # the same for every --seed
    flat = train.reshape(len(train), -1)[order]
    return flat[num_held_out:], flat[:num_held_out], test.reshape(len(test), -1), train.shape[1:]


def run_stage(
    run: Run, name: str, kernel: kernels.Kernel, rng_key: jax.Array, state: Any, batches: Any, num_steps: int
) -> tuple[Any, Any]:
    """Runs a training stage without keeping draws.

    It has about twenty chunks. They are longer than those of `training.run` by default, so that a GPU waits less often.

    Returns:
      The final state and the `Trace`.
    """
    kernel, options = run.stage(name, kernel)
    options |= {"num_steps": num_steps, "chunk_size": max(1, num_steps // 20)}
    return training.run(rng_key, kernel, state, batches, keep=lambda state: (), **options)


# ---- the auto-encoder


def auto_encoder(config: Config, num_pixels: int) -> AutoEncoder:
    """The auto-encoder, a Flax module; its widths are 784-1024-32-1024-784 in the paper."""
    return AutoEncoder(num_pixels, config.code_features, dropout_rates=config.code_dropout_rates)


def train_code(run: Run, train: np.ndarray) -> dict[str, Any]:
    """Trains the auto-encoder on the cross-entropy of pixels. Returns its `params` and `loss` (nats per image)."""
    config, model = run.config, auto_encoder(run.config, train.shape[1])

    def loss(params: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        rngs = {"dropout": rng_key}
        logits = model.apply({"params": params}, x, deterministic=False, rngs=rngs, method="reconstruct_logits")
        return optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1).mean()

    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed + 1), 4)
    rate = optax.cosine_decay_schedule(config.code_learning_rate, config.num_code_steps)
    kernel = kernels.optimize(loss, optax.adam(rate))
    state = kernel.init(jax.jit(model.init)(init_key, train[:1])["params"], start_key)
    batches = data.Minibatches(data_key, train, CODE_BATCH_SIZE)
    state, trace = run_stage(run, "code", kernel, run_key, state, batches, config.num_code_steps)
    return {"params": state.position, "loss": float(np.mean(trace.info.loss[-100:]))}


def apply_in_chunks(function: Callable, x: np.ndarray) -> np.ndarray:
    """Applies a jitted function to the rows of `x [num, dim]`, CHUNK_SIZE rows at once."""
    filled = np.pad(x, ((0, -len(x) % CHUNK_SIZE), (0, 0)))
    chunks = [np.asarray(function(filled[i : i + CHUNK_SIZE])) for i in range(0, len(filled), CHUNK_SIZE)]
    return np.concatenate(chunks)[: len(x)]


# ---- the generator


def generator(config: Config, dim: int) -> tuple[Callable, Callable]:
    """Returns `init(rng_key)`, and `generate(params, rng_key, num)`: points `[num, dim]` in (0, 1) from noise."""
    model = models.MLP((*config.hidden, dim), kernel_init=fan_in_normal(config.initial_scale))

    def init(rng_key: jax.Array) -> Any:
        return model.init(rng_key, jnp.zeros((1, config.latent_dim)))["params"]

    def generate(params: Any, rng_key: jax.Array, num: int) -> jax.Array:
        logits: Any = model.apply({"params": params}, models.latent_noise(rng_key, num, config.latent_dim))
        return jax.nn.sigmoid(logits)

    return init, generate


def gaussian_kernels(config: Config, space: str) -> divergences.PairKernel:
    """The sum of Gaussian kernels of --variances (data space) or --code-variances (code space)."""
    variances = {"data": config.variances, "code": config.code_variances}[space]
    return divergences.gaussian_kernel([math.sqrt(variance) for variance in variances])


def generator_loss(config: Config, space: str, dim: int) -> Callable:
    """The loss `(params, rng_key, batch) -> sqrt(MMD^2)` between a batch of data and as many samples."""
    _, generate = generator(config, dim)
    kernel = gaussian_kernels(config, space)

    def loss(params: Any, rng_key: jax.Array, batch: jax.Array) -> jax.Array:
        return moment_matching_loss(batch, generate(params, rng_key, len(batch)), kernel)

    return loss


def optimise(run: Run, space: str, name: str, points: np.ndarray) -> dict[str, Any]:
    """Minimises the loss by Adam or SGD. Returns `draws`, the final weights as a single draw, and `losses`."""
    config = run.config
    loss, rate = generator_loss(config, space, points.shape[1]), config.learning_rate
    data_key, init_key, start_key, run_key, late_key = jax.random.split(jax.random.key(config.seed), 5)
    if name == "adam":
        lengths, optimizers = [config.num_steps], [optax.adam(optax.cosine_decay_schedule(rate, config.num_steps))]
    else:
        num_early = round(config.drop_after * config.num_steps)
        lengths = [num_early, config.num_steps - num_early]
        optimizers = [optax.sgd(rate, config.momentum), optax.sgd(rate / 10, 1 - (1 - config.momentum) / 10)]
    movers = [kernels.optimize(loss, optimizer) for optimizer in optimizers]
    batches = data.Minibatches(data_key, points, config.batch_size)
    init, _ = generator(config, points.shape[1])
    state, losses = movers[0].init(jax.jit(init)(init_key), start_key), []
    for suffix, mover, key, num_steps in zip(("", "-late"), movers, (run_key, late_key), lengths, strict=False):
        if num_steps:
            state, trace = run_stage(run, f"{space}-{name}{suffix}", mover, key, state, batches, num_steps)
            losses.append(trace.info.loss)
    draws = jax.tree.map(lambda leaf: leaf[None], state.position)
    return {"draws": draws, "losses": average_pieces(np.concatenate(losses)), "temperatures": {}}


def sample_weights(run: Run, space: str, name: str, points: np.ndarray, start: Any) -> dict[str, Any]:
    """Samples weights by SGHMC or SGLD from `start` on. Returns `draws`, `losses`, and `temperatures` divided by T."""
    config = run.config
    loss = generator_loss(config, space, points.shape[1])

    def loss_with_aux(params: Any, rng_key: jax.Array, batch: jax.Array) -> tuple[jax.Array, dict]:
        value = loss(params, rng_key, batch)
        return value, {"loss": value}

    prior = posteriors.fan_in_gaussian(config.prior_scale)
    log_density = posteriors.from_loss(loss_with_aux, prior, len(points))
    step_size, temperature = config.sampling_learning_rate / len(points), config.temperature
    kernel = kernels.sgld(log_density, step_size=step_size, temperature=temperature)
    if name == "sghmc":
        kernel = kernels.sghmc(log_density, step_size=step_size, temperature=temperature, friction=config.friction)
    data_key, start_key, run_key = jax.random.split(jax.random.key(config.seed + 2), 3)
    thinning = config.num_sampling_steps // (2 * config.num_draws)
    num_burnin = thinning * config.num_draws
    batches = data.Minibatches(data_key, points, config.batch_size)
    kernel, options = run.stage(f"{space}-{name}", kernel)
    _, trace = training.run(
        run_key, kernel, kernel.init(start, start_key), batches, num_steps=2 * num_burnin, num_burnin=num_burnin,
        thinning=thinning, chunk_size=thinning, **options,
    )  # fmt: skip
    info = trace.info._asdict()
    return {
        "draws": trace.draws,
        "losses": np.concatenate([trace.burnin_info.aux["loss"], trace.info.aux["loss"]]),
        "temperatures": {
            kind: float(info[f"{kind}_temperature"].mean()) / config.temperature
            for kind in ("kinetic", "configurational")
            if f"{kind}_temperature" in info
        },
    }


def average_pieces(values: np.ndarray, num: int = 20) -> list[float]:
    """Means of `num` consecutive pieces of `values`, which are equally long to within one."""
    return [float(piece.mean()) for piece in np.array_split(values, min(num, len(values)))]


# ---- evaluation


def generate_images(config: Config, draws: Any, dim: int, decode: Callable) -> np.ndarray:
    """Generates images `[num_samples, pixels]`, equally many with each draw of the weights; the draws alternate."""
    _, generate = generator(config, dim)
    num = len(jax.tree.leaves(draws)[0])
    num_each = -(-config.num_samples // num)
    keys = jax.random.split(jax.random.key(config.seed + 3), num)
    points = jax.jit(lambda draws: jax.lax.map(lambda pair: generate(*pair, num_each), (draws, keys)))(draws)
    images = decode(np.asarray(points).swapaxes(0, 1).reshape(num * num_each, dim))
    return np.asarray(images)[: config.num_samples]


def judge(config: Config, images: np.ndarray, held_out: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Parzen log-likelihood of the test set under `images [num, pixels]`, window width, and unbiased MMD^2."""
    width = likelihood.parzen_scale(images, held_out, WIDTHS.tolist())
    kernel = gaussian_kernels(config, "data")
    mmd = jax.jit(functools.partial(divergences.mmd_squared, kernel=kernel, is_unbiased=True))
    return {
        PARZEN: evaluation.mean_estimate(likelihood.parzen_window(images, test, width)),
        "window width": width,
        "MMD^2": float(mmd(images[:NUM_COMPARED], test[:NUM_COMPARED])),
    }


def nearest(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The training image `[num, pixels]` nearest to each image, by Euclidean distance."""
    distances = (train**2).sum(axis=1) - 2 * images @ train.T
    return train[np.argmin(distances, axis=1)]


def sample_run(config: Config, parts: dict[str, dict], rng_key: jax.Array, num: int) -> dict[str, np.ndarray]:
    """Images of each model of a finished run, for `experiments.sample`."""
    *_, shape = split_images(config)
    num_pixels, made = math.prod(shape), {}
    for space in config.spaces:
        dim, decode = num_pixels, lambda points: points
        if space == "code":
            dim, variables = config.code_features[-1], {"params": parts["code"]["params"]}
            decode = functools.partial(auto_encoder(config, num_pixels).apply, variables, method="decode")
        _, generate = generator(config, dim)
        for name in (f"{space}-{kernel}" for kernel in config.kernels):
            points = evaluation.sample_mixture(generate, parts[name]["draws"], rng_key, num)
            made[name] = np.asarray(decode(points)).reshape(num, *shape)
    return made


def main(config: Config) -> None:
    """Trains or samples every model and evaluates it; writes the figures and the results."""
    with Run("gmmn", config, one_device=True) as run:
        train, held_out, test, shape = split_images(config)
        rows, images, curves = [], {}, {}

        def judge_images(name: str, images: np.ndarray, method: str, space: str | None = None) -> None:
            measures = run.part(name, functools.partial(judge, config, images, held_out, test))
            paper = PUBLISHED[space] if space and config.dataset == "mnist" else None
            keys: dict[str, Any] = {"method": method, "space": space}
            source = SOURCE if paper else None
            rows.append(row(PARZEN, **measures.pop(PARZEN), **keys, paper=paper, source=source))
            rows.extend(row(measure, value, **keys) for measure, value in measures.items())

        judge_images("training-images", train[: config.num_samples], "training images")
        for space in config.spaces:
            points, decode = train, np.asarray
            if space == "code":
                code = run.part("code", functools.partial(train_code, run, train))
                rows.append(row("cross-entropy (nats)", code["loss"], method="auto-encoder"))
                apply = functools.partial(auto_encoder(config, train.shape[1]).apply, {"params": code["params"]})
                points = apply_in_chunks(jax.jit(functools.partial(apply, method="encode")), train)
                decode = functools.partial(apply_in_chunks, jax.jit(functools.partial(apply, method="decode")))
            for name in config.kernels:
                compute = functools.partial(optimise, run, space, name, points)
                if name in ("sghmc", "sgld"):
                    warm_up = functools.partial(optimise, run, space, config.warmup_kernel, points)
                    draws = run.part(f"{space}-{config.warmup_kernel}", warm_up)["draws"]
                    start = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), draws)
                    compute = functools.partial(sample_weights, run, space, name, points, start)
                model = run.part(f"{space}-{name}", compute)
                samples = generate_images(config, model["draws"], points.shape[1], decode)
                judge_images(f"{space}-{name}-judged", samples, name, space)
                rows.append(row("loss at the end", model["losses"][-1], method=name, space=space))
                for kind, ratio in model["temperatures"].items():
                    rows.append(row(f"{kind} temperature / T", ratio, method=name, space=space))
                images[f"{space}, {name}"] = samples[:NUM_SHOWN]
                images[f"nearest to {space}, {name}"] = nearest(samples[:NUM_SHOWN], train)
                losses = np.asarray(model["losses"], float)
                curves[f"{space}, {name}"] = np.linspace(0, 1, len(losses)), losses
        grid = np.stack(list(images.values())).reshape(len(images), NUM_SHOWN, *shape)
        names = [name if "nearest" not in name else "nearest" for name in images]
        plots.image_grid(run.figure("samples.png"), grid, row_names=names)
        plots.curves(run.figure("loss.png"), curves, xlabel="fraction of the steps", ylabel="sqrt(MMD^2)")
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
