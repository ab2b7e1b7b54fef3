"""InfoGAN: a game in which part of the noise, the code c, must be readable from the image.

    min_{G, Q} max_D  V(D, G) - lambda I_Q,     I_Q = E_{c, z} log Q(c | G(z, c)) + H(c) <= I(c; G(z, c))

Q is a head on the discriminator's features: a categorical distribution for each categorical code, a Gaussian for the
continuous ones. H(c) does not depend on the networks, but with it I_Q is a bound of the information in nats: 0 if Q
says the prior whatever it sees, H(c) = ln 10 if it reads a code of ten classes without error, less than 0 if it is
wrong. Source: Chen et al., "InfoGAN: interpretable representation learning by information maximizing generative
adversarial nets", NIPS 2016.

I_Q says nothing of which images share a category. What does, without a label, is that an image and the same image a
little turned or moved are of one: `invariant_information` is what their categories have in common (Ji et al. 2019).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from bayesjax.objectives.heteroscedastic import categorical_log_likelihood, gaussian_log_likelihood
from bayesjax.types import Array, CodeHead, PRNGKey


class Code(NamedTuple):
    """The code of one example.

    Attributes:
      categorical: one integer for each categorical code, from 0 to its number of classes less one, `[num_categorical]`.
      continuous: uniform on (-1, 1), `[num_continuous]`.
    """

    categorical: Array
    continuous: Array


def sample_code(rng_key: PRNGKey, num_classes: Sequence[int], num_continuous: int) -> Code:
    """A code from its prior: uniform classes, and uniform numbers in (-1, 1)."""
    categorical_key, continuous_key = jax.random.split(rng_key)
    return Code(
        jax.random.randint(categorical_key, (len(num_classes),), 0, jnp.asarray(num_classes, int)),
        jax.random.uniform(continuous_key, (num_continuous,), minval=-1.0, maxval=1.0),
    )


def to_generator_input(code: Code, num_classes: Sequence[int]) -> Array:
    """What the generator gets: one-hot classes and the numbers, `[sum of num_classes + num_continuous]`."""
    one_hot = [jax.nn.one_hot(code.categorical[..., i], num) for i, num in enumerate(num_classes)]
    return jnp.concatenate([*one_hot, code.continuous], axis=-1)


def entropy(num_classes: Sequence[int], num_continuous: int) -> float:
    """H(c) in nats: sum of ln K over the categorical codes, and ln 2 for each continuous one."""
    return sum(map(math.log, num_classes)) + num_continuous * math.log(2)


def log_prob(head: CodeHead, code: Code) -> tuple[Array, Array]:
    """Log Q(c | x) of the categorical and of the continuous codes, two scalars in nats."""
    chex.assert_equal_shape([head.mean, head.log_scale, code.continuous])
    chex.assert_shape(code.categorical, (len(head.logits),))
    categorical = [categorical_log_likelihood(logits, code.categorical[i]) for i, logits in enumerate(head.logits)]
    continuous = gaussian_log_likelihood(head.mean, 2 * head.log_scale, code.continuous)
    return sum(categorical, jnp.zeros(())), continuous


def information_bound(head: CodeHead, code: Code) -> Array:
    """I_Q of one example: log Q(c | x) + H(c), a scalar; minus it, lambda times, is added to G's and Q's loss."""
    num_classes = [logits.shape[-1] for logits in head.logits]
    categorical, continuous = log_prob(head, code)
    return categorical + continuous + entropy(num_classes, code.continuous.shape[-1])


def invariant_information(one: Array, other: Array) -> Array:
    """I(c; c') in nats of the categories c of images and c' of what must be of the same category, a scalar.

    P(c, c') is the mean of Q(c | x) Q(c' | x') over the batch, made symmetric. Information is H(c) - H(c | c'): at most
    ln K, where all categories are used alike and each image of a pair tells that of the other; 0 if all are of one
    category, or Q says the same of all. A small batch overstates it, by about K (K - 1) / (4 num) nats where Q is sure
    and pairs are unrelated.
    Source: Ji, Henriques & Vedaldi, "Invariant information clustering for unsupervised image classification and
    segmentation", ICCV 2019, equation 3.

    Args:
      one, other: logits of pairs, `[num, K]` each.
    """
    chex.assert_rank([one, other], 2)
    chex.assert_equal_shape([one, other])
    joint = jax.nn.softmax(one).T @ jax.nn.softmax(other) / len(one)
    joint = (joint + joint.T) / 2
    of_one = joint.sum(axis=1)  # and, being symmetric, of the other
    # Not `divergences.kl_categorical` of the table and its margins' product: that underflows if a category is unused.
    tiny = jnp.finfo(joint.dtype).tiny
    log = lambda p: jnp.log(jnp.maximum(p, tiny))  # noqa: E731
    return jnp.sum(joint * (log(joint) - log(of_one)[:, None] - log(of_one)[None]))
