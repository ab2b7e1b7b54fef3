"""InfoGAN: a GAN in which part of the noise, the code c, can be predicted from the generated image.

    min_{G, Q} max_D  V(D, G) - lambda I_Q,     I_Q = E_{c, z} log Q(c | G(z, c)) + H(c) <= I(c; G(z, c))

V is the value of the adversarial game, and I(c; x) the mutual information between code and image. Q(c | x) is a head on
the discriminator's features. It is categorical for each categorical code and Gaussian for continuous codes. The entropy
H(c) of the code does not depend on the networks. It makes I_Q a lower bound of the mutual information in nats. I_Q is 0
if Q always equals the prior, and negative if Q is worse than the prior. I_Q is H(c) = ln 10 if Q predicts a code of ten
classes without error. Source: Chen et al., "InfoGAN: interpretable representation learning by information maximizing
generative adversarial nets", NIPS 2016.

I_Q does not determine which images share a category. `invariant_information` does so without labels. It is the mutual
information between the predicted categories of an image and of a slightly rotated or shifted copy (Ji et al. 2019).
Read `experiments/infogan.py` next.
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
      categorical: one integer in 0 .. num_classes - 1 for each categorical code, `[num_categorical]`.
      continuous: numbers in (-1, 1), `[num_continuous]`.
    """

    categorical: Array
    continuous: Array


def sample_code(rng_key: PRNGKey, num_classes: Sequence[int], num_continuous: int) -> Code:
    """Draws a code from its prior: uniform classes, and uniform numbers in (-1, 1).

    Args:
      rng_key: consumed.
      num_classes: number of classes of each categorical code.
      num_continuous: number of continuous codes.

    Returns:
      The code of one example.
    """
    categorical_key, continuous_key = jax.random.split(rng_key)
    return Code(
        jax.random.randint(categorical_key, (len(num_classes),), 0, jnp.asarray(num_classes, int)),
        jax.random.uniform(continuous_key, (num_continuous,), minval=-1.0, maxval=1.0),
    )


def to_generator_input(code: Code, num_classes: Sequence[int]) -> Array:
    """Encodes a code for the generator: one-hot classes followed by the continuous codes.

    Args:
      code: the code of one example, or codes with leading axes `[...]`.
      num_classes: number of classes of each categorical code.

    Returns:
      An array `[..., sum of num_classes + num_continuous]`.
    """
    one_hot = [jax.nn.one_hot(code.categorical[..., i], num) for i, num in enumerate(num_classes)]
    return jnp.concatenate([*one_hot, code.continuous], axis=-1)


def entropy(num_classes: Sequence[int], num_continuous: int) -> float:
    """Entropy H(c) of the prior in nats: ln K for each categorical code of K classes, ln 2 for each continuous one.

    Args:
      num_classes: number of classes K of each categorical code.
      num_continuous: number of continuous codes, uniform on (-1, 1).
    """
    return sum(map(math.log, num_classes)) + num_continuous * math.log(2)


def log_prob(head: CodeHead, code: Code) -> tuple[Array, Array]:
    """Log probabilities log Q(c | x) for one image x, separately for its categorical and its continuous codes c.

    Args:
      head: the parameters of Q for the image.
      code: the code of the image.

    Returns:
      Two scalars in nats: the sum over the categorical codes and the sum over the continuous codes.

    Raises:
      AssertionError: if the code does not have the numbers of categorical and continuous codes of Q.
    """
    chex.assert_equal_shape([head.mean, head.log_scale, code.continuous])
    chex.assert_shape(code.categorical, (len(head.logits),))
    categorical = [categorical_log_likelihood(logits, code.categorical[i]) for i, logits in enumerate(head.logits)]
    continuous = gaussian_log_likelihood(head.mean, 2 * head.log_scale, code.continuous)
    return sum(categorical, jnp.zeros(())), continuous


def information_bound(head: CodeHead, code: Code) -> Array:
    """Estimate of the lower bound I_Q of the mutual information between code and image, from one generated image x.

        I_Q = log Q(c | x) + H(c)

    The losses of G and Q contain minus lambda times this value. H(c) is the entropy of the prior of the code c.

    Args:
      head: parameters of Q(c | x) for the generated image.
      code: the code from which the image was generated.

    Returns:
      A scalar, in nats.

    Raises:
      AssertionError: if the code does not have the numbers of categorical and continuous codes of Q.
    """
    num_classes = [logits.shape[-1] for logits in head.logits]
    categorical, continuous = log_prob(head, code)
    return categorical + continuous + entropy(num_classes, code.continuous.shape[-1])


def invariant_information(logits: Array, paired_logits: Array) -> Array:
    """Mutual information I(c; c') between the predicted categories of paired images.

        I(c; c') = sum_{c, c'} P(c, c') log P(c, c') / (P(c) P(c')),    P(c, c') = mean of Q(c | x) Q(c' | x')

    The mean is over the pairs (x, x') of the batch, and P is then made symmetric. With K categories, the value is at
    most ln K. It reaches ln K if all categories are equally frequent and both images of a pair always have the same
    category. It is 0 if Q is the same for all images. For a confident Q and unrelated pairs, a batch of `num` pairs
    overestimates the mutual information by about K (K - 1) / (4 num) nats. Source: Ji, Henriques & Vedaldi, "Invariant
    information clustering for unsupervised image classification and segmentation", ICCV 2019, equation 3.

    Args:
      logits: logits of Q for the images x, `[num, K]`.
      paired_logits: logits of Q for the paired images x', such as rotated or shifted copies, `[num, K]`.

    Returns:
      A scalar, in nats.

    Raises:
      AssertionError: if the logits are not matrices of the same shape.
    """
    chex.assert_rank([logits, paired_logits], 2)
    chex.assert_equal_shape([logits, paired_logits])
    joint = jax.nn.softmax(logits).T @ jax.nn.softmax(paired_logits) / len(logits)
    joint = (joint + joint.T) / 2
    marginal = joint.sum(axis=1)  # the marginal of c and of c', because the joint is symmetric
    # `divergences.kl_categorical` of the joint and the product of marginals would underflow if a category is unused.
    tiny = jnp.finfo(joint.dtype).tiny
    log = lambda p: jnp.log(jnp.maximum(p, tiny))  # noqa: E731
    return jnp.sum(joint * (log(joint) - log(marginal)[:, None] - log(marginal)[None]))
