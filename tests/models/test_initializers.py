"""Initial weights: the law of each type, drawn in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models import initializers


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_weights_are_those_of_float32_rounded(dtype):
    """A draw in bfloat16 has 128 values and a mean of -0.012 standard deviations."""
    for init in (initializers.normal(0.02), initializers.fan_in_normal()):
        narrow, wide = (init(jax.random.key(0), (30, 5), each) for each in (dtype, jnp.float32))
        assert narrow.dtype == dtype
        np.testing.assert_array_equal(narrow, wide.astype(dtype))
