"""The two players of any GAN, moved by Adam or by a sampler: what every experiment of the family shares.

    losses      {"discriminator": loss, "generator": loss}, (params, rng_key, Given) -> (mean per example, aux)
    stages      Adam on the losses; or, by --kernel, Adam on the negative log posteriors and then SGHMC or SGLD on them
    initial     weights of a generator and a discriminator
    batches     data for the discriminator's steps, [discriminator_steps, batch_size, ...]
    play        runs the stages; samples at checks along the way, and what to generate with
    generate    samples of all of it
    of_chains, pooled, mixed    one game's chains apart, and as the mixture that they make

A loss becomes a log density by `posteriors.from_loss`, counted for as many examples as there are data: that is all
that makes a GAN Bayesian here. It generates with the average of Adam's path, or with all kept draws of the posterior.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, posteriors, training
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey, PyTree
from experiments import common
from experiments.gan_flags import PlayerFlags, between_checks

PLAYERS = ("discriminator", "generator")


class Stage(NamedTuple):
    """A kernel and how long to run it."""

    name: str
    kernel: Kernel
    num_steps: int


class Played(NamedTuple):
    """What is left of a game.

    Attributes:
      position: `{player: params}` at the end.
      started: the generator that a sampler starts from, no average, `[1, ...]` (numpy); of Adam ().
      generators: to generate with: params with a leading axis of draws, `[num_draws, ...]` (numpy).
      discriminators: to judge with, likewise, if they were asked for: Adam's last, no average; or else ().
      aux: what each player's loss returned beside its value, `{player: pytree}`, averaged over the steps up to a check.
      checks: what `observe` gave along the way, `[num_checks, ...]` (numpy).
      steps: the generator's step of each check.
      milliseconds: of a step of one game, compilation left out: of the steps of this call, None if it had none left.
    """

    position: dict[str, Params]
    started: Params
    generators: Params
    discriminators: Params
    aux: dict[str, PyTree]
    checks: PyTree
    steps: np.ndarray
    milliseconds: float | None


def stages(
    flags: PlayerFlags, losses: Mapping[str, Density], num_data: int, *,
    constraint: optax.GradientTransformation | None = None, carry: PyTree = None,
) -> list[Stage]:  # fmt: skip
    """What moves the players, one stage of Adam or a warm-up and a sampler.

    Args:
      flags: which kernel, and its settings.
      losses: of both players, to be minimised, means per example.
      num_data: N, for the samplers: how many examples a loss counts for.
      constraint: what is done to the discriminator's weights after Adam's update, such as `kernels.clip_weights`.
      carry: what Adam's discriminator starts with where its loss passes something on to its next step, such as a pool
        of former fakes (`kernels.carrying`). A sampler's does not: its density is of where the others stand now.
    """
    rates = {"discriminator": flags.discriminator_learning_rate, "generator": flags.generator_learning_rate}
    steps_of = {"discriminator": flags.discriminator_steps, "generator": 1}

    def optimised(player: str, loss: Density, num_steps: int) -> Kernel:
        num = num_steps * steps_of[player]
        start = round(flags.decay_from * num)
        rate = optax.linear_schedule(rates[player], 0.0, num - start, start) if start < num else rates[player]
        optimizer = optax.adam(rate, b1=flags.momentum)
        if constraint is not None and player == "discriminator":
            optimizer = optax.chain(optimizer, constraint)
        kernel = kernels.optimize(loss, optimizer)
        return kernels.carrying(kernel, carry) if carry is not None and player == "discriminator" else kernel

    def sampled(density: Density) -> Kernel:
        size = flags.learning_rate / num_data
        if flags.kernel == "sghmc":
            return kernels.sghmc(density, step_size=size, friction=flags.friction, temperature=flags.temperature)
        return kernels.sgld(density, step_size=size, temperature=flags.temperature)

    def sweep(player: Mapping[str, Kernel]) -> Kernel:
        return kernels.alternate(
            discriminator=kernels.repeat(player["discriminator"], flags.discriminator_steps, part=_part),
            generator=player["generator"],
        )

    if flags.kernel == "adam":
        moved = {player: optimised(player, loss, flags.num_steps) for player, loss in losses.items()}
        moved["generator"] = kernels.averaging(moved["generator"], flags.average)
        return [Stage("adam", sweep(moved), flags.num_steps)]
    prior = posteriors.fan_in_gaussian(flags.prior_scale)
    densities = {player: posteriors.from_loss(loss, prior, num_data) for player, loss in losses.items()}
    warm = {
        player: optimised(player, posteriors.as_loss(density, num_data), flags.num_warmup)
        for player, density in densities.items()
    }
    return [
        Stage("warmup", sweep(warm), flags.num_warmup),
        Stage(flags.kernel, sweep({p: sampled(d) for p, d in densities.items()}), flags.num_steps - flags.num_warmup),
    ]


def _part(given: Given, i: Array) -> Given:
    """The data of the discriminator's step i."""
    return given._replace(data=jax.tree.map(lambda leaf: leaf[i], given.data))


def initial(
    generator: Any, discriminator: Any, noise_size: int, shape: tuple[int, ...]
) -> Callable[[PRNGKey], dict[str, Params]]:
    """`rng_key -> {player: params}` of two Flax modules.

    Args:
      generator: takes noise `[n, noise_size]`.
      discriminator: takes examples `[n, *shape]`.
      noise_size: of the noise, and of what is put beside it.
      shape: of an example, as the discriminator sees it.
    """

    def init(rng_key: PRNGKey) -> dict[str, Params]:
        keys = dict(zip(PLAYERS, jax.random.split(rng_key), strict=True))
        return {
            "discriminator": discriminator.init(keys["discriminator"], jnp.zeros((1, *shape)))["params"],
            "generator": generator.init(keys["generator"], jnp.zeros((1, noise_size)))["params"],
        }

    return init


def batches(
    flags: PlayerFlags, rng_key: PRNGKey, arrays: PyTree, num_games: int | None = None
) -> Callable[[Array], PyTree]:
    """Data by step: leaves `[discriminator_steps, batch_size, ...]` of `arrays` `[num, ...]`.

    Of several games leaves have a leading axis of games, each of which sees the data in an order of its own.
    """
    num = flags.discriminator_steps * flags.batch_size
    available = jax.tree.leaves(arrays)[0].shape[0]
    common.require(
        num <= available,
        f"--batch-size times --discriminator-steps must be at most {available}, the number of data; got {num}",
    )
    if num_games is None:
        whole, leading = data.Minibatches(rng_key, arrays, num), ()
    else:
        whole, leading = (
            data.stacked_minibatches(jax.random.split(rng_key, num_games), arrays, num, shared=True),
            (num_games,),
        )
    shape = *leading, flags.discriminator_steps, flags.batch_size
    return jax.tree_util.Partial(functools.partial(_folded, shape), whole)


def _folded(shape: tuple[int, ...], whole: Callable[[Array], PyTree], step: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[len(shape) - 1 :]), whole(step))


def play(
    run: common.Experiment, name: str, plan: list[Stage], position: dict[str, Params], batches: Callable, *,
    rng_key: PRNGKey, observe: Callable[[Params], PyTree], num_games: int | None = None,
    keep_discriminators: bool = False,
) -> Played:  # fmt: skip
    """Runs the stages one after another.

    Args:
      run: whose flags say how many checks there are.
      name: of the game, for progress and checkpoints.
      plan: of `stages`.
      position: of both players, where they start.
      batches: of `batches`.
      rng_key: consumed.
      observe: what is kept of a generator at each check, `params -> pytree`; jitted.
      num_games: independent games, played side by side: positions, data and all that is kept have an axis of games,
        after that of draws or checks.
      keep_discriminators: whether they are wanted beside the generators.
    """
    flags, samples = run.config, plan[-1].name != "adam"
    look = observe if num_games is None else jax.vmap(observe)

    def generator(state: Any) -> Params:
        player = state.players["generator"]
        return player.average if isinstance(player, kernels.AveragingState) else player.position

    def to_use(state: Any) -> tuple[Params, Params]:
        return generator(state), state.players["discriminator"].position if keep_discriminators else ()

    checks, said, steps, done, seconds, taken = [], [], [], 0, 0.0, 0
    drawn: Any = None
    started: Params = ()
    for index, stage in enumerate(plan):
        is_last = index == len(plan) - 1
        every, num_steps = between_checks(stage.num_steps, flags.num_checks)
        keep_draws = samples and is_last
        if keep_draws:
            started = jax.tree.map(lambda leaf: np.asarray(leaf)[None], position["generator"])
        key = jax.random.fold_in(rng_key, index)
        kernel = stage.kernel if num_games is None else kernels.particles(stage.kernel, num_games, batch_axis=0)
        state = jax.jit(kernel.init)(position, jax.random.fold_in(key, stage.num_steps))
        state, trace = training.run(
            key, kernel, state, batches, num_steps=num_steps, thinning=every,
            keep=lambda state, keep_draws=keep_draws: (
                look(generator(state)), to_use(state) if keep_draws else ()
            ),
            **run.stage(f"{name}-{stage.name}"),
        )  # fmt: skip
        kept, drawn = trace.draws
        checks.append(kept)
        said.append({player: info.aux for player, info in trace.info.players.items()})
        steps.append(done + every * np.arange(1, len(jax.tree.leaves(kept)[0]) + 1))
        done += num_steps
        seconds += trace.seconds - trace.compile_seconds
        taken += trace.steps
        position = training.fetch(state.position)
    if not samples:
        drawn = jax.tree.map(lambda leaf: np.asarray(leaf)[None], training.fetch(to_use(state)))
    aux, looks = (jax.tree.map(lambda *parts: np.concatenate(parts), *each) for each in (said, checks))
    milliseconds = 1e3 * seconds / (taken * (num_games or 1)) if taken else None
    return Played(position, started, drawn[0], drawn[1], aux, looks, np.concatenate(steps), milliseconds)


def spread_evenly(available: int, num: int) -> np.ndarray:
    """`num` places among so many, the first and the last with them; all if there are no more."""
    return np.linspace(0, available - 1, min(available, num)).round().astype(int)


def generate(make: Callable[[Params, PRNGKey, int], Array], draws: Params, rng_key: PRNGKey, num: int) -> np.ndarray:
    """`num` samples of stacked generators, as many of each, taking turns.

    Args:
      make: `(params, rng_key, num) -> samples [num, ...]`.
      draws: params with a leading axis; where they are more than samples, `num` of them spread evenly are used.
      rng_key: consumed.
      num: of samples.
    """
    num_draws = jax.tree.leaves(draws)[0].shape[0]
    chosen = spread_evenly(num_draws, num)
    share = -(-num // len(chosen))
    keys = jax.random.split(rng_key, len(chosen))
    one = jax.jit(make, static_argnums=2)  # compiled once for all calls with this make and share
    samples = [
        np.asarray(one(jax.tree.map(lambda leaf, i=i: leaf[i], draws), key, share))
        for i, key in zip(chosen, keys, strict=True)
    ]
    return np.stack(samples, axis=1).reshape(-1, *samples[0].shape[1:])[:num]


def of_chains(draws: PyTree, game: int, num_chains: int) -> list[PyTree]:
    """Draws `[num_draws, num_games * num_chains, ...]` of one game's chains, `[num_draws, ...]` each."""
    return [jax.tree.map(lambda leaf, i=game * num_chains + c: leaf[:, i], draws) for c in range(num_chains)]


def pooled(chains: list[PyTree]) -> PyTree:
    """Draws of all chains, `[num_draws, ...]` each, as `[num_draws * num_chains, ...]`, taking turns."""
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1).reshape(-1, *leaves[0].shape[1:]), *chains)


def mixed(looks: np.ndarray) -> np.ndarray:
    """What all chains of a game made of the same noises, as samples of their mixture.

    Each noise has one chain, drawn at random but for equal shares, so that samples are independent of one another and
    two of them are as often of one chain as two of the mixture's are.

    Args:
      looks: `[num_checks, num_games, num_chains, num, ...]`.

    Returns:
      `[num_checks, num_games, num, ...]`.
    """
    num_chains, num = looks.shape[2:4]
    chain = np.random.default_rng(0).permutation(np.arange(num) % num_chains)  # the same at each check
    return looks[:, :, chain, np.arange(num)]


if __name__ == "__main__":
    common.not_a_command()
