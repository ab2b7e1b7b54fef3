"""SegNet: an encoder that remembers where each maximum was, and a decoder that puts features back there.

Badrinarayanan, Kendall & Cipolla, "SegNet", PAMI 2017: stages of 3 x 3 convolutions as in VGG-16, each ended by 2 x 2
max-pooling; the decoder mirrors them, with unpooling by the remembered places in front of each stage. Dropout as in
Kendall, Badrinarayanan & Cipolla, "Bayesian SegNet", BMVC 2017: on the deepest half of the stages, at rate 0.5; many
passes with it are the posterior's draws. Normalisation is by groups of channels and not over the batch, so that the
network is a function of its parameters alone.
"""

from collections.abc import Sequence

import flax.linen as nn

from bayesjax.models.convolution import Conv
from bayesjax.models.initializers import fan_in_normal
from bayesjax.models.pooling import max_pool_with_indices, max_unpool
from bayesjax.types import Array

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""VGG-16's stages."""
SMALL_STAGES = ((32,), (48,), (64,), (64,))
"""Four stages of one convolution, for two cores."""


class SegNet(nn.Module):
    """Images `[..., height, width, channels]` to logits `[..., height, width, num_classes]`.

    Attributes:
      num_classes: labels of a pixel.
      stages: channels of the convolutions of each encoder stage; the decoder has the same backwards.
      dropout_rate: after the deepest half of the encoder's stages and of the decoder's, with the rng "dropout", where a
        call is not `deterministic`.
      group_size: channels that are normalised together.
    """

    num_classes: int
    stages: Sequence[Sequence[int]] = SMALL_STAGES
    dropout_rate: float = 0.5
    group_size: int = 16

    @nn.compact
    def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
        """Logits of every pixel."""
        shallow = len(self.stages) // 2
        places, sizes = [], []
        for depth, stage in enumerate(self.stages):
            for features in stage:
                x = self._layer(x, features)
            sizes.append((x.shape[-3], x.shape[-2]))
            x, where = max_pool_with_indices(x)
            places.append(where)
            if depth >= shallow:
                x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        for depth in reversed(range(len(self.stages))):
            x = max_unpool(x, places[depth], sizes[depth])
            before = self.stages[depth - 1][-1] if depth else self.stages[0][0]
            for features in (*reversed(self.stages[depth][:-1]), before):
                x = self._layer(x, features)
            if depth >= shallow:
                x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        return nn.Dense(self.num_classes)(x)

    def _layer(self, x: Array, features: int) -> Array:
        """Convolution, normalisation of each image by groups of channels, ReLU."""
        x = Conv(features, (3, 3), use_bias=False, kernel_init=fan_in_normal(2**0.5))(x)
        return nn.relu(
            nn.GroupNorm(num_groups=None, group_size=min(self.group_size, features), reduction_axes=(-3, -2, -1))(x)
        )
