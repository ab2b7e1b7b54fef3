"""Discriminators with a second head on the same features, for ACGAN and InfoGAN.

    logit = a' h(x),    outputs = head(h(x)),    h = the trunk's `embed`

h(x) are the features of an input x, and a are the weights of the logit. `TwoHeadDiscriminator` is the discriminator of
ACGAN if its outputs are class logits. `CodeDiscriminator` splits the outputs into the parameters of InfoGAN's Q(c | x).
The trunk is any module with a method `embed`, such as those of `dcgan.py`, `sngan.py` and `mlp.py`. The last layer of
the trunk is not used and has no parameters.

Sources: Chen et al., "InfoGAN: interpretable representation learning by information maximizing generative adversarial
nets", NIPS 2016, appendix C; Odena, Olah & Shlens, "Conditional image synthesis with auxiliary classifier GANs", ICML
2017. Read `objectives/infogan.py` and `objectives/auxiliary_classifier.py` next for the objectives.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from bayesjax.models.dcgan import DCGAN_INIT, make_norm
from bayesjax.models.initializers import Initializer
from bayesjax.types import Array, CodeHead


class TwoHeadDiscriminator(nn.Module):
    """Discriminator with two heads, from inputs `[batch, ...]` to logits `[batch]` and outputs `[batch, num_outputs]`.

    Attributes:
      trunk: a module with `embed(x) -> [batch, num_features]`.
      num_outputs: number of outputs of the second head; the number of classes for ACGAN.
      hidden: widths of the hidden layers of the second head; ACGAN has none.
      norm: normalisation of the hidden layers: "group", "batch" or "none".
      kernel_init: initialiser of kernels.
    """

    trunk: Any
    num_outputs: int
    hidden: Sequence[int] = ()
    norm: str = "group"
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Computes both heads for inputs `x` `[batch, ...]`.

        Returns:
          The logits of real against fake, `[batch]`, and the outputs of the second head, `[batch, num_outputs]`.
        """
        features = self.trunk.embed(x)
        logit = nn.Dense(1, kernel_init=self.kernel_init, name="logit")(features)[..., 0]
        for layer, width in enumerate(self.hidden):
            features = nn.Dense(width, kernel_init=self.kernel_init, name=f"hidden_{layer}")(features)
            features = nn.leaky_relu(make_norm(self.norm, width)(features), 0.2)
        return logit, nn.Dense(self.num_outputs, kernel_init=self.kernel_init, name="outputs")(features)


class CodeDiscriminator(nn.Module):
    """InfoGAN's D and Q, from inputs `[batch, ...]` to logits `[batch]` and a `CodeHead` with a leading batch axis.

    Attributes:
      trunk: a module with `embed(x) -> [batch, num_features]`.
      num_classes: number of classes of each categorical code.
      num_continuous: number of continuous codes.
      hidden: widths of the hidden layers of Q.
      norm: normalisation of the hidden layers: "group", "batch" or "none".
      is_scale_fixed: whether the standard deviation of Q is always 1, as in the authors' program for MNIST. The log
        likelihood of continuous codes is then minus half their squared error, up to a constant.
      kernel_init: initialiser of kernels.
    """

    trunk: Any
    num_classes: Sequence[int] = (10,)
    num_continuous: int = 2
    hidden: Sequence[int] = (128,)
    norm: str = "group"
    is_scale_fixed: bool = False
    kernel_init: Initializer = DCGAN_INIT

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, CodeHead]:
        """Computes D and Q for inputs `x` `[batch, ...]`.

        Returns:
          The logits of real against fake, `[batch]`, and the parameters of Q(c | x), with a leading batch axis.
        """
        sizes = [*self.num_classes, self.num_continuous, *([] if self.is_scale_fixed else [self.num_continuous])]
        heads = TwoHeadDiscriminator(self.trunk, sum(sizes), self.hidden, self.norm, self.kernel_init, name="heads")
        logit, outputs = heads(x)
        parts = jnp.split(outputs, list(itertools.accumulate(sizes))[:-1], axis=-1)
        num = len(self.num_classes)
        mean = parts[num]
        return logit, CodeHead(tuple(parts[:num]), mean, jnp.zeros_like(mean) if self.is_scale_fixed else parts[-1])
