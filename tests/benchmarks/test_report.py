"""Tables of the committed benchmark results: lines that are published, of every kind of table."""

import json
import re

import pytest

from benchmarks import report
from benchmarks.measure import RESULTS

PUBLISHED = {
    "weights": [
        "| bayesjax SGHMC T=0 | 6.26 | 4.82 to 8.75 | 0.6 |",
        "| torch, 2.4 M normals | 8.58 | 8.13 to 9.85 | - |",
        "| bayesjax SGHMC / bayesjax SGD with momentum | 1.14 ± 0.02 | 0.85 to 1.81 | <= 1.25 |",
        "| bayesian-torch | 689 |",
        "`python -m benchmarks.weights --repeats 31`: run on 1 CPU device (2 cores), commit b14e4153446a",
    ],
    "convolutions": ["| 64 x 64 | 54 | 0.73 | 1.14 | 0 |"],
    "samplers": [
        "| bayesjax hmc, 16 data | 0.0118 | 0.0111 to 0.0145 | 2.3 |",
        "| numpyro | 0.45 ± 0.03 | 4.64 ± 0.14 | 1.062 |",
        "| blackjax sghmc | 1.097 ± 0.001 | fails |",
    ],
    "nuts": [
        "| funnel | 0.21 ± 0.04 | 0.33 ± 0.05 | 0.25 ± 0.03 | - | - |",
        "| gaussian | 6.11 ± 0.11 | 5.87 ± 0.13 | 6.03 ± 0.13 | 1.04 ± 0.03 | 1.01 ± 0.03 |",
        "| schools_centred | BlackJAX | 19.3 | 23930 | 1.177 | 2.54 |",
    ],
    "tpu": [
        "| hmc | 1 | 1 x 1 | 1.38e+03 | 1.06e+04 | 450 | - |",
        "| bayesian_gan | 64 | 4 x 16 | 0.278 | 3.42 | 9 | 7 all-gather, 6.92 MB; 4 all-reduce, 0.85 MB |",
        "| vae | 16 | 0.0783 ms, 29 % | 0.107 ms, 32 % | 0.0532 ms, 40 % | 0.0594 ms, 28 % |",
        "| v4 | 275 | 1200 | 32 | 45 | docs.cloud.google.com/tpu/docs/v4; links: jax-ml.github.io/scaling-book/tpus |",
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_lines(name):
    tables = re.sub(r" +", " ", report.render(json.loads((RESULTS / f"{name}.json").read_text()))).splitlines()
    assert not [line for line in PUBLISHED[name] if line not in tables]
