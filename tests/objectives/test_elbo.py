"""The evidence lower bounds on a model whose evidence is known; wrong variants are refused by the same tests.

    z ~ N(0, I_2), x | z ~ N(A z + b, s^2 I_3), so x ~ N(b, A A^T + s^2 I)

A has orthogonal columns: the exact posterior is then a diagonal Gaussian, as an encoder's.
"""

import functools
import itertools
import re

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bayesjax import objectives
from bayesjax.objectives import elbo
from tests.parameters import some

A, B, S = np.array([[1.0, 0.5], [1.0, -0.5], [-1.0, 0.0]]), np.array([0.3, -0.2, 0.1]), 0.8
X = np.array([1.2, -0.4, 0.7])
EVIDENCE = scipy.stats.multivariate_normal(B, A @ A.T + S**2 * np.eye(3)).logpdf(X)
POSTERIOR_VARIANCE = 1 / (1 + (A**2).sum(axis=0) / S**2)
POSTERIOR_MEAN = POSTERIOR_VARIANCE * ((X - B) @ A) / S**2
EXACT = {"mean": POSTERIOR_MEAN, "scale": np.sqrt(POSTERIOR_VARIANCE), "A": A}
ROUGH = {"mean": POSTERIOR_MEAN + np.array([0.5, -0.4]), "scale": 1.6 * np.sqrt(POSTERIOR_VARIANCE), "A": A}
NUM = 20000


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normal(mean, scale):
    return distrax.Independent(distrax.Normal(mean, scale), 1)


def encode(params, x):
    """The example is the one `params` were made for."""
    return normal(params["mean"], params["scale"])


def decode(params, z):
    return normal(params["A"] @ z + B, S * jnp.ones(3))


def prior():
    return normal(jnp.zeros(2), jnp.ones(2))


class SquaredScale:
    """The wrong z = mean + scale^2 * noise, with everything else right."""

    def __init__(self, right):
        self.right = right
        self.kl_divergence = right.kl_divergence

    def sample_and_log_prob(self, **options):
        z, log_q = self.right.sample_and_log_prob(**options)
        return self.right.mean() + self.right.stddev() * (z - self.right.mean()), log_q


def wrong_scale(params, x):
    return SquaredScale(encode(params, x))


def wrong_sign(objective):
    """The divergence added to the bound in place of subtracted."""

    def planted(params, rng_key, x):
        _, aux = objective(params, rng_key, x)
        return -(aux["reconstruction"] + aux["kl"]), aux

    return planted


def sampled(encode=encode, **options):
    return elbo.negative_elbo(encode, decode, prior(), kl="sampled", **options)


def closed_form(encode=encode, **options):
    return elbo.negative_elbo(encode, decode, prior(), **options)


def iwae(num_samples, encode=encode):
    return elbo.negative_iwae_bound(encode, decode, prior(), num_samples=num_samples)


@pytest.fixture(scope="module")
def bounds():
    """`bounds[encoder][name]`: 20000 draws of each bound, with keys of its own; compiled as one program."""
    with jax.enable_x64(True):
        objectives = {
            "A": sampled(),
            "A, L=3": sampled(num_samples=3),
            "B": closed_form(),
            "IWAE-4": iwae(4),
            "IWAE-8": iwae(8),
            "A with a wrong scale": sampled(wrong_scale),
            "A with a wrong sign": wrong_sign(sampled()),
            "B with a wrong scale": closed_form(wrong_scale),
            "B with a wrong sign": wrong_sign(closed_form()),
        }
        encoders = {"exact": EXACT, "rough": ROUGH, "rough, blind decoder": {**ROUGH, "A": 0.1 * A}}

        def draws(params, rng_key):
            keys = jax.random.split(rng_key, len(objectives))
            return {
                name: -objective(params, key, jnp.asarray(X))[0]
                for (name, objective), key in zip(objectives.items(), keys, strict=True)
            }

        stacked = {name: np.stack([encoder[name] for encoder in encoders.values()]) for name in ROUGH}
        keys = jax.random.split(jax.random.key(0), (3, NUM))
        values = jax.device_get(jax.jit(jax.vmap(jax.vmap(draws, (None, 0))))(stacked, keys))
        return {encoder: {name: value[i] for name, value in values.items()} for i, encoder in enumerate(encoders)}


def differ(values, others):
    """Whether two means are more than 4 standard errors apart: 6e-5 for equal ones."""
    error = np.hypot(*(x.std() / np.sqrt(x.size) for x in (np.atleast_1d(values), np.atleast_1d(others))))
    return abs(np.mean(values) - np.mean(others)) > 4 * error


def test_with_the_exact_posterior_every_draw_gives_the_evidence(bounds):
    """p(x | z) p(z) / q(z | x) is then p(x) at any z: SGVB A and the importance-weighted bound have no variance."""
    for name in ("A", "A, L=3", "IWAE-4", "IWAE-8"):
        np.testing.assert_allclose(bounds["exact"][name], EVIDENCE, rtol=0, atol=1e-12)
    for name in ("A with a wrong scale", "A with a wrong sign"):
        assert np.abs(bounds["exact"][name] - EVIDENCE).max() > 0.1


def test_closed_form_has_the_evidence_as_its_mean(bounds):
    """SGVB B with the exact posterior; false alarms 6e-5."""
    assert not differ(bounds["exact"]["B"], EVIDENCE)
    assert differ(bounds["exact"]["B with a wrong scale"], EVIDENCE)
    assert differ(bounds["exact"]["B with a wrong sign"], EVIDENCE)


def test_bounds_rise_to_the_evidence(bounds):
    """ELBO < IWAE-4 < IWAE-8 < log p(x), each by 4 standard errors and more; the ELBO's gap is KL(q || p(z | x)).

    False alarms: 6e-5 for each gap; the means are 10 standard errors or more apart.
    """
    order = [bounds["rough"][name] for name in ("A", "IWAE-4", "IWAE-8")] + [EVIDENCE]
    for lower, higher in itertools.pairwise(order):
        assert np.mean(lower) < np.mean(higher) and differ(lower, higher)
    gap = float(encode(ROUGH, X).kl_divergence(encode(EXACT, X)))
    for name in ("A", "B"):
        assert not differ(bounds["rough"][name] + gap, EVIDENCE)
        assert differ(bounds["rough"][f"{name} with a wrong scale"] + gap, EVIDENCE)
        assert differ(bounds["rough"][f"{name} with a wrong sign"] + gap, EVIDENCE)


def test_both_estimators_have_one_mean_and_the_closed_form_less_variance(bounds):
    """Less where z says little of x, as when training begins; at the exact posterior, more. False alarms 2e-4."""
    for encoder in bounds.values():
        assert not differ(encoder["A"], encoder["B"])
        assert differ(encoder["A"], encoder["B with a wrong sign"])
    blind, exact = bounds["rough, blind decoder"], bounds["exact"]
    assert blind["B"].var() < 0.2 * blind["A"].var()
    assert exact["B"].var() > 1e3 * exact["A"].var()


def test_closed_form_divergence_is_the_integral():
    """`kl` of aux against scipy's quadrature of q log(q / p), a latent dimension at a time; KL(p || q) is refused."""
    _, aux = closed_form()(ROUGH, jax.random.key(0), X)

    def integral(reverse):
        total, standard = 0.0, scipy.stats.norm()
        for mean, scale in zip(ROUGH["mean"], ROUGH["scale"], strict=True):
            pair = scipy.stats.norm(mean, scale), standard
            q, p = pair[::-1] if reverse else pair
            total += scipy.integrate.quad(lambda z, q=q, p=p: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -12, 12)[0]
        return total

    assert float(aux["kl"]) == pytest.approx(integral(reverse=False), rel=1e-9)
    assert float(aux["kl"]) != pytest.approx(integral(reverse=True), rel=1e-2)


@pytest.mark.slow
def test_closed_form_divergence_is_the_mean_of_a_million_draws():
    """Within 4 standard errors (false alarms 6.3e-5), together less than a hundredth of it."""
    closed, many = (
        float(form(ROUGH, jax.random.key(3), X)[1]["kl"]) for form in (closed_form(), sampled(num_samples=10**6))
    )
    q, p = normal(ROUGH["mean"], ROUGH["scale"]), prior()
    z = q.sample(seed=jax.random.key(4), sample_shape=(10**5,))
    stderr = float(jnp.std(q.log_prob(z) - p.log_prob(z))) / 1e3
    assert abs(many - closed) < 4 * stderr < 1e-2 * closed


def test_reads_as_the_formula():
    """Value and parts from three draws, written with scipy.stats in float64, for both divergences, beta and IWAE."""
    key = jax.random.key(3)
    z = np.asarray(encode(ROUGH, X).sample(seed=key, sample_shape=(3,)))
    log_likelihood = np.array([scipy.stats.norm(A @ one + B, S).logpdf(X).sum() for one in z])
    log_q = scipy.stats.norm(ROUGH["mean"], ROUGH["scale"]).logpdf(z).sum(axis=1)
    log_ratio = log_q - scipy.stats.norm().logpdf(z).sum(axis=1)
    divergence = float(encode(ROUGH, X).kl_divergence(prior()))
    weights = np.exp(log_likelihood - log_ratio)
    parts = {"reconstruction": log_likelihood.mean(), "kl": log_ratio.mean()}
    cases = (
        (sampled(num_samples=3), log_ratio.mean() - parts["reconstruction"], parts),
        (sampled(num_samples=3, beta=4.0), 4 * log_ratio.mean() - parts["reconstruction"], parts),
        (closed_form(num_samples=3, beta=0.5), 0.5 * divergence - parts["reconstruction"], {**parts, "kl": divergence}),
        (iwae(3), -np.log(weights.mean()), parts),
    )
    for objective, value, expected in cases:
        found, aux = objective(ROUGH, key, X)
        assert float(found) == pytest.approx(value, rel=1e-12)
        assert {name: float(part) for name, part in aux.items()} == pytest.approx(expected, rel=1e-12)
    assert float(iwae(3)(ROUGH, key, X)[0]) != pytest.approx(-np.log(weights).mean(), rel=1e-3)


MAKERS = {"sampled": sampled, "closed_form": closed_form, "iwae": functools.partial(iwae, 4)}


@pytest.mark.parametrize("name", some(MAKERS, "sampled", "closed_form"))
def test_gradients_against_finite_differences(name):
    """In every parameter, encoder's and decoder's, through the draws; draws that do not follow q are refused."""
    key, random = jax.random.key(1), np.random.default_rng(0)
    params = {name: jnp.asarray(leaf) for name, leaf in ROUGH.items()}
    direction = {name: random.normal(size=leaf.shape) for name, leaf in ROUGH.items()}
    value = jax.jit(lambda params: MAKERS[name]()(params, key, X)[0])
    there, back = ({n: ROUGH[n] + step * direction[n] for n in ROUGH} for step in (1e-5, -1e-5))
    difference = (float(value(there)) - float(value(back))) / 2e-5

    def slope(encode):
        gradient = jax.grad(lambda params: MAKERS[name](encode=encode)(params, key, X)[0])(params)
        return sum(float((gradient[n] * direction[n]).sum()) for n in ROUGH)

    assert slope(encode) == pytest.approx(difference, rel=1e-7)
    assert slope(lambda params, x: encode(jax.lax.stop_gradient(params), x)) != pytest.approx(difference, rel=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_extreme_logits(dtype):
    """Pixels with logits of +-1e4, right and wrong: value and gradient finite."""
    logits, x = jnp.array([1e4, -1e4, 1e4, -1e4], dtype), jnp.array([1, 0, 0, 1], dtype)
    standard = normal(jnp.zeros(2, dtype), jnp.ones(2, dtype))

    def bernoulli(logits, z):
        return distrax.Independent(distrax.Bernoulli(logits + 0 * z.sum()), 1)

    objective = elbo.negative_elbo(lambda logits, x: standard, bernoulli, standard)
    (_, aux), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(logits, jax.random.key(0), x)
    assert aux["reconstruction"] == -2e4
    assert gradient.dtype == dtype and jnp.isfinite(gradient).all()


def dots(program):
    """Sizes of the results of the matrix products in a compiled program."""
    shapes = re.findall(r"= \w+\[([\d,]*)\]\S* dot\(", program.as_text())
    return sorted(int(np.prod([int(n) for n in shape.split(",")])) for shape in shapes)


def test_a_batch_costs_the_products_of_batch_code():
    """The one-example objective, vmapped and differentiated, compiles to the matrix products of code for a batch."""
    random = np.random.default_rng(0)
    params = {name: random.normal(size=shape) for name, shape in (("in", (11, 6)), ("out", (3, 11)))}
    batch = random.normal(size=(5, 11))

    def by_hand(params, x, noise):
        mean, log_scale = jnp.split(x @ params["in"], 2, axis=-1)
        z = mean + jnp.exp(log_scale) * noise
        squares = ((x - z @ params["out"]) ** 2 + jnp.log(2 * jnp.pi)).sum(axis=-1)
        return 0.5 * ((jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale).sum(axis=-1) + squares).mean()

    def encode(params, x):
        mean, log_scale = jnp.split(x @ params["in"], 2)
        return normal(mean, jnp.exp(log_scale))

    def decode(params, z):
        return normal(z @ params["out"], jnp.ones(11))

    loss = objectives.batch_mean(elbo.negative_elbo(encode, decode, normal(jnp.zeros(3), jnp.ones(3))))
    key = jax.random.key(0)
    noise = jax.vmap(lambda key: jax.random.normal(key, (1, 3))[0])(jax.random.split(key, 5))
    by_example = jax.value_and_grad(lambda params, batch: loss(params, key, batch)[0])
    by_batch = jax.value_and_grad(lambda params, batch: by_hand(params, batch, noise))
    looped = jax.value_and_grad(
        lambda params, batch: jax.lax.map(lambda x: loss(params, key, x[None])[0], batch).mean()
    )
    programs = [jax.jit(function).lower(params, batch).compile() for function in (by_example, by_batch, looped)]
    found, expected = (jax.tree.leaves(program(params, batch)) for program in programs[:2])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert dots(programs[0]) == dots(programs[1]) != []
    assert dots(programs[2]) != dots(programs[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sampled(num_samples=0), "num_samples must be at least 1; got 0"),
        (lambda: iwae(0), "num_samples must be at least 1; got 0"),
        (lambda: sampled(beta=-1.0), "beta must be non-negative and finite; got -1.0"),
        (
            lambda: elbo.negative_elbo(encode, decode, prior(), kl="B"),
            "kl must be one of closed_form, sampled; got 'B'",
        ),
        (
            lambda: sampled(gradient="reinforce"),
            "gradient must be one of reparameterised, score_function; got 'reinforce'",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_distributions_that_do_not_fit():
    """One log probability an example, not one a pixel; and a closed form where distrax has one."""
    many = distrax.Normal(jnp.zeros(2), jnp.ones(2))
    laplace = distrax.Independent(distrax.Laplace(jnp.zeros(2), jnp.ones(2)), 1)
    for objective, message in (
        (elbo.negative_elbo(lambda p, x: many, decode, prior()), r"encode must give .* got shape \(2,\)"),
        (elbo.negative_elbo(encode, decode, many), r"prior must give .* got shape \(2,\)"),
        (elbo.negative_elbo(encode, lambda p, z: distrax.Normal(p["A"] @ z, S), prior()), r"decode .* shape \(3,\)"),
        (elbo.negative_elbo(encode, decode, laplace), "no closed form .* use kl='sampled'"),
        (
            elbo.negative_elbo(encode, lambda p, z: normal((p["A"] @ z)[:, None], S), prior()),
            "over x, of shape .3,.; got",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            objective(ROUGH, jax.random.key(0), X)
    value, _ = elbo.negative_elbo(encode, decode, laplace, kl="sampled")(ROUGH, jax.random.key(0), X)
    assert np.isfinite(value)
