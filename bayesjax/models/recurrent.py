"""A language model: words embedded, layers of LSTM, a softmax over the vocabulary; it goes on where it left off.

    i, f, g, o = x W + h U + b;   c <- sigmoid(f) c + sigmoid(i) tanh(g);   h <- sigmoid(o) tanh(c)

The input's products are taken for all times at once, outside the loop over time. Dropout is on the connections that do
not recur. Sources: Hochreiter & Schmidhuber, "Long short-term memory", 1997; Zaremba, Sutskever & Vinyals, "Recurrent
neural network regularization", 2014, for sizes, dropout and initial values. A posterior over its weights, one draw for
a whole window of words, is `objectives.bayes_by_backprop` (Fortunato, Blundell & Vinyals, "Bayesian recurrent neural
networks", 2017); `kernels.carrying` keeps the state from window to window.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax.models.initializers import Initializer
from bayesjax.types import Array


class Carry(NamedTuple):
    """Where the layers of an LSTM stand.

    Attributes:
      h: outputs `[num_layers, ..., features]`.
      c: cells `[num_layers, ..., features]`.
    """

    h: Array
    c: Array


class LSTM(nn.Module):
    """One layer: `[time, ..., in]` and the state before it to `[time, ..., features]` and the state after it.

    Attributes:
      features: width of the state.
      kernel_init: of both kernels.
    """

    features: int
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
        """Outputs of all times, and the last h and c."""
        gates = nn.Dense(4 * self.features, kernel_init=self.kernel_init, name="input")(x)
        recurrent = self.param("recurrent", self.kernel_init, (self.features, 4 * self.features))

        def step(carry: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = carry
            i, f, g, o = jnp.split(gates + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        (h, c), outputs = jax.lax.scan(step, (h, c), gates)
        return outputs, h, c


class LanguageModel(nn.Module):
    """Words `[time, ...]` and a `Carry` to logits of the next word `[time, ..., vocabulary]` and the next `Carry`.

    Attributes:
      vocabulary: number of words.
      features: width of the embedding and of every layer.
      num_layers: of LSTM.
      dropout_rate: of what enters each layer and the softmax, with the rng "dropout", where a call is not
        `deterministic`.
      initial_scale: weights begin uniform on (-initial_scale, initial_scale).
    """

    vocabulary: int
    features: int = 650
    num_layers: int = 2
    dropout_rate: float = 0.0
    initial_scale: float = 0.05

    @nn.compact
    def __call__(self, words: Array, carry: Carry, *, deterministic: bool = True) -> tuple[Array, Carry]:
        """Logits, and where the layers stand after the last word."""
        uniform = _uniform(self.initial_scale)
        x = nn.Embed(self.vocabulary, self.features, embedding_init=uniform)(words)
        ends = []
        for layer in range(self.num_layers):
            x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
            x, *end = LSTM(self.features, kernel_init=uniform)(x, carry.h[layer], carry.c[layer])
            ends.append(end)
        x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        logits = nn.Dense(self.vocabulary, kernel_init=uniform, name="softmax")(x)
        return logits, Carry(*(jnp.stack(parts) for parts in zip(*ends, strict=True)))

    def start(self, batch_shape: tuple[int, ...]) -> Carry:
        """The state before the first word: zeros, `[num_layers, *batch_shape, features]`."""
        zeros = jnp.zeros((self.num_layers, *batch_shape, self.features))
        return Carry(zeros, zeros)


def _uniform(scale: float) -> Initializer:
    def init(rng_key: Array, shape: tuple[int, ...], dtype: type = jnp.float32) -> Array:
        return jax.random.uniform(rng_key, shape, dtype, -scale, scale)

    return init
