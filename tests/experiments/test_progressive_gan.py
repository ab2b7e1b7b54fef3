"""The growth of the progressive GAN's experiment: fading, stages, and what the judge sees."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels, training
from bayesjax.types import Carried, Given
from experiments import progressive_gan
from experiments.harness import Run
from experiments.shared import ablation, games
from tests.experiments.test_every_experiment import call, rows
from tests.experiments.test_killed import draws
from tests.experiments.tiny import TINY

CONFIG = progressive_gan.Config(
    features=(4, 4, 3), latent_dim=3, batch_size=4, num_steps=47, num_evaluations=2, growth=0.6,
    discriminator_steps=2,
)  # fmt: skip
NET = progressive_gan.networks(CONFIG, "progan", (8, 8, 1))
KEY = jax.random.key(0)
PARAMS = jax.jit(NET.init)(KEY)
REAL = jax.random.normal(KEY, (4, 8, 8, 1))


def compiled(level, num_fading):
    """The function `step -> losses of both players` of a stage."""
    losses = progressive_gan.losses(CONFIG, NET, level, num_fading)

    def values(params, step):
        given = Carried(Given(REAL, params), {"step": step})
        return {player: loss(params[player], KEY, given)[0] for player, loss in losses.items()}

    values = jax.jit(values)
    return lambda step: values(PARAMS, jnp.asarray(step))


def test_a_fade_begins_at_the_smaller_networks_and_ends_at_the_larger(monkeypatch):
    """The discriminator takes two steps for each of the generator's five. The middle of a fade differs from both ends.

    At the start, the discriminator's loss does not depend on the fade of real images, which has a test of its own.
    """
    monkeypatch.setattr(ablation, "lazy_r1", lambda *arguments: 0.0)  # which depends on the size of the images
    small, large, fading = compiled(0, 0)(0), compiled(1, 0)(0), compiled(1, 5)
    assert all(abs(small[player] - large[player]) > 1e-3 for player in small)
    for player, last in {"discriminator": 9, "generator": 4}.items():
        start, middle, end = (fading(step)[player] for step in (0, last // 2, last))
        np.testing.assert_allclose([start, end], [small[player], large[player]], rtol=1e-5)
        assert abs(middle - start) > 1e-4 and abs(middle - end) > 1e-4


def weights_of_a_fade(loss, step):
    """Arguments of both networks in a step of the fade of level 1, penalties included.

    Returns levels and weights alpha by network, and the images of the discriminator's first call, which are real.
    """
    config, seen = dataclasses.replace(CONFIG, loss=loss, discriminator_steps=1), {"decode": [], "discriminate": []}
    images = []

    def decode(params, noise, level, alpha):
        seen["decode"].append((level, float(alpha)))
        return jnp.zeros((4, 4, 4, 1))

    def discriminate(params, x, level, alpha):
        seen["discriminate"].append((level, float(alpha)))
        images.append(x)
        return x.sum((1, 2, 3))

    losses = progressive_gan.losses(config, NET._replace(decode=decode, discriminate=discriminate), 1, 5)
    for each in losses.values():
        each({}, KEY, Carried(Given(REAL, {"generator": {}, "discriminator": {}}), {"step": jnp.asarray(step)}))
    return seen, np.asarray(images[0])


@pytest.mark.parametrize("loss", ["r1", "wasserstein_gp"])
def test_the_penalty_has_the_weight_of_the_fade(monkeypatch, loss):
    """In public programs the penalty's own weight alpha replaces that of the fade, or the weight stays constant."""

    def is_right(step):
        seen, _ = weights_of_a_fade(loss, step)
        assert len(seen["decode"]) == 2 and len(seen["discriminate"]) > 3  # real, fake, penalty, and for the generator
        return all({level for level, _ in each} == {1} for each in seen.values()) and all(
            alpha == pytest.approx(step / 4) for each in seen.values() for _, alpha in each
        )

    assert all(is_right(step) for step in range(5))
    with monkeypatch.context() as patched:
        patched.setattr(progressive_gan, "fading_weight", lambda step, num_steps: 0.0)
        assert not is_right(2)
    values = iter(np.linspace(0.1, 0.9, 9))  # of a weight that changes between the calls of one step
    monkeypatch.setattr(progressive_gan, "fading_weight", lambda step, num_steps: next(values))
    assert not is_right(2)


def test_real_images_fade_with_the_networks():
    """From 2 x 2 equal pixels to the images of the level, by the weight of the networks."""
    for step in (0, 1, 4):
        _, real = weights_of_a_fade("r1", step)
        whole = np.asarray(REAL).reshape(4, 4, 2, 4, 2, 1).mean((2, 4))
        blocks = whole.reshape(4, 2, 2, 2, 2, 1).mean((2, 4)).repeat(2, axis=1).repeat(2, axis=2)
        np.testing.assert_allclose(real, blocks + step / 4 * (whole - blocks), atol=1e-6)


def test_the_stages_fade_their_own_level(monkeypatch):
    """Each level is trained and faded as a stage of its own; the last stage has networks at full size."""
    calls, losses = [], progressive_gan.losses

    def recorded(config, net, level=None, num_fading=0):
        calls.append((level, num_fading))
        return losses(config, net, level, num_fading)

    monkeypatch.setattr(progressive_gan, "losses", recorded)
    progressive_gan.method_stages(CONFIG, "progan_grown", NET, 8, 100)
    assert calls == [(0, 0), (1, 6), (1, 0), (2, 6), (None, 0)]


def test_stages_grow_in_equal_steps():
    """Of 47 steps, 0.6 are 28, so that the four stages before the last have 7, of which 6 are two evaluations of 3. No
    step is dropped there, and pictures of all sizes have the full one."""
    stages, evaluate = progressive_gan.method_stages(CONFIG, "progan_grown", NET, 8, 100)
    assert [(stage.name, stage.num_steps) for stage in stages] == [
        ("2-pixels", 6), ("4-pixels-faded-in", 6), ("4-pixels", 6), ("8-pixels-faded-in", 6), ("8-pixels", 23)
    ]  # fmt: skip
    assert [stage.num_steps % stage.thinning for stage in stages[:-1]] == [0] * 4
    assert list(evaluate) == [stage.name for stage in stages[:-1]]
    for name, size in {"2-pixels": 2, "4-pixels": 4}.items():
        images = np.asarray(jax.jit(evaluate[name])(PARAMS["generator"]))
        assert images.shape == (ablation.NUM_COLUMNS, 8, 8, 1)
        blocks = images.reshape(-1, size, 8 // size, size, 8 // size)
        assert np.ptp(blocks, axis=(2, 4)).max() == 0 and np.ptp(images[:, :: 8 // size, :: 8 // size]) > 0
    sampled = dataclasses.replace(CONFIG, kernel="sghmc", num_warmup=40)
    stages, _ = progressive_gan.method_stages(sampled, "progan_grown", NET, 8, 100)
    assert [stage.num_steps for stage in stages] == [6] * 4 + [16, 7] and stages[-1].is_sampler
    assert len(progressive_gan.method_stages(CONFIG, "progan", NET, 8, 100)[0]) == 1


def test_stages_continue_averages_and_data_but_no_moments(tmp_path):
    """Two stages of 3 and 4 steps of gradient descent with momentum, whose gradients are the numbers of the batches.

    The momentum starts anew in the second stage. The moving average and its own number of steps continue, as does the
    data, whose batch 3 is the first of the second stage.
    """
    move = kernels.optimize(lambda params, rng_key, given: params["w"] * given.data, optax.sgd(0.1, momentum=0.9))
    game = kernels.alternate(discriminator=move, generator=kernels.averaging(move, 0.5))
    with Run("progressive_gan", dataclasses.replace(CONFIG, out=str(tmp_path / "run"))) as run:
        kinds, shown, _ = ablation.train(
            run, "game", [games.Stage("a", game, 3), games.Stage("b", game, 4)],
            {player: {"w": jnp.zeros(())} for player in ("discriminator", "generator")},
            jax.tree_util.Partial(jnp.multiply, 1.0), rng_key=KEY, show=lambda name, params: params["w"],
        )  # fmt: skip
    averages, w, average, momentum = [], 0.0, 0.0, 0.0
    for step in range(7):
        momentum = step + (0 if step in (0, 3) else 0.9 * momentum)
        w -= 0.1 * momentum
        average = w + min(0.5, (1 + step) / (10 + step)) * (average - w)
        averages.append(average)
    np.testing.assert_allclose([shown["a"], shown["b"]], [averages[2], averages[6]], rtol=1e-5)
    np.testing.assert_allclose([kinds["average"]["w"][0], kinds["last"]["w"][0]], [average, w], rtol=1e-5)


def test_the_judge_sees_no_edges(tmp_path):
    """Three sizes need a height divisible by 4, so 6 x 7 pixels become 8 x 8; the judge gets back what was loaded."""
    path, random = tmp_path / "images.npz", np.random.default_rng(0)
    x, y = random.uniform(size=(20, 6, 7)).astype(np.float32), np.arange(20) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    padded = ablation.load(dataclasses.replace(CONFIG, dataset=str(path), judge="none"))
    assert padded.shape == (8, 8, 1) and padded.window == (slice(1, 7), slice(0, 7))
    np.testing.assert_allclose(padded.crop(padded.train)[..., 0], 2 * x - 1, atol=1e-6)
    edges = np.ones((8, 8), bool)
    edges[padded.window] = False
    assert (padded.train[:, edges] == -1).all()
    assert padded.crop(np.full((1, 8, 8, 1), 3.0)).max() == 1


def test_held_out_images_replace_the_test_images(tmp_path):
    """Settings are chosen on training images that are not trained on, and the test images are not seen."""
    path, values = tmp_path / "images.npz", np.arange(20, dtype=np.float32) / 20
    x, y = np.broadcast_to(values[:, None, None], (20, 8, 8)), np.arange(20) % 2
    np.savez(path, x_train=x, y_train=y, x_test=np.ones_like(x), y_test=y)
    config = dataclasses.replace(CONFIG, dataset=str(path), judge="none", num_validation=12)
    subject = ablation.load(config).subject
    assert len(subject.train) == 8 and len(subject.test) == 12
    found = np.concatenate([subject.train.inputs, subject.test.inputs])[:, 0, 0, 0]
    np.testing.assert_allclose(np.sort(found), 2 * values - 1, atol=1e-6)
    for num, words in ((20, r"num must lie in 0 \.\. 19"), (11, "--num-validation must be 0 or at least 12; got 11")):
        with pytest.raises(ValueError, match=words):
            ablation.load(dataclasses.replace(config, num_validation=num))


def test_lazy_r1_is_plain_in_the_mean():
    """Over --r1-interval steps of Adam the mean is the penalty that a sampler has in every step."""
    config = dataclasses.replace(CONFIG, r1_penalty=2.0, r1_interval=3)
    slope = lambda x: (x**2).sum((1, 2, 3))  # noqa: E731
    penalties = [ablation.lazy_r1(config, slope, REAL, {"step": jnp.asarray(step)}) for step in range(3)]
    plain = ablation.lazy_r1(config, slope, REAL, None)
    np.testing.assert_allclose(plain, 4 * (np.asarray(REAL) ** 2).sum((1, 2, 3)).mean(), rtol=1e-5)
    np.testing.assert_allclose(np.mean(penalties), plain, rtol=1e-5)
    assert penalties[1] == penalties[2] == 0


def test_the_critic_of_the_paper():
    """Its penalties are those of one example each, although the critic sees batches, whose outputs here are linear."""
    config = dataclasses.replace(
        CONFIG, loss="wasserstein_gp", gradient_penalty=10.0, drift_penalty=0.5, discriminator_steps=1
    )
    slope, images = jnp.full((8, 8, 1), 0.25), jnp.zeros((4, 8, 8, 1))  # |slope| = 2
    net = NET._replace(
        discriminate=lambda params, x, **growth: (slope * x).sum((1, 2, 3)) + 3.0,
        decode=lambda params, noise, **growth: images,
    )
    value, aux = progressive_gan.losses(config, net)["discriminator"]({}, KEY, Given(images, {"generator": {}}))
    np.testing.assert_allclose(value, 0 + 10.0 * (2 - 1) ** 2 + 0.5 * 3**2, rtol=1e-5)
    assert aux == {"real": 3.0, "fake": 3.0}  # a sampler's density has no carry


@pytest.mark.slow
def test_resumes_inside_a_fade(tmp_path, monkeypatch, capsys):
    """A copy of the run's folder after 56 of the 224 steps of the fade resumes to the same rows and saved bits."""
    whole, broken, save = tmp_path / "whole", tmp_path / "broken", training.Checkpointer.save
    flags = (
        *TINY["progressive_gan"].flags, "--methods", "progan_grown", "--num-steps", "900", "--num-evaluations", "4",
        "--checkpoint-interval", "0", "--judge", "digits",
    )  # fmt: skip

    def save_and_copy(self, *arguments, **options):
        save(self, *arguments, **options)
        if "faded-in" in str(self.directory) and not broken.exists():
            shutil.copytree(whole, broken)

    with monkeypatch.context() as patched:
        patched.setattr(training.Checkpointer, "save", save_and_copy)
        call("progressive_gan", *flags, "--out", whole)
    assert not (broken / "results.json").exists() and list(broken.glob("checkpoints/*faded-in/*_00000056"))
    call("progressive_gan", *flags, "--out", broken, "--resume")
    assert rows(broken) == rows(whole) and rows(whole)
    assert draws(broken) == draws(whole)
