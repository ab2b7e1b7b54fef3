"""Flags, data, training and tables that `progressive_gan.py` and `stylegan.py` share, so that they form one ablation.

    AblationConfig          flags of the data, the networks' sizes, the penalty and the evaluation
    Padded, load            images with edges, so that networks can halve them, and the judge of images without edges
    lazy_r1                 the R1 penalty of a discriminator that compares the images of a batch
    Space, play             codes of images, and the training and evaluation of one method with one seed
    play_all, result_rows, draw_grid, TABLES     results and figures of all methods and seeds

All methods are trained with the same loss and on the same number of images. The stages of a game and its kernels are in
`games.py`, and the judge is in `judge.py`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, kernels, models, plots, training
from bayesjax.evaluation.latent_space import Interpolation
from bayesjax.objectives import regularisation
from bayesjax.types import Array, Carried, Given, Params, PRNGKey
from experiments.harness import Column, Count, Natural, NonEmpty, NonNegative, Range, Run, Table, require, row
from experiments.shared import games, images

NUM_COLUMNS = 10  # images in a row of a figure
NUM_MOMENTS = 8  # largest number of rows in a figure of a training in one stage
CHUNK_SIZE = 250  # images that are generated at once


@dataclass(frozen=True)
class AblationConfig(games.PairConfig):
    """Flags of experiments with the progressive GAN and its successors."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file. They get
    black edges until the networks can halve height and width often enough, so 28 pixels become 32."""
    judge: str = ""
    """Data set whose classifier evaluates generated images; empty means --dataset, and `none` omits the evaluation."""
    num_seeds: Count = 1
    """Number of games of each method; their random seeds are --seed, --seed + 1, ..."""
    latent_dim: Count = 64
    """Dimension of the generator's noise, which is standard normal."""
    features: Annotated[tuple[Count, ...], NonEmpty] = (64, 64, 32, 16)
    """Number of channels at each size of the images, the smallest first; each size is twice the one before."""
    r1_penalty: NonNegative = 1.0
    """Weight gamma of the R1 penalty, gamma / 2 |grad D(x)|^2 at real images x."""
    r1_interval: Count = 16
    """Interval, in steps of Adam, between evaluations of the R1 penalty, which is multiplied by this number. A sampler
    evaluates the penalty in every step."""
    num_judged: Annotated[int, Range(least=12)] = 10_000
    """Number of generated images that are evaluated."""
    num_paths: Annotated[int, Range(least=2)] = 1000
    """Number of interpolations whose perceptual path length is measured."""
    num_validation: Natural = 0
    """Number of training images, 0 or at least 12, that replace the test images, so that settings are chosen without
    the test images. The judge has seen them, so distances to them are not those to test images."""


# ---- data


@dataclass(frozen=True)
class Padded:
    """Images in (-1, 1) with black edges, and the judge of the images without them.

    Attributes:
      subject: the images without edges and their judge.
      train: training images with edges, `[num, height, width, channels]`.
      window: rows and columns of the images without edges.
    """

    subject: images.Images
    train: np.ndarray
    window: tuple[slice, slice]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image with edges."""
        return self.train.shape[1:]

    def crop(self, x: Any) -> Any:
        """Images `[..., height, width, channels]` without edges, with pixels clipped to [-1, 1]."""
        return x[..., *self.window, :].clip(-1, 1)

    def features(self, x: Array) -> Array:
        """The judge's features of one image with edges."""
        assert self.subject.classifier is not None
        return self.subject.classifier.features((self.crop(x)[None] + 1) / 2)[0]


def load(config: AblationConfig) -> Padded:
    """Loads the images and their judge, and pads the images so that they have a size for each of --features."""
    num = config.num_validation
    require(num == 0 or num >= 12, f"--num-validation must be 0 or at least 12; got {num}")
    subject = images.load(config, num)
    factor, (height, width) = 2 ** (len(config.features) - 1), subject.train.inputs.shape[1:3]
    edges = [divmod(-size % factor, 2) for size in (height, width)]
    before_and_after = [(half, half + odd) for half, odd in edges]
    train = np.pad(subject.train.inputs, [(0, 0), *before_and_after, (0, 0)], constant_values=-1)
    (top, _), (left, _) = before_and_after
    return Padded(subject, train, (slice(top, top + height), slice(left, left + width)))


# ---- losses


def unpack(batch: Given | Carried) -> tuple[Given, dict[str, Array] | None]:
    """The data with the other player's position, and the carry of a loss under Adam, which is None under a sampler."""
    return (batch.batch, batch.carry) if isinstance(batch, Carried) else (batch, None)


def next_carry(carry: Mapping[str, Array] | None, **values: Array) -> dict[str, Any]:
    """The aux entry "carry" of a loss: the carry of the next step with new `values`, or an empty dict for samplers."""
    return {} if carry is None else {"carry": {**carry, "step": carry["step"] + 1, **values}}


def first_carry(**values: float) -> dict[str, Array]:
    """The carry of a loss before its first step."""
    return {"step": jnp.zeros((), jnp.int32), **{name: jnp.float32(value) for name, value in values.items()}}


def lazy_r1(
    config: AblationConfig, discriminate: Callable[[Array], Array], real: Array, carry: Mapping[str, Array] | None
) -> Array:
    """The weighted R1 penalty of a batch, in every step of a sampler and in every --r1-interval-th step of Adam."""

    def penalty() -> Array:
        return config.r1_penalty * regularisation.batch_r1_penalty(discriminate, real).mean()

    if carry is None:
        return penalty()
    return regularisation.lazy_penalty(penalty, carry["step"], config.r1_interval)[0]


# ---- training and evaluation


class Space(NamedTuple):
    """Codes of images, between which the perceptual path length is measured.

    Attributes:
      encode: `(the generator's params, noise [num, latent_dim]) -> codes [num, ...]`.
      decode: `(the generator's params, rng_key, codes [num, ...]) -> images [num, ...]`.
      interpolation: path from one code to another.
    """

    encode: Callable[[Params, Array], Array]
    decode: Callable[[Params, PRNGKey, Array], Array]
    interpolation: Interpolation


def shown_noise(config: AblationConfig) -> Array:
    """The noise of the images in figures, the same for all methods and seeds."""
    return models.latent_noise(jax.random.key(0), NUM_COLUMNS, config.latent_dim, "normal")


def judge_images(
    config: AblationConfig, padded: Padded, space: Space, kinds: Mapping[str, Params], rng_key: PRNGKey
) -> dict[str, dict[str, dict]]:
    """The judge's report on images of all draws of each kind of weights, `{kind: {measure: entries of a row}}`."""
    if padded.subject.classifier is None:
        return {kind: {} for kind in kinds}

    def generate(rng_key: PRNGKey, params: Params, num: int) -> Array:
        noise_key, image_key = jax.random.split(rng_key)
        noise = models.latent_noise(noise_key, num, config.latent_dim, "normal")
        return padded.crop(space.decode(params, image_key, noise))

    def in_chunks(params: Params, rng_key: PRNGKey, num: int) -> Array:
        size = min(CHUNK_SIZE, num)
        keys = jax.random.split(rng_key, -(-num // size))
        chunks = jax.lax.map(lambda key: generate(key, params, size), keys)
        return chunks.reshape(-1, *chunks.shape[2:])[:num]

    samples = {
        kind: evaluation.sample_mixture(in_chunks, draws, rng_key, config.num_judged) for kind, draws in kinds.items()
    }
    return {kind: padded.subject.report(each)[1] for kind, each in samples.items()}


def path_lengths(
    config: AblationConfig, padded: Padded, spaces: Mapping[str, Space], params: Params, rng_key: PRNGKey
) -> dict[str, dict]:
    """Perceptual path lengths of one generator in each space, `{measure: entries of a row}`."""
    if padded.subject.classifier is None:
        return {}
    code_key, path_key = jax.random.split(rng_key)
    report, noise = {}, models.latent_noise(code_key, 2 * config.num_paths, config.latent_dim, "normal")
    for name, space in spaces.items():

        def features(params: Params, rng_key: PRNGKey, code: Array, space: Space = space) -> Array:
            return padded.features(space.decode(params, rng_key, code[None])[0])

        starts, ends = jnp.split(jax.jit(space.encode)(params, noise), 2)
        length = evaluation.perceptual_path_length(
            features, params, path_key, starts, ends, interpolation=space.interpolation
        )
        report[f"PPL {name}"] = {"value": length.value, "stderr": length.stderr}
    return report


def continue_average(stage: games.Stage, before: Any) -> games.Stage:
    """Lets a stage start with the generator's moving average of the state `before`; the rest of its state is new."""

    def init(position: dict[str, Params], rng_key: PRNGKey) -> Any:
        state, old = stage.kernel.init(position, rng_key), before.players["generator"]
        generator = state.players["generator"]._replace(step=old.step, average=old.average)
        return state._replace(players={**state.players, "generator": generator})

    return stage._replace(kernel=stage.kernel._replace(init=init))


def batch_after(batches: Callable[[Array], Array], first: int, step: Array) -> Array:
    """The batch of a step of a stage that starts with the batch of number `first`."""
    return batches(first + step)


def generators_of(stage: games.Stage, state: Any) -> dict[str, Params]:
    """The generator's weights by kind: "draws" of a sampler, or "last" of Adam and "average" if there is an average."""
    player = state.players["generator"]
    if isinstance(player, kernels.AveragingState):
        return {"average": player.average, "last": player.position}
    return {"draws" if stage.is_sampler else "last": player.position}


def train(
    run: Run, name: str, stages: Sequence[games.Stage], position: dict[str, Params], batches: Callable, *,
    rng_key: PRNGKey, show: Callable[[str, Params], Array],
) -> tuple[dict[str, Params], dict[str, np.ndarray], float | None]:  # fmt: skip
    """Runs stages in turn. Each has the next minibatches and new moments of Adam, but continues the moving average.

    Args:
      run, name: the run that records the stages, and the game's name.
      stages: the stages.
      position, batches: the initial position of all players, and the function `step -> minibatches`.
      rng_key: random key.
      show: `(name of a stage, the generator's params) -> images [num, ...]`.

    Returns:
      The generator's weights by kind, with a leading axis of draws; images by the name of the stage that ends with
      them, or by step if there is only one stage; and the milliseconds per step.
    """

    def keep(stage: games.Stage, state: Any) -> tuple[Array, Params]:
        params = next(iter(generators_of(stage, state).values()))
        return show(stage.name, params), params if stage.is_sampler else ()

    past, state, traces = 0, None, []
    for i, stage in enumerate(stages):
        if isinstance(state, kernels.AlternateState) and not stages[-1].is_sampler:
            stage = continue_average(stage, state)
        ((state, trace),) = games.run_stages(
            run, name, [stage], position, jax.tree_util.Partial(batch_after, batches, past),
            rng_keys=[jax.random.fold_in(rng_key, i)], keep=keep,
        )  # fmt: skip
        position, past = training.fetch(state.position), past + stage.num_steps
        traces.append(trace)
    images = [trace.draws[0] for trace in traces]
    shown = {stage.name.replace("-", " "): each[-1] for stage, each in zip(stages, images, strict=True)}
    if len(stages) == 1:
        moments = evaluation.evenly_spaced(len(images[0]), NUM_MOMENTS)
        shown = {f"step {stages[0].thinning * (moment + 1)}": images[0][moment] for moment in moments}
    if stages[-1].is_sampler:
        kinds = {"draws": traces[-1].draws[1]}
    else:
        kinds = jax.tree.map(lambda leaf: np.asarray(leaf)[None], training.fetch(generators_of(stages[-1], state)))
    return kinds, shown, games.timings(traces)["ms per step"]


def play(
    run: Run, name: str, seed: int, config: AblationConfig, padded: Padded, *,
    init: Callable[[PRNGKey], dict[str, Params]], spaces: Mapping[str, Space], stages: Sequence[games.Stage],
    show_small: Mapping[str, Callable[[Params], Array]] | None = None,
) -> tuple[dict[str, Any], Params]:  # fmt: skip
    """Trains the networks of one method with one seed, and evaluates the generator.

    Args:
      run, name, seed: the run, the method's name and the random seed.
      config: the flags, with the method's own values.
      padded: the data and their judge.
      init: `rng_key -> {player: params}`.
      spaces: codes of images: noise "z" and perhaps styles "w".
      stages: the stages of the training.
      show_small: functions `the generator's params -> images` by the name of the stages whose networks are smaller.

    Returns:
      A dict of `measures`, `{kind of weights: {measure: entries of a row}}` with path lengths for the first kind only;
      `training`, images by stage or step; and `generators`, the weights of the first kind, `[num_draws, ...]`. The
      second value is the generator's averaged weights, or its last draw.
    """
    data_key, init_key, noise_key, run_key, sample_key = jax.random.split(jax.random.key(seed), 5)

    def show(stage_name: str, params: Params) -> Array:
        if show_small and stage_name in show_small:
            return show_small[stage_name](params)
        return spaces["z"].decode(params, noise_key, shown_noise(config))

    kinds, shown, milliseconds = train(
        run, f"{name}-seed{seed}", stages, jax.jit(init)(init_key),
        games.minibatches(config, data_key, padded.train), rng_key=run_key, show=show,
    )  # fmt: skip
    num_steps = sum(stage.num_steps for stage in stages)
    minutes = None if milliseconds is None else milliseconds * num_steps / 6e4
    image_key, path_key = jax.random.split(sample_key)
    measures = judge_images(config, padded, spaces["z"], kinds, image_key)
    first = next(iter(kinds))
    last_draw = jax.tree.map(lambda leaf: leaf[-1], kinds[first])
    measures[first] |= path_lengths(config, padded, spaces, last_draw, path_key)
    for kind in kinds:
        measures[kind] |= {"ms per step": {"value": milliseconds}, "minutes": {"value": minutes}}
    return {"measures": measures, "training": shown, "generators": kinds[first]}, last_draw


# ---- results


def play_all(run: Run, play: Callable[[Any, int], dict[str, Any]]) -> dict[str, list[dict]]:
    """The results of `play(method, seed)` for all methods and seeds, each a part of the run."""
    return {
        method: [
            run.part(f"{method}-seed{seed}", functools.partial(play, method, seed))
            for seed in range(run.config.seed, run.config.seed + run.config.num_seeds)
        ]
        for method in run.config.methods
    }


def sample_all(
    config: Any, parts: Mapping[str, dict], rng_key: PRNGKey, num: int,
    decoder: Callable[[Any, tuple[int, ...]], Callable[[Params, PRNGKey, Array], Array]],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Samples in [0, 1] of every method and seed of a finished run.

    Args:
      config, parts: those of `harness.read_run`.
      rng_key: random key.
      num: number of samples of each generator.
      decoder: `(method, shape of an image) -> (params, rng_key, z) -> images in (-1, 1)`.
    """
    made = {}
    for method in config.methods:
        for name in (f"{method}-seed{seed}" for seed in range(config.seed, config.seed + config.num_seeds)):
            shape = next(iter(parts[name]["training"].values())).shape[1:]
            decode = decoder(method, shape)

            def generate(params: Params, rng_key: PRNGKey, num: int, decode: Callable = decode) -> Array:
                z_key, noise_key = jax.random.split(rng_key)
                return decode(params, noise_key, models.latent_noise(z_key, num, config.latent_dim, "normal"))

            made[name] = (evaluation.sample_mixture(generate, parts[name]["generators"], rng_key, num) + 1) / 2
    return made


def draw_grid(run: Run, name: str, rows: Mapping[str, np.ndarray]) -> None:
    """Plots rows of images in (-1, 1), with their names."""
    pictures = (np.stack([*rows.values()]) + 1) / 2
    plots.image_grid(run.figure(f"{name}.png"), pictures, row_names=list(rows))


def result_rows(padded: Padded, results: Mapping[str, Sequence[dict]]) -> list[dict]:
    """Result rows of training images and of all methods, as means over the seeds; `results` is that of `play_all`."""
    rows = [row(name, **entry, method="training images", kernel="-")
            for name, entry in padded.subject.training_report.items()]  # fmt: skip
    for method, of_seeds in results.items():
        for kind, measures in of_seeds[0]["measures"].items():
            for name, entry in measures.items():
                values = [each["measures"][kind][name]["value"] for each in of_seeds]
                if len(values) > 1 and None not in values:
                    entry = {"value": None, **evaluation.mean_estimate(values)._asdict(), "values": values}
                rows.append(row(name, **entry, method=method, weights=kind))
    return rows


def note(config: dict) -> str:
    """The note below the table on the training."""
    games_of = f"{config['num_seeds']} games" if config["num_seeds"] > 1 else "One game"
    verb = "were" if config["num_seeds"] > 1 else "was"
    num_images = config["num_steps"] * config["discriminator_steps"] * config["batch_size"]
    return (
        f"{games_of} of each method {verb} trained with at most {num_images} real images in batches of "
        f"{config['batch_size']}, and evaluated with {config['num_judged']} generated images."
    )


TABLES = [
    Table(
        {"method": "method", "kernel": "kernel", "weights": "weights"},
        [
            Column("FCD"), Column("KCD", digits=4),
            *(Column(name, digits=3) for name in ("precision", "recall", "coverage")),
            Column("PPL z", digits=".3g"), Column("PPL w", digits=".3g"),
            Column("ms per step", "ms a step", 0), Column("minutes", digits=1),
        ],
        note=note,
    )
]  # fmt: skip
