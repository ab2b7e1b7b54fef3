"""SegNet: semantic segmentation by an encoder with max-pooling and a decoder that reuses the pooling indices.

The encoder has stages of 3 x 3 convolutions as in VGG-16, each followed by 2 x 2 max-pooling. The decoder mirrors the
stages and begins each by unpooling with the indices of the encoder (`pooling.py`). Dropout with rate 0.5 on the deepest
half of the stages gives a Bayesian SegNet, whose posterior draws are forward passes with dropout. Group normalisation
instead of batch normalisation makes the network a function of its parameters alone. Sources: Badrinarayanan, Kendall &
Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image segmentation", PAMI 2017; Kendall,
Badrinarayanan & Cipolla, "Bayesian SegNet", BMVC 2017. Read `evaluation/segmentation.py` next for the measures.
"""

from collections.abc import Sequence

import flax.linen as nn

from bayesjax.models.convolution import Conv
from bayesjax.models.initializers import fan_in_normal
from bayesjax.models.pooling import max_pool_with_indices, max_unpool
from bayesjax.types import Array

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""The stages of VGG-16, as in the SegNet paper."""
SMALL_STAGES = ((32,), (48,), (64,), (64,))
"""Four stages of one convolution each, for training on two CPU cores."""


class SegNet(nn.Module):
    """SegNet, from images `[..., height, width, channels]` to logits `[..., height, width, num_classes]`.

    Attributes:
      num_classes: number of classes of a pixel.
      stages: numbers of channels of the convolutions of each encoder stage. The decoder has them in reverse order.
      dropout_rate: dropout rate after the deepest half of the stages of encoder and decoder. Dropout is active if a
        call has `deterministic=False`, and uses the rng "dropout".
      group_size: number of channels in a group of the normalisation.
    """

    num_classes: int
    stages: Sequence[Sequence[int]] = SMALL_STAGES
    dropout_rate: float = 0.5
    group_size: int = 16

    @nn.compact
    def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
        """Logits of the classes for every pixel."""
        shallow = len(self.stages) // 2
        indices, sizes = [], []
        for depth, stage in enumerate(self.stages):
            for features in stage:
                x = self._layer(x, features)
            sizes.append((x.shape[-3], x.shape[-2]))
            x, index = max_pool_with_indices(x)
            indices.append(index)
            if depth >= shallow:
                x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        for depth in reversed(range(len(self.stages))):
            x = max_unpool(x, indices[depth], sizes[depth])
            before = self.stages[depth - 1][-1] if depth else self.stages[0][0]
            for features in (*reversed(self.stages[depth][:-1]), before):
                x = self._layer(x, features)
            if depth >= shallow:
                x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        return nn.Dense(self.num_classes)(x)

    def _layer(self, x: Array, features: int) -> Array:
        """Convolution, group normalisation and ReLU."""
        x = Conv(features, (3, 3), use_bias=False, kernel_init=fan_in_normal(2**0.5))(x)
        return nn.relu(
            nn.GroupNorm(num_groups=None, group_size=min(self.group_size, features), reduction_axes=(-3, -2, -1))(x)
        )
