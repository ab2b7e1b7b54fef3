"""Heads on a trunk: shapes, what is shared and what is not, fields as the objective has them, particles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import assert_particles, count, filled, quick_jit, shapes

from bayesjax import objectives
from bayesjax.models import MLP, dcgan, infogan, sngan
from bayesjax.types import CodeHead

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("trunk", "image_shape"),
    [
        (dcgan.Discriminator((28, 28, 1), features=(4, 8)), (28, 28, 1)),
        (dcgan.Discriminator((8, 8, 1), features=(4, 8), norm="batch"), (8, 8, 1)),
        (sngan.Discriminator((32, 32, 3), width=8), (32, 32, 3)),
        (MLP((5, 7)), (6,)),
    ],
)
def test_shapes(trunk, image_shape):
    """A logit an image; classes for ACGAN; a categorical and two continuous codes for InfoGAN. Any trunk will do."""
    x = jnp.zeros((3, *image_shape))
    (logit, classes), params = shapes(infogan.TwoHeadDiscriminator(trunk, 10), x)
    assert logit.shape == (3,) and classes.shape == (3, 10)
    assert "logits" not in params["trunk"] and "layers_1" not in params["trunk"]
    (logit, code), _ = shapes(infogan.CodeDiscriminator(trunk, (10, 4), 3, (16,)), x)
    assert logit.shape == (3,)
    assert [part.shape for part in code.logits] == [(3, 10), (3, 4)]
    assert code.mean.shape == code.log_scale.shape == (3, 3)


def test_counts():
    """Heads add (features + 1) for the logit and the head's dense layers; a norm of its hidden layer two a unit."""
    x, trunk = jnp.zeros((1, 6)), MLP((7, 1))
    assert count(infogan.TwoHeadDiscriminator(trunk, 10), x) == 7 * 7 + 8 + 8 * 10
    assert count(infogan.CodeDiscriminator(trunk, norm="none"), x) == 7 * 7 + 8 + 8 * 128 + 129 * (10 + 2 + 2)
    plain, normed = (count(infogan.CodeDiscriminator(trunk, norm=norm), x) for norm in ("none", "group"))
    assert normed == plain + 2 * 128
    fixed = infogan.CodeDiscriminator(trunk, norm="none", is_scale_fixed=True)
    assert count(fixed, x) == 7 * 7 + 8 + 8 * 128 + 129 * (10 + 2)


def test_the_objective_takes_what_the_model_gives():
    """Field by field and image by image; what Q says is by hand the head's output, cut at the codes' borders."""
    model = infogan.CodeDiscriminator(MLP((7, 1)), (3, 4), 2, (5,), "none")
    x = RANDOM.normal(size=(2, 6)).astype(np.float32)
    params = filled(model, x)["params"]
    logit, head = quick_jit(model.apply)({"params": params}, x)
    assert isinstance(head, CodeHead)

    def dense(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    heads = params["heads"]
    features = np.maximum(dense(params["trunk"]["layers_0"], x), 0)
    hidden = dense(heads["hidden_0"], features)
    outputs = dense(heads["outputs"], np.where(hidden > 0, hidden, 0.2 * hidden))
    np.testing.assert_allclose(logit, dense(heads["logit"], features)[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([*head.logits, *head[1:]], axis=1), outputs, rtol=1e-4, atol=1e-5)
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[1], head)
    code = objectives.infogan.Code(np.array([2, 0]), np.array([0.3, -0.4], np.float32))
    categorical, continuous = quick_jit(objectives.infogan.log_prob)(one, code)
    logits = np.split(outputs[1], [3, 7])
    expected = sum(part[c] - np.log(np.exp(part).sum()) for part, c in zip(logits, (2, 0), strict=False))
    np.testing.assert_allclose(categorical, expected, rtol=1e-4)
    error = (np.asarray(code.continuous) - outputs[1, 7:9]) / np.exp(outputs[1, 9:])
    expected = (-0.5 * error**2 - outputs[1, 9:] - 0.5 * np.log(2 * np.pi)).sum()
    np.testing.assert_allclose(continuous, expected, rtol=1e-4)


def test_a_fixed_scale():
    """Is 1 for every image, whatever the weights; the learned one is not."""
    x = RANDOM.normal(size=(2, 6)).astype(np.float32)
    for is_fixed in (True, False):
        model = infogan.CodeDiscriminator(MLP((7, 1)), hidden=(5,), is_scale_fixed=is_fixed)
        scale = quick_jit(model.apply)(filled(model, x), x)[1].log_scale
        assert np.any(scale) == (not is_fixed)


def test_the_trunk_is_shared_and_the_heads_are_not():
    """Both heads move the trunk; the logit does not move Q's weights, nor Q the logit's."""
    model = infogan.CodeDiscriminator(MLP((7, 1)), hidden=(5,))
    x = RANDOM.normal(size=(4, 6)).astype(np.float32)
    variables = filled(model, x)

    def losses(v):
        logit, head = model.apply(v, x)
        return jnp.stack([(logit**2).sum(), (head.logits[0][:, 0] * head.mean[:, 0] * head.log_scale[:, 0]).sum()])

    jacobian = quick_jit(jax.jacrev(losses))(variables)["params"]
    for row, of_logit in enumerate((True, False)):
        gradient = jax.tree.map(lambda leaf, row=row: np.asarray(leaf)[row], jacobian)
        moved = {name: bool(np.any(layer["kernel"])) for name, layer in gradient["heads"].items() if "kernel" in layer}
        assert np.any(gradient["trunk"]["layers_0"]["kernel"])
        assert moved == {"logit": of_logit, "hidden_0": not of_logit, "outputs": not of_logit}


def test_particles():
    """Several discriminators at once."""
    x = RANDOM.normal(size=(2, 6)).astype(np.float32)
    assert_particles(infogan.CodeDiscriminator(MLP((7, 1)), hidden=(8,)), x)
