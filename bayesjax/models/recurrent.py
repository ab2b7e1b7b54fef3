"""LSTM language model: an embedding of words, layers of LSTM, and a softmax over the vocabulary.

    i, f, g, o = x W + h U + b;   c <- sigmoid(f) c + sigmoid(i) tanh(g);   h <- sigmoid(o) tanh(c)

x are the inputs, h the outputs and c the cell states of a layer. W and U are kernels and b is the bias. The products
x W are computed for all times at once, outside of the loop over time. The gradient dU of U is also computed at once.
The backward loop returns the gradients a_t with respect to x W + h U + b, and dU = sum_t h_{t-1}' a_t is one product.
Dropout acts on the non-recurrent connections. Sources: Hochreiter & Schmidhuber, "Long short-term memory", 1997;
Zaremba, Sutskever & Vinyals, "Recurrent neural network regularization", 2014 (sizes, dropout and initial values). For a
posterior over the weights, with one draw for each window of words, use `objectives.bayes_by_backprop` (Fortunato,
Blundell & Vinyals, "Bayesian recurrent neural networks", 2017). Read `kernels/carrying.py` next, which passes the state
from window to window.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax.models.initializers import Initializer
from bayesjax.types import Array


class Carry(NamedTuple):
    """State of the layers of an LSTM.

    Attributes:
      h: outputs, `[num_layers, ..., features]`.
      c: cell states, `[num_layers, ..., features]`.
    """

    h: Array
    c: Array


class LSTM(nn.Module):
    """One LSTM layer.

    It maps inputs `[time, ..., in]` and initial states h and c, `[..., features]`, to outputs `[time, ..., features]`
    and the final h and c.

    Attributes:
      features: width of the state.
      kernel_init: initialiser of the kernels W and U.
      unroll: number of time steps in one iteration of the compiled loop. On a GPU an iteration costs more than its
        products, so unrolling all steps is fastest; compilation then takes longer.
    """

    features: int
    kernel_init: Initializer = nn.initializers.lecun_normal()
    unroll: int = 1

    @nn.compact
    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
        """Applies the layer to a sequence.

        Args:
          x: inputs `[time, ..., in]`.
          h: initial outputs, `[..., features]`.
          c: initial cell states, `[..., features]`.

        Returns:
          Outputs at all times, `[time, ..., features]`, and the final h and c, each `[..., features]`.
        """
        gates = nn.Dense(4 * self.features, kernel_init=self.kernel_init, name="input")(x)
        recurrent = self.param("recurrent", self.kernel_init, (self.features, 4 * self.features))
        outputs, c = lstm_over_time(gates, recurrent, h, c, self.unroll)
        return outputs, outputs[-1], c


def lstm_cell(gates: Array, c: Array) -> tuple[Array, Array]:
    """The elementwise part of one LSTM step.

        c <- sigmoid(f) c + sigmoid(i) tanh(g);   h <- sigmoid(o) tanh(c)

    Args:
      gates: i, f, g, o before their activations, `[..., 4 features]`.
      c: cell states, `[..., features]`.

    Returns:
      The new h and c, each `[..., features]`.
    """
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def lstm_over_time(gates: Array, recurrent: Array, h: Array, c: Array, unroll: int = 1) -> tuple[Array, Array]:
    """Applies an LSTM layer to all times in a loop, with a custom gradient.

        h_t, c_t = lstm_cell(gates_t + h_{t-1} U, c_{t-1})

    Args:
      gates: x W + b, `[time, ..., 4 features]`.
      recurrent: U, `[features, 4 features]`.
      h: initial outputs, `[..., features]`.
      c: initial cell states, `[..., features]`.
      unroll: number of time steps in one iteration of the compiled loop.

    Returns:
      Outputs at all times, `[time, ..., features]`, and the final cell states, `[..., features]`.
    """
    return _loop(gates, recurrent, h, c, unroll)


def _outputs(gates: Array, recurrent: Array, h: Array, c: Array, unroll: int) -> tuple[Array, Array]:
    return _forward(gates, recurrent, h, c, unroll)[0]


def _forward(gates: Array, recurrent: Array, h: Array, c: Array, unroll: int) -> tuple[tuple[Array, Array], tuple]:
    def step(carry: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        before, (h, c) = carry[1], lstm_cell(gates + carry[0] @ recurrent, carry[1])
        return (h, c), (h, before)

    (_, last), (outputs, cells) = jax.lax.scan(step, (h, c), gates, unroll=unroll)
    return (outputs, last), (gates, recurrent, h, outputs, cells)


def _backward(unroll: int, saved: tuple, cotangents: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
    gates, recurrent, h, outputs, cells = saved
    befores = jnp.concatenate([h[None], outputs[:-1]])
    sums = gates + befores @ recurrent  # for all times at once, which is cheaper than storing them

    def step(carry: tuple[Array, Array], at: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        gates, c, d_output = at
        _, pull = jax.vjp(lstm_cell, gates, c)
        d_gates, d_c = pull((carry[0] + d_output, carry[1]))
        return (d_gates @ recurrent.T, d_c), d_gates

    start = jnp.zeros_like(h), cotangents[1]
    (d_h, d_c), d_gates = jax.lax.scan(step, start, (sums, cells, cotangents[0]), reverse=True, unroll=unroll)
    d_recurrent = jnp.einsum("...i,...j->ij", befores, d_gates)
    return d_gates, d_recurrent, d_h, d_c


_loop = jax.custom_vjp(_outputs, nondiff_argnums=(4,))
_loop.defvjp(_forward, _backward)


class LanguageModel(nn.Module):
    """LSTM language model.

    It maps integer words `[time, ...]` and a `Carry` to logits of the next words `[time, ..., vocabulary]` and the next
    `Carry`.

    Attributes:
      vocabulary: number of words.
      features: width of the embedding and of every layer.
      num_layers: number of LSTM layers.
      dropout_rate: dropout rate of the inputs of each layer and of the softmax. Dropout is active if a call has
        `deterministic=False`, and uses the rng "dropout".
      initial_scale: limit of the initial weights, which are uniform on (-initial_scale, initial_scale).
      unroll: number of time steps in one iteration of the compiled loop, as in `LSTM`.
    """

    vocabulary: int
    features: int = 650
    num_layers: int = 2
    dropout_rate: float = 0.0
    initial_scale: float = 0.05
    unroll: int = 1

    @nn.compact
    def __call__(self, words: Array, carry: Carry, *, deterministic: bool = True) -> tuple[Array, Carry]:
        """Predicts the next word at all times.

        Args:
          words: word numbers `[time, ...]`.
          carry: the state of the layers before the first word, such as from `initial_carry`.
          deterministic: whether dropout is off.

        Returns:
          Logits of the next words, `[time, ..., vocabulary]`, and the state of the layers after the last word.
        """
        uniform = _uniform(self.initial_scale)
        x = nn.Embed(self.vocabulary, self.features, embedding_init=uniform)(words)
        ends = []
        for layer in range(self.num_layers):
            x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
            x, *end = LSTM(self.features, uniform, self.unroll)(x, carry.h[layer], carry.c[layer])
            ends.append(end)
        x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
        logits = nn.Dense(self.vocabulary, kernel_init=uniform, name="softmax")(x)
        return logits, Carry(*(jnp.stack(parts) for parts in zip(*ends, strict=True)))

    def initial_carry(self, batch_shape: tuple[int, ...]) -> Carry:
        """The state before the first word: zeros of shape `[num_layers, *batch_shape, features]`."""
        zeros = jnp.zeros((self.num_layers, *batch_shape, self.features))
        return Carry(zeros, zeros)


def _uniform(scale: float) -> Initializer:
    def init(rng_key: Array, shape: tuple[int, ...], dtype: type = jnp.float32) -> Array:
        return jax.random.uniform(rng_key, shape, dtype, -scale, scale)

    return init
