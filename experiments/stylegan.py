"""StyleGAN and StyleGAN2: generators whose layers are controlled by styles, with path lengths and style mixing.

Papers: Karras, Laine & Aila, "A style-based generator architecture for generative adversarial networks", CVPR 2019;
Karras, Laine, Aittala, Hellsten, Lehtinen & Aila, "Analyzing and improving the image quality of StyleGAN", CVPR 2020.

    python -m experiments.stylegan                           quick: stylegan2, digits of 8 pixels, a minute
    python -m experiments.stylegan --preset mnist            MNIST of 32 pixels; fashion: Fashion-MNIST
    python -m experiments.stylegan --preset mnist_long       two methods with four times the images
    python -m experiments.stylegan --preset cifar10_small    two methods on CIFAR-10; cifar10: all, for a GPU

Methods:
    stylegan       mapping network, adaptive instance normalisation and noise; the progressive GAN's discriminator
    stylegan2      modulated convolutions, a generator that adds up images of all sizes, and a residual discriminator
    path_length    stylegan2 with a penalty on the generator's path lengths, which is evaluated lazily
    mixing         path_length with style mixing: most batches have one style in coarse and another in fine layers

The loss is non-saturating with a lazy R1 penalty. The networks do not grow. Data, sizes, numbers of images and measures
are those of `progressive_gan.py`, so that both tables form one ablation. Rows with the weights "last" evaluate the
generator's last weights instead of their moving average. The perceptual path length is measured between noise vectors z
and between styles w, in the features of a classifier (`shared/judge.py`). The influence of a group of layers is the
squared change of an image's features when these layers have the style of another image, relative to a change of all
styles.

With --kernel sghmc or sgld, the penalties are evaluated in every step, and the mean path length is that of the batch,
because a density has no state.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, models
from bayesjax.models import progressive, stylegan, stylegan2
from bayesjax.objectives import adversarial, regularisation
from bayesjax.types import Array, Carried, Density, Given, Params, PRNGKey
from experiments.harness import Column, Count, Natural, NonNegative, Positive, Run, Table, cli, row
from experiments.shared import ablation, games

Method = Literal["stylegan", "stylegan2", "path_length", "mixing"]
GAME = adversarial.NON_SATURATING
PSIS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.3)  # truncations in a figure
NUM_NOISES = 16  # draws of the noise behind the standard deviations in a figure
NUM_PATHS = 3  # interpolations in a figure
NUM_MIXED = 2  # images in the mixing figure that take styles from others


@dataclass(frozen=True)
class Config(ablation.AblationConfig):
    """Flags of experiments.stylegan."""

    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above defines them."""
    style_dim: Count = 64
    """Dimension of a style, and number of units of each layer of the mapping network."""
    mapping_depth: Natural = 8
    """Number of layers of the mapping network."""
    mapping_rate: Positive = 0.01
    """Learning rate of the mapping network divided by that of the other layers; its weights are scaled accordingly."""
    mixing_probability: games.Share = 0.9
    """Probability that a batch of the method mixing has two styles."""
    path_weight: NonNegative = 2.0
    """Weight of the path-length penalty."""
    path_interval: Count = 4
    """Interval, in steps of Adam, between evaluations of the path-length penalty, which is multiplied by it."""
    path_decay: games.Share = 0.01
    """Weight of a batch in the running mean of the path lengths."""


QUICK = Config(
    features=(32, 16), latent_dim=16, style_dim=16, mapping_depth=2, batch_size=32, num_steps=300, num_warmup=200,
    num_evaluations=5, generator_learning_rate=2e-3, discriminator_learning_rate=2e-3, momentum=0.0,
    second_momentum=0.99, average=0.99, methods=("stylegan2",), num_judged=1000, num_paths=200,
)  # fmt: skip
MNIST = replace(  # learning rates, r1_penalty and mapping_rate chosen with --num-validation 10000
    QUICK, dataset="mnist", methods=get_args(Method), features=(64, 32, 16, 8), latent_dim=64, style_dim=64,
    num_steps=4000, num_warmup=2000, generator_learning_rate=5e-3, discriminator_learning_rate=5e-3, mapping_rate=0.1,
    decay_from=0.5, average=0.998, num_judged=10_000, num_paths=1000, path_decay=0.1,
)  # fmt: skip
MNIST_LONG = replace(MNIST, methods=("stylegan", "stylegan2"), num_steps=16_000, num_warmup=8000)
FASHION = replace(MNIST, dataset="fashion_mnist")
CIFAR10_SMALL = replace(
    MNIST, dataset="cifar10", methods=("stylegan", "stylegan2"), features=(64, 64, 32, 16), latent_dim=128,
    style_dim=128,
)  # fmt: skip
CIFAR10 = replace(
    CIFAR10_SMALL, methods=get_args(Method), features=(256, 256, 128, 64), latent_dim=256, style_dim=256,
    num_steps=50_000, num_warmup=25_000,
)  # fmt: skip
PRESETS = {
    "quick": QUICK, "mnist": MNIST, "mnist_long": MNIST_LONG, "fashion": FASHION, "cifar10_small": CIFAR10_SMALL,
    "cifar10": CIFAR10,
}  # fmt: skip
# The prior of all weights is N(0, 1), from which kernels are initialised; for the mapping this needs mapping_rate = 1.
PRESETS |= {
    f"{name}_sghmc": replace(config, kernel="sghmc", prior="gaussian", prior_scale=1.0, mapping_rate=1.0)
    for name, config in PRESETS.items()
}
GROUPS = ("coarse", "middle", "fine")
TABLES = [
    *ablation.TABLES,
    Table(
        {"method": "method", "kernel": "kernel"},
        [Column("influence", f"influence of {group} styles", where={"group": group}) for group in GROUPS],
    ),
]
HEADLINE = "stylegan-mnist-mnist", {"measure": "FCD", "method": "stylegan", "weights": "average"}

# ---- networks and losses


class Networks(NamedTuple):
    """The generator and the discriminator as pure functions of their weights.

    Attributes:
      layer_heights: heights of the feature maps of all layers that have a style, in pixels.
      init: `rng_key -> {player: params}`.
      map: `(the generator's params, noise z [num, latent_dim]) -> styles w [num, style_dim]`.
      draw_noise: `(rng_key, num) -> noise of all layers for num images`.
      synthesise: `(params, styles [num, num_layers, style_dim], noise or None) -> images [num, ...]`.
      discriminate: `(the discriminator's params, images [num, ...]) -> outputs [num]`.
    """

    layer_heights: list[int]
    init: Callable[[PRNGKey], dict[str, Params]]
    map: Callable[[Params, Array], Array]
    draw_noise: Callable[[PRNGKey, int], list[Array]]
    synthesise: Callable[[Params, Array, list[Array] | None], Array]
    discriminate: Callable[[Params, Array], Array]

    @property
    def num_layers(self) -> int:
        """Number of styles of an image."""
        return len(self.layer_heights)


def networks(config: Config, method: Method, shape: tuple[int, ...]) -> Networks:
    """Returns the networks of a method for images `[num, *shape]`."""
    mapping: Any = stylegan.Mapping(config.style_dim, config.mapping_depth, config.mapping_rate)
    synthesis: Any = (stylegan if method == "stylegan" else stylegan2).Synthesis(shape, config.features)
    discriminator: Any = (progressive if method == "stylegan" else stylegan2).Discriminator(shape, 1, config.features)
    return Networks(
        synthesis.layer_heights,
        games.initialise(stylegan.Generator(mapping, synthesis), discriminator, config.latent_dim, shape),
        map=lambda params, z: mapping.apply({"params": params.get("mapping", {})}, z),  # no layers, no params
        draw_noise=lambda rng_key, num: stylegan.draw_noise(rng_key, num, synthesis.noise_sizes),
        synthesise=lambda params, styles, noise: synthesis.apply({"params": params["synthesis"]}, styles, noise),
        discriminate=lambda params, x: discriminator.apply({"params": params}, x)[:, 0],
    )  # fmt: skip


def draw_styles(config: Config, method: Method, net: Networks, params: Params, rng_key: PRNGKey, num: int) -> Array:
    """Draws the styles of all layers of `num` images, `[num, num_layers, style_dim]`, mixed for the method mixing."""
    z_key, cutoff_key = jax.random.split(rng_key)
    if method != "mixing":
        w = net.map(params, models.latent_noise(z_key, num, config.latent_dim, "normal"))
        return stylegan.repeat_style(w, net.num_layers)
    coarse, fine = jnp.split(net.map(params, models.latent_noise(z_key, 2 * num, config.latent_dim, "normal")), 2)
    cutoff = stylegan.draw_cutoff(cutoff_key, net.num_layers, config.mixing_probability)
    return stylegan.mix_styles(coarse, fine, cutoff, net.num_layers)


def losses(config: Config, method: Method, net: Networks) -> dict[str, Density]:
    """Losses of the discriminator and of the generator, means over a batch."""

    def generate(params: Params, rng_key: PRNGKey, num: int) -> Array:
        style_key, noise_key = jax.random.split(rng_key)
        styles = draw_styles(config, method, net, params, style_key, num)
        return net.synthesise(params, styles, net.draw_noise(noise_key, num))

    def path_penalty(params: Params, rng_key: PRNGKey, mean: Array | None) -> tuple[Array, Array]:
        """The path-length penalty of half a batch, and the new running mean; with None, the mean of the batch."""
        num = max(config.batch_size // 2, 1)
        style_key, noise_key, direction_key = jax.random.split(rng_key, 3)

        def length(styles: Array, noise: list[Array], rng_key: PRNGKey) -> Array:
            fixed = [each[None] for each in noise]
            return regularisation.path_length(lambda w: net.synthesise(params, w[None], fixed)[0], styles, rng_key)

        lengths = jax.vmap(length)(
            draw_styles(config, method, net, params, style_key, num), net.draw_noise(noise_key, num),
            jax.random.split(direction_key, num),
        )  # fmt: skip
        if mean is None:
            return regularisation.path_length_penalty(lengths, jnp.zeros(()), decay=1.0)
        return regularisation.path_length_penalty(lengths, mean, config.path_decay)

    def discriminator(params: Params, rng_key: PRNGKey, batch: Given | Carried) -> tuple[Array, dict]:
        given, carry = ablation.unpack(batch)
        fake = generate(given.others["generator"], rng_key, len(given.data))
        discriminate = functools.partial(net.discriminate, params)
        real_outputs, fake_outputs = discriminate(given.data), discriminate(fake)
        value = GAME.discriminator_loss(real_outputs, fake_outputs).mean()
        value += ablation.lazy_r1(config, discriminate, given.data, carry)
        return value, {"real": real_outputs.mean(), "fake": fake_outputs.mean()} | ablation.next_carry(carry)

    def generator(params: Params, rng_key: PRNGKey, batch: Given | Carried) -> tuple[Array, dict]:
        given, carry = ablation.unpack(batch)
        image_key, path_key = jax.random.split(rng_key)
        fake = generate(params, image_key, config.batch_size)
        value = GAME.generator_loss(net.discriminate(given.others["discriminator"], fake)).mean()
        if method not in ("path_length", "mixing"):
            return value, ablation.next_carry(carry)
        if carry is None:
            penalty, mean = path_penalty(params, path_key, None)
        else:
            due = functools.partial(path_penalty, params, path_key, carry["length"])
            penalty, mean = regularisation.lazy_penalty(due, carry["step"], config.path_interval, carry["length"])
        return value + config.path_weight * penalty, {"length": mean} | ablation.next_carry(carry, length=mean)

    return {"discriminator": discriminator, "generator": generator}


# ---- figures of styles


def layer_groups(heights: list[int]) -> dict[str, list[int]]:
    """Divides the image sizes into coarse, middle and fine ones, or two into coarse and fine; returns their layers.

    Args:
      heights: heights of the images of all layers.
    """
    sizes = np.unique(heights)
    names = GROUPS if len(sizes) > 2 else GROUPS[::2]
    parts = np.array_split(sizes, len(names))
    return {name: np.flatnonzero(np.isin(heights, part)).tolist() for name, part in zip(names, parts, strict=True)}


def pictures(config: Config, net: Networks, params: Params, rng_key: PRNGKey) -> dict[str, dict[str, Array]]:
    """Figures of one generator, as `{figure: {row: images [num_columns, ...]}}`."""
    mean_key, own_key, *noise_keys = jax.random.split(rng_key, 2 + NUM_NOISES)
    num, num_layers = ablation.NUM_COLUMNS, net.num_layers
    mean = stylegan.mean_style(functools.partial(net.map, params), mean_key, config.latent_dim, 1000)
    w = net.map(params, ablation.shown_noise(config))
    styles = stylegan.repeat_style(w, num_layers)
    synthesise = jax.jit(functools.partial(net.synthesise, params))
    noises = [net.draw_noise(key, num) for key in noise_keys]
    fixed = [jnp.broadcast_to(each[:1], each.shape) for each in noises[0]]
    noisy = jnp.stack([synthesise(styles, noise) for noise in noises])
    own = stylegan.repeat_style(
        net.map(params, models.latent_noise(own_key, NUM_MIXED, config.latent_dim, "normal")), num_layers
    )
    mixed = {"styles of": synthesise(styles, fixed).at[0].set(1.0)}
    for name, layers in layer_groups(net.layer_heights).items():
        is_exchanged = jnp.isin(jnp.arange(num_layers), jnp.array(layers, int))[:, None]
        for i in range(NUM_MIXED):  # the first column has the image itself
            changed = jnp.where(is_exchanged, styles, own[i]).at[0].set(own[i])
            mixed[f"{name}, image {i + 1}"] = synthesise(changed, fixed)
    way = jnp.linspace(0, 1, num)[:, None]
    paths = {f"pair {i + 1}": (1 - way) * w[2 * i] + way * w[2 * i + 1] for i in range(NUM_PATHS)}
    return {
        "mixing": mixed,
        "truncation": {f"psi {psi:g}": synthesise(stylegan.truncate(styles, mean, psi), fixed) for psi in PSIS},
        "noise": {
            "no noise": synthesise(styles, [jnp.zeros_like(each) for each in fixed]),
            **{f"noise {i + 1}": noisy[i] for i in range(2)},
            "sd of pixels": 2 * noisy.std(axis=0) - 1,
        },
        "interpolation": {
            name: synthesise(stylegan.repeat_style(path, num_layers), fixed) for name, path in paths.items()
        },
    }  # fmt: skip


# ---- the experiment


def decode(net: Networks, params: Params, rng_key: PRNGKey, w: Array) -> Array:
    """Images `[num, ...]` of styles `[num, style_dim]`, with fresh noise."""
    return net.synthesise(params, stylegan.repeat_style(w, net.num_layers), net.draw_noise(rng_key, len(w)))


def play(run: Run, padded: ablation.Padded, method: Method, seed: int) -> dict[str, Any]:
    """Trains and evaluates a method with one seed; see `ablation.play`."""
    config, net = run.config, networks(run.config, method, padded.shape)
    decode_style = functools.partial(decode, net)

    def decode_noise(params: Params, rng_key: PRNGKey, z: Array) -> Array:
        return decode_style(params, rng_key, net.map(params, z))

    def style_features(params: Params, rng_key: PRNGKey, styles: Array) -> Array:
        return padded.features(net.synthesise(params, styles[None], net.draw_noise(rng_key, 1))[0])

    carries = {"discriminator": ablation.first_carry(), "generator": ablation.first_carry(length=0)}
    result, params = ablation.play(
        run, method, seed, config, padded, init=net.init,
        spaces={
            "z": ablation.Space(lambda params, z: z, decode_noise, "slerp"),
            "w": ablation.Space(net.map, decode_style, "lerp"),
        },
        stages=games.pair_stages(config, losses(config, method, net), len(padded.train), carries=carries),
    )  # fmt: skip
    influence = {}
    if padded.subject.classifier is not None:
        z_key, influence_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
        w = net.map(params, models.latent_noise(z_key, 2 * config.num_paths, config.latent_dim, "normal"))
        own, other = jnp.split(stylegan.repeat_style(w, net.num_layers), 2)
        influence = evaluation.style_influence(
            style_features, params, influence_key, own, other, layer_groups(net.layer_heights)
        )
    return result | {"influence": influence, "shown": pictures(config, net, params, jax.random.key(seed))}


def sample_run(config: Config, parts: dict[str, dict], rng_key: PRNGKey, num: int) -> dict[str, np.ndarray]:
    """Samples of each method and seed of a finished run, without mixing, for `experiments.sample`."""

    def decoder(method: Method, shape: tuple[int, ...]) -> Callable[[Params, PRNGKey, Array], Array]:
        net = networks(config, method, shape)
        return lambda params, rng_key, z: decode(net, params, rng_key, net.map(params, z))

    return ablation.sample_all(config, parts, rng_key, num, decoder)


def main(config: Config) -> None:
    """Trains and evaluates every method with every seed; writes the tables, the figures and the results."""
    with Run("stylegan", config, one_device=True) as run:
        padded = ablation.load(config)
        results = ablation.play_all(run, functools.partial(play, run, padded))
        rows = ablation.result_rows(padded, results)
        for method, of_seeds in results.items():
            first = of_seeds[0]
            ablation.draw_grid(run, f"training-{method}", first["training"])
            for name, grid in first["shown"].items():
                ablation.draw_grid(run, f"{name}-{method}", grid)
            for group in first["influence"]:
                estimate = evaluation.mean_estimate([each["influence"][group] for each in of_seeds])
                rows.append(row("influence", estimate, method=method, group=group))
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
