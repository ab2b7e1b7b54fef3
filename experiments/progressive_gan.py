"""Progressive GAN: networks that grow with the size of their images, beside DCGAN and the same networks at full size.

Papers: Karras, Aila, Laine & Lehtinen, "Progressive growing of GANs for improved quality, stability, and variation",
ICLR 2018; Radford et al., "DCGAN", ICLR 2016; Mescheder et al., "Which training methods for GANs do actually
converge?", ICML 2018 (r1).

    python -m experiments.progressive_gan                           quick: progan_grown, digits of 8 pixels, a minute
    python -m experiments.progressive_gan --preset mnist            MNIST from 4 to 32 pixels; fashion: Fashion-MNIST
    python -m experiments.progressive_gan --preset mnist_long       two methods with four times the images
    python -m experiments.progressive_gan --preset cifar10_small    CIFAR-10, sized for two cores; cifar10: for a GPU
    python -m experiments.progressive_gan --loss wasserstein_gp     the paper's loss, with a drift term

Methods, all with the same loss and the same numbers of images:
    dcgan           the networks of experiments.gan, with the settings of Adam used there
    progan          the progressive GAN's networks, trained at full size from the start
    progan_grown    the networks of progan, grown from the smallest size

The networks grow in stages: the smallest size alone, and then for each further size a stage in which it is faded in and
a stage in which it is trained. Generator, discriminator and real images are faded with the same weight alpha, which
rises from 0 to 1. Every stage starts with new moments of Adam, but the moving average of the generator continues. The
stages before the last have equal numbers of steps, which --growth sets.

Images are compared with test images in the features of a classifier (`shared/judge.py`). The table has the measures of
the averaged generator and of its last weights. With --kernel sghmc or sgld, the networks grow during the warm-up, and
their weights are sampled at full size. `stylegan.py` continues the table.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from bayesjax import models
from bayesjax.models import dcgan, progressive
from bayesjax.objectives import adversarial, regularisation
from bayesjax.types import Array, Carried, Density, Given, Params, PRNGKey
from experiments.harness import Count, NonEmpty, NonNegative, Positive, Run, cli, require
from experiments.shared import ablation, games

Method = Literal["dcgan", "progan", "progan_grown"]


@dataclass(frozen=True)
class Config(ablation.AblationConfig):
    """Flags of experiments.progressive_gan."""

    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above defines them."""
    loss: Literal["r1", "wasserstein_gp"] = "r1"
    """Loss of all methods: r1 is the non-saturating loss with a gradient penalty on data; wasserstein_gp is the loss of
    the paper, with a gradient penalty between data and samples, and a drift term."""
    gradient_penalty: NonNegative = 10.0
    """Weight of the gradient penalty of wasserstein_gp."""
    drift_penalty: NonNegative = 0.001
    """Weight of the drift term of wasserstein_gp, the mean squared output of the discriminator for real images."""
    growth: games.Share = 0.5
    """Fraction of the steps of Adam that progan_grown takes in the stages before the last."""
    dcgan_features: Annotated[tuple[Count, ...], NonEmpty] = (128, 64, 32)
    """Number of channels of each layer of the dcgan generator; its discriminator has them in reverse order."""
    dcgan_learning_rate: Positive = 2e-4
    """Learning rate of both players of dcgan, whose Adam has the momenta 0.5 and 0.999 of experiments.gan."""

    def __post_init__(self) -> None:
        """Checks that every stage of the growth has a step for each evaluation."""
        super().__post_init__()
        require(
            "progan_grown" not in self.methods or self.steps_per_stage > 0 or len(self.features) == 1,
            f"--growth must leave {self.num_evaluations} steps, one for each evaluation, to each of the "
            f"{2 * len(self.features) - 2} stages before the last; got {self.growth}",
        )

    @property
    def num_adam_steps(self) -> int:
        """Number of steps of Adam, those of the warm-up if a sampler follows."""
        return self.num_steps if self.kernel == "adam" else self.num_warmup

    @property
    def steps_per_stage(self) -> int:
        """Number of steps of each stage before the last of progan_grown, a multiple of the number of evaluations."""
        share = int(self.growth * self.num_adam_steps) // max(2 * len(self.features) - 2, 1)
        return share - share % self.num_evaluations


QUICK = Config(
    methods=("progan_grown",), features=(32, 16), latent_dim=16, dcgan_features=(32, 16), batch_size=32,
    num_steps=400, num_warmup=200, num_evaluations=5, generator_learning_rate=2e-3, discriminator_learning_rate=2e-3,
    momentum=0.0, second_momentum=0.99, average=0.99, prior="gaussian", prior_scale=1.0, num_judged=1000, num_paths=200,
)  # fmt: skip
MNIST = replace(  # learning rates and r1_penalty chosen with --num-validation 10000 in 1500 steps
    QUICK, dataset="mnist", methods=get_args(Method), features=(64, 32, 16, 8), latent_dim=64,
    dcgan_features=(128, 64, 32), num_steps=4000, num_warmup=2000, generator_learning_rate=1e-2,
    discriminator_learning_rate=1e-2, dcgan_learning_rate=2e-3, r1_penalty=0.1, decay_from=0.5, average=0.998,
    num_judged=10_000, num_paths=1000,
)  # fmt: skip
MNIST_LONG = replace(MNIST, methods=("dcgan", "progan_grown"), num_steps=16_000, num_warmup=8000)
FASHION = replace(MNIST, dataset="fashion_mnist")
CIFAR10_SMALL = replace(MNIST, dataset="cifar10", features=(64, 64, 32, 16), latent_dim=128)
CIFAR10 = replace(
    CIFAR10_SMALL, features=(256, 256, 128, 64), dcgan_features=(256, 128, 64), num_steps=50_000, num_warmup=25_000
)
PRESETS = {
    "quick": QUICK, "mnist": MNIST, "mnist_long": MNIST_LONG, "fashion": FASHION, "cifar10_small": CIFAR10_SMALL,
    "cifar10": CIFAR10,
}  # fmt: skip
PRESETS |= {f"{name}_sghmc": replace(config, kernel="sghmc") for name, config in PRESETS.items()}
TABLES = ablation.TABLES
HEADLINE = "progressive_gan-mnist-mnist", {"measure": "FCD", "method": "progan_grown", "weights": "average"}

# ---- networks and losses


class Networks(NamedTuple):
    """The generator and discriminator as pure functions of their weights; `growth` has the image `level` and `alpha`.

    Attributes:
      init: `rng_key -> {player: params}`.
      decode: `(params, noise [num, latent_dim], **growth) -> images [num, ...]`.
      discriminate: `(params, images [num, ...], **growth) -> outputs [num]`.
    """

    init: Callable[[PRNGKey], dict[str, Params]]
    decode: Callable[..., Array]
    discriminate: Callable[..., Array]


def networks(config: Config, method: Method, shape: tuple[int, ...]) -> Networks:
    """Returns the networks of a method for images `[num, *shape]`."""
    if method == "dcgan":
        generator: Any = dcgan.Generator(shape, config.dcgan_features)
        discriminator: Any = dcgan.Discriminator(shape, 1, config.dcgan_features[::-1])
    else:
        generator = progressive.Generator(shape, config.features)
        discriminator = progressive.Discriminator(shape, 1, config.features)
    return Networks(
        games.initialise(generator, discriminator, config.latent_dim, shape),
        lambda params, noise, **growth: generator.apply({"params": params}, noise, **growth),
        lambda params, x, **growth: discriminator.apply({"params": params}, x, **growth)[:, 0],
    )


def fading_weight(step: Array, num_steps: int) -> Array:
    """The weight alpha of a new size: 0 at the first step of its stage, and 1 at the last."""
    return step / max(num_steps - 1, 1)


def losses(config: Config, net: Networks, level: int | None = None, num_fading: int = 0) -> dict[str, Density]:
    """Losses of the discriminator and of the generator, means over a batch.

    Args:
      config: the flags.
      net: the networks.
      level: level of the images, 0 for the smallest; None for networks at full size.
      num_fading: number of steps of the generator in which the level is faded in; 0 if it is not.
    """
    game = adversarial.NON_SATURATING if config.loss == "r1" else adversarial.WASSERSTEIN

    def growth(carry: Any, num_steps: int) -> dict[str, Any]:
        if level is None:
            return {}
        return {"level": level, "alpha": fading_weight(carry["step"], num_steps) if num_fading else None}

    def generate(params: Params, rng_key: PRNGKey, num: int, **growth: Any) -> Array:
        return net.decode(params, models.latent_noise(rng_key, num, config.latent_dim, "normal"), **growth)

    def discriminator(params: Params, rng_key: PRNGKey, batch: Given | Carried) -> tuple[Array, dict]:
        given, carry = ablation.unpack(batch)
        fake_key, line_key = jax.random.split(rng_key)
        grown, real = growth(carry, num_fading * config.discriminator_steps), given.data
        if level is not None:
            real = progressive.real_images(real, len(config.features) - 1 - level, grown["alpha"])
        fake = generate(given.others["generator"], fake_key, len(real), **grown)
        discriminate = functools.partial(net.discriminate, params, **grown)
        real_outputs, fake_outputs = discriminate(real), discriminate(fake)
        value = game.discriminator_loss(real_outputs, fake_outputs).mean()
        if config.loss == "r1":
            value += ablation.lazy_r1(config, discriminate, real, carry)
        else:
            points = jax.vmap(adversarial.interpolate)(jax.random.split(line_key, len(real)), real, fake)
            norms = jnp.sqrt(2 * regularisation.batch_r1_penalty(discriminate, points) + 1e-12)
            value += config.gradient_penalty * jnp.mean((norms - 1) ** 2)
            value += config.drift_penalty * regularisation.drift_penalty(real_outputs).mean()
        aux = {"real": real_outputs.mean(), "fake": fake_outputs.mean()}
        return value, aux | ablation.next_carry(carry)

    def generator(params: Params, rng_key: PRNGKey, batch: Given | Carried) -> tuple[Array, dict]:
        given, carry = ablation.unpack(batch)
        grown = growth(carry, num_fading)
        fake = generate(params, rng_key, config.batch_size, **grown)
        value = game.generator_loss(net.discriminate(given.others["discriminator"], fake, **grown)).mean()
        return value, ablation.next_carry(carry)

    return {"discriminator": discriminator, "generator": generator}


# ---- stages


def method_stages(
    config: Config, method: Method, net: Networks, size: int, num_data: int
) -> tuple[list[games.Stage], dict[str, Callable[[Params], Array]]]:
    """The stages of a method's training, and the functions that show the images of smaller networks, by stage.

    Args:
      config, method, net: the flags, the method and its networks.
      size: height of the images.
      num_data: number of training images.
    """
    carries: dict[str, Any] = dict.fromkeys(("discriminator", "generator"), ablation.first_carry())
    num_levels = len(config.features)
    if method != "progan_grown" or num_levels == 1:
        return games.pair_stages(config, losses(config, net), num_data, carries=carries), {}
    noise, num, stages, show_small = ablation.shown_noise(config), config.steps_per_stage, [], {}

    def show(level: int, params: Params) -> Array:
        small, factor = net.decode(params, noise, level=level), 2 ** (num_levels - 1 - level)
        return small.repeat(factor, axis=1).repeat(factor, axis=2)

    single = replace(config, methods=("progan",))  # a stage does not grow further
    is_sampled = config.kernel != "adam"
    short = replace(single, decay_from=1.0, **{"num_warmup" if is_sampled else "num_steps": num})
    for i in range(2 * num_levels - 2):
        level, is_faded = (i + 1) // 2, i % 2 == 1
        of_level = losses(config, net, level, num if is_faded else 0)
        name = f"{size >> (num_levels - 1 - level)}-pixels{'-faded-in' if is_faded else ''}"
        stages.append(games.pair_stages(short, of_level, num_data, carries=carries)[0]._replace(name=name))
        show_small[name] = functools.partial(show, level)
    past = num * len(stages)
    num_warmup = config.num_warmup - past * is_sampled
    rest = replace(single, num_steps=config.num_steps - past, num_warmup=num_warmup)
    first, *others = games.pair_stages(rest, losses(config, net), num_data, carries=carries)
    return [*stages, first._replace(name=f"{size}-pixels"), *others], show_small


# ---- the experiment


def play(run: Run, padded: ablation.Padded, method: Method, seed: int) -> dict[str, Any]:
    """Trains and evaluates a method with one seed; see `ablation.play`."""
    config = run.config
    if method == "dcgan":
        rates = dict.fromkeys(("generator_learning_rate", "discriminator_learning_rate"), config.dcgan_learning_rate)
        config = replace(config, **rates, momentum=0.5, second_momentum=0.999)
    net = networks(config, method, padded.shape)
    noise = ablation.Space(lambda params, z: z, lambda params, rng_key, z: net.decode(params, z), "slerp")
    stages, show_small = method_stages(config, method, net, padded.shape[0], len(padded.train))
    result, params = ablation.play(
        run, method, seed, config, padded, init=net.init, spaces={"z": noise}, stages=stages, show_small=show_small
    )  # fmt: skip
    arc = models.latent_arc(jax.random.key(1), ablation.NUM_COLUMNS, config.latent_dim)
    inputs = {"samples": ablation.shown_noise(config), "interpolation": arc}
    return result | {"shown": {name: jax.jit(net.decode)(params, each) for name, each in inputs.items()}}


def sample_run(config: Config, parts: dict[str, dict], rng_key: PRNGKey, num: int) -> dict[str, Any]:
    """Samples of each method and seed of a finished run, for `experiments.sample`."""

    def decoder(method: Method, shape: tuple[int, ...]) -> Callable[[Params, PRNGKey, Array], Array]:
        net = networks(config, method, shape)
        return lambda params, rng_key, z: net.decode(params, z)

    return ablation.sample_all(config, parts, rng_key, num, decoder)


def main(config: Config) -> None:
    """Trains and evaluates every method with every seed; writes the table, the figures and the results."""
    with Run("progressive_gan", config, one_device=True) as run:
        padded = ablation.load(config)
        results = ablation.play_all(run, functools.partial(play, run, padded))
        first = {method: of_seeds[0] for method, of_seeds in results.items()}
        for name in ("samples", "interpolation"):
            ablation.draw_grid(run, name, {method: result["shown"][name] for method, result in first.items()})
        for method, result in first.items():
            ablation.draw_grid(run, f"training-{method}", result["training"])
        run.finish(ablation.result_rows(padded, results), TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
