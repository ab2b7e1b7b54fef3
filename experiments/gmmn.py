"""Generative moment matching networks, in data space and in the code space of an auto-encoder; also Bayesian ones.

Paper: Li, Swersky & Zemel, "Generative moment matching networks", ICML 2015 (table 1, figures 2 to 4).

    python -m experiments.gmmn                        quick: digits, by Adam and by SGHMC: under a minute
    python -m experiments.gmmn --preset paper         MNIST, 40000 steps of SGD with momentum: minutes on a GPU
    python -m experiments.gmmn --preset bayes         the same, then SGHMC and SGLD from its end: for a GPU, too
    python -m experiments.gmmn --preset cpu           MNIST, 1000 steps of Adam on 500 images: minutes on one core

A generator of uniform noise minimises sqrt(MMD^2) between a batch of samples and one of data (objectives.
moment_matching); no discriminator. In code space data are the codes of an auto-encoder that was trained before, and
samples are decoded. A sampler in place of the optimiser (--kernel sghmc, sgld) starts at the optimiser's end and draws
weights from exp(-N loss(w)) prior(w); draws are kept and their samples mixed.

Judged as in the literature, though poorly (Theis, van den Oord & Bethge, ICLR 2016): the log-likelihood of the test set
under a Parzen window of --num-samples samples, whose width is chosen on --num-validation training images held out from
everything. The same of as many training images stands beside it, and the unbiased MMD^2 between samples and test set.

Expected (paper preset, MNIST): GMMN 147 +- 2 nats, GMMN+AE 282 +- 2 (Li et al. 2015). As in the authors' program the
kernel's six numbers are variances (one of 1 in code space), and sgd's rate of 2 is a tenth from step 10000 on, its
momentum 0.99; but the first weights are N(0, 1 / fan-in) where theirs are N(0, 0.1 / fan-in), from which the code space
stays on a plateau for thousands of steps. (cpu preset): 49 and 210; training images themselves have 244.
"""

from experiments import common
from experiments.gmmn_flags import PRESETS

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, divergences, evaluation, kernels, models, plots, posteriors, training
from bayesjax.evaluation import likelihood
from bayesjax.models.autoencoder import AutoEncoder
from bayesjax.models.initializers import fan_in_normal
from bayesjax.objectives.moment_matching import moment_matching_loss
from experiments import gmmn_flags, parts, tables
from experiments.gmmn_flags import SAMPLERS, Config

PUBLISHED = {"data": 147.0, "code": 282.0}  # nats, +- 2
SOURCE = "Li, Swersky & Zemel 2015, table 1"
WIDTHS = np.arange(5, 41) / 100  # of the Parzen window; the authors have 0.10 to 0.29
NUM_COMPARED, NUM_SHOWN = 2000, 14  # test images of the MMD; samples in the figure


def splits(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Training, held-out and test images, flat, `[num, pixels]`; the shape of one."""
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, test, held = dataset.train.inputs, dataset.test.inputs, config.num_validation
    common.require(len(test) > 1, f"--dataset {config.dataset} must have at least 2 test examples")
    common.require(
        train.ndim == 4 and train.shape[-1] in (1, 3),
        f"--dataset {config.dataset} must be of images [num, height, width, 1 or 3]; got {train.shape}",
    )
    common.require(held < len(train), f"--num-validation must be less than the {len(train)} training images")
    order = np.random.default_rng(0).permutation(len(train))  # the same at every seed
    flat = train.reshape(len(train), -1)[order]
    return flat[held:], flat[:held], test.reshape(len(test), -1), train.shape[1:]


def stage_of(run: common.Experiment, name: str, num_steps: int) -> dict[str, Any]:
    """What every run here is given: few looks at it, so that a GPU need not wait for the host."""
    return {"num_steps": num_steps, "chunk_size": max(1, num_steps // 20), **run.stage(name)}


# ---- the code


def auto_encoder(config: Config, num_pixels: int) -> AutoEncoder:
    """784-1024-32-1024-784 in the paper."""
    return AutoEncoder(num_pixels, config.code_features, dropout_rates=config.code_dropout)


def train_code(run: common.Experiment, train: np.ndarray) -> dict[str, float]:
    """Trains the auto-encoder by the cross-entropy of its pixels, in nats; leaves its parameters in `parts/`."""
    config = run.config
    model = auto_encoder(config, train.shape[1])

    def loss(params: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        logits = model.apply(
            {"params": params}, x, deterministic=False, rngs={"dropout": rng_key}, method="reconstruct_logits"
        )
        return optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1).mean()

    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed + 1), 4)
    kernel = kernels.optimize(loss, optax.adam(optax.cosine_decay_schedule(config.code_rate, config.code_steps)))
    state = kernel.init(jax.jit(model.init)(init_key, train[:1])["params"], start_key)
    batches = data.Minibatches(data_key, train, 100)
    state, trace = training.run(
        run_key, kernel, state, batches, keep=lambda state: (), **stage_of(run, "code", config.code_steps)
    )
    parts.save(run, "code", state.position)
    return {"loss": float(np.mean(trace.info.loss[-100:]))}


def in_batches(function: Callable, x: np.ndarray) -> np.ndarray:
    """A jitted function of rows, 1000 at a time."""
    filled = np.pad(x, ((0, -len(x) % 1000), (0, 0)))
    return np.concatenate([np.asarray(function(filled[i : i + 1000])) for i in range(0, len(filled), 1000)])[: len(x)]


def space_of(run: common.Experiment, space: str, train: np.ndarray) -> tuple[np.ndarray, Callable]:
    """The training data as the space has them, and what makes images of its points."""
    if space == "data":
        return train, lambda x: x
    model, params = auto_encoder(run.config, train.shape[1]), parts.load(run, "code")
    encode, decode = (
        jax.jit(functools.partial(model.apply, {"params": params}, method=name)) for name in ("encode", "decode")
    )
    return in_batches(encode, train), functools.partial(in_batches, decode)


# ---- the generator


def generator(config: Config, dim: int) -> tuple[Callable, Callable]:
    """`init(rng_key)` and `generate(params, rng_key, num)`: points in (0, 1)^dim of uniform noise."""
    model = models.MLP((*config.hidden, dim), kernel_init=fan_in_normal(config.init_scale))

    def init(rng_key: jax.Array) -> Any:
        return model.init(rng_key, jnp.zeros((1, config.latent_dim)))["params"]

    def generate(params: Any, rng_key: jax.Array, num: int) -> jax.Array:
        logits: Any = model.apply({"params": params}, models.latent_noise(rng_key, num, config.latent_dim))
        return jax.nn.sigmoid(logits)

    return init, generate


def kernel_of_pairs(config: Config, space: str) -> divergences.PairKernel:
    """The sum of Gaussian kernels in which moments are matched."""
    variances = {"data": config.variances, "code": config.code_variances}[space]
    return divergences.gaussian_kernel([math.sqrt(variance) for variance in variances])


def loss_of(config: Config, space: str, dim: int) -> Callable:
    """sqrt(MMD^2) of a batch of data and as many samples."""
    _, generate = generator(config, dim)
    kernel = kernel_of_pairs(config, space)

    def loss(params: Any, rng_key: jax.Array, batch: jax.Array) -> jax.Array:
        return moment_matching_loss(batch, generate(params, rng_key, len(batch)), kernel)

    return loss


def optimise(run: common.Experiment, space: str, name: str, points: np.ndarray) -> dict[str, list]:
    """Minimises the loss by Adam or SGD; leaves the one draw of weights in `parts/`. The loss along the way."""
    config = run.config
    loss, rate = loss_of(config, space, points.shape[1]), config.learning_rate
    data_key, init_key, start_key, run_key, late_key = jax.random.split(jax.random.key(config.seed), 5)
    num_first = round(config.drop_after * config.num_steps) if name == "sgd" else config.num_steps
    if name == "adam":
        movers = [kernels.optimize(loss, optax.adam(optax.cosine_decay_schedule(rate, config.num_steps)))]
    else:
        late = 1 - (1 - config.momentum) / 10
        movers = [kernels.optimize(loss, optax.sgd(*how)) for how in ((rate, config.momentum), (rate / 10, late))]
    batches = data.Minibatches(data_key, points, config.batch_size)
    init, _ = generator(config, points.shape[1])
    state, losses = movers[0].init(jax.jit(init)(init_key), start_key), []
    lengths, keys = (num_first, config.num_steps - num_first), (run_key, late_key)
    for i, (mover, key, length) in enumerate(zip(movers, keys, lengths, strict=False)):
        if length:
            stage = stage_of(run, f"{space}-{name}" + "-late" * i, length)
            state, trace = training.run(key, mover, state, batches, keep=lambda state: (), **stage)
            losses.append(trace.info.loss)
    parts.save(run, f"{space}-{name}", jax.tree.map(lambda leaf: leaf[None], state.position))
    return {"loss": binned(np.concatenate(losses))}


def sample(run: common.Experiment, space: str, name: str, points: np.ndarray) -> dict[str, Any]:
    """Draws weights from where the optimiser ended; leaves them in `parts/`. The loss along the way, temperatures."""
    config = run.config
    run.cached(f"{space}-{config.warmup}", functools.partial(optimise, run, space, config.warmup, points))
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), parts.load(run, f"{space}-{config.warmup}"))
    loss = loss_of(config, space, points.shape[1])

    def shown(params: Any, rng_key: jax.Array, batch: jax.Array) -> tuple[jax.Array, dict]:
        value = loss(params, rng_key, batch)
        return value, {"loss": value}

    density = posteriors.from_loss(shown, posteriors.fan_in_gaussian(config.prior_scale), len(points))
    how = {"step_size": config.sampling_rate / len(points), "temperature": config.temperature}
    mover = kernels.sghmc(density, friction=config.friction, **how) if name == "sghmc" else kernels.sgld(density, **how)
    data_key, start_key, run_key = jax.random.split(jax.random.key(config.seed + 2), 3)
    thinning = config.sampling_steps // (2 * config.num_draws)
    num_steps = 2 * thinning * config.num_draws
    batches = data.Minibatches(data_key, points, config.batch_size)
    _, trace = training.run(
        run_key, mover, mover.init(start, start_key), batches, num_steps=num_steps, num_burnin=num_steps // 2,
        thinning=thinning, chunk_size=thinning, **run.stage(f"{space}-{name}"),
    )  # fmt: skip
    parts.save(run, f"{space}-{name}", trace.draws)
    infos, late = trace.info._asdict(), {}
    for kind in ("kinetic", "configurational"):
        if f"{kind}_temperature" in infos:
            late[kind] = float(infos[f"{kind}_temperature"].mean()) / config.temperature
    losses = np.concatenate([trace.burnin_info.aux["loss"], trace.info.aux["loss"]])
    return {"loss": np.asarray(losses, float).tolist(), "temperatures": late}


def binned(values: np.ndarray, num: int = 20) -> list[float]:
    """Means of equal pieces."""
    return [float(piece.mean()) for piece in np.array_split(values, min(num, len(values)))]


# ---- what is to be said of a model


def samples_of(run: common.Experiment, space: str, name: str, dim: int, decode: Callable) -> np.ndarray:
    """Images `[num_samples, pixels]`, as many of each draw of the weights; the draws in turns."""
    config, draws = run.config, parts.load(run, f"{space}-{name}")
    _, generate = generator(config, dim)
    num = len(jax.tree.leaves(draws)[0])
    each = -(-config.num_samples // num)
    keys = jax.random.split(jax.random.key(config.seed + 3), num)
    made = jax.jit(lambda draws: jax.lax.map(lambda pair: generate(*pair, each), (draws, keys)))(draws)
    return np.asarray(decode(np.asarray(made).swapaxes(0, 1).reshape(num * each, dim)))[: config.num_samples]


def judged(config: Config, images: np.ndarray, held: np.ndarray, test: np.ndarray) -> dict[str, dict]:
    """Parzen log-likelihood of the test set, its window's width, and the unbiased MMD^2 to the test set."""
    width = likelihood.parzen_scale(images, held, WIDTHS.tolist())
    pair_kernel = kernel_of_pairs(config, "data")
    mmd = jax.jit(functools.partial(divergences.mmd_squared, kernel=pair_kernel, is_unbiased=True))
    return {
        "log-likelihood": evaluation.mean_estimate(likelihood.parzen_window(images, test, width))._asdict(),
        "width": {"value": width},
        "MMD^2": {"value": float(mmd(images[:NUM_COMPARED], test[:NUM_COMPARED]))},
    }


def nearest(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The training image next to each of some images, by Euclidean distance."""
    distances = (train**2).sum(axis=1) - 2 * images @ train.T
    return train[np.argmin(distances, axis=1)]


def main(config: Config) -> None:
    """Trains every model, draws from the samplers, judges; writes table, figures and results."""
    with common.Experiment("gmmn", config) as run:
        gmmn_flags.check(config)
        common.require_at_least(config, NUM_SHOWN, "num_samples")
        train, held, test, shape = splits(config)
        metrics: dict[str, dict] = {}
        found = run.cached("training-images", lambda: judged(config, train[: config.num_samples], held, test))
        metrics |= {f"training images {what}": entry for what, entry in found.items()}
        rows, curves = {}, {}
        for space in config.space:
            if space == "code":
                found = run.cached("code", functools.partial(train_code, run, train))
                metrics["auto-encoder cross-entropy"] = {"value": found["loss"]}
            points, decode = space_of(run, space, train)
            for name in config.kernel:
                move = sample if name in SAMPLERS else optimise
                found = run.cached(f"{space}-{name}", functools.partial(move, run, space, name, points))
                images = samples_of(run, space, name, points.shape[1], decode)
                said = run.cached(f"{space}-{name}-judged", functools.partial(judged, config, images, held, test))
                if common.slug(config.dataset) == "mnist":
                    said["log-likelihood"] |= {"paper": PUBLISHED[space], "source": SOURCE}
                metrics |= {f"{space} {name} {what}": entry for what, entry in said.items()}
                metrics[f"{space} {name} loss"] = {"value": found["loss"][-1]}
                for kind, ratio in found.get("temperatures", {}).items():
                    metrics[f"{space} {name} {kind} temperature / T"] = {"value": ratio}
                rows[f"{space}, {name}"] = images[:NUM_SHOWN]
                rows[f"nearest to {space}, {name}"] = nearest(images[:NUM_SHOWN], train)
                curves[f"{space}, {name}"] = np.linspace(0, 1, len(found["loss"])), np.array(found["loss"])
        pictures = np.stack(list(rows.values())).reshape(len(rows), NUM_SHOWN, *shape)
        names = [name if "nearest" not in name else "nearest" for name in rows]
        plots.image_grid(run.out / "figures" / "samples.png", pictures, row_names=names)
        plots.curves(run.out / "figures" / "loss.png", curves, xlabel="share of the steps", ylabel="sqrt(MMD^2)")
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
