"""A computation in parts: whole when it is not broken, and equal to it when it is."""

import numpy as np
import pytest

from experiments import common
from experiments.parts import in_parts


def squares(calls, fails_at=None):
    def compute(start, stop):
        if start == fails_at:
            raise KeyboardInterrupt
        calls.append((start, stop))
        return {"square": np.arange(start, stop, dtype=np.float32) ** 2 / 3, "twice": 2 * np.arange(start, stop)}

    return compute


def test_an_interrupted_run_goes_on_with_the_first_part_not_done(tmp_path, capsys):
    def go(resume, calls, fails_at=None):
        with common.Experiment("parts", common.RunFlags(out=str(tmp_path), dataset="d", resume=resume)) as run:
            return in_parts(run, "numbers", squares(calls, fails_at), 8, 3)

    before, after = [], []
    with pytest.raises(SystemExit) as caught:
        go(False, before, fails_at=6)
    assert caught.value.code == 130 and before == [(0, 3), (3, 6)]
    found = go(True, after)
    assert after == [(6, 8)]
    np.testing.assert_array_equal(found["square"], np.arange(8, dtype=np.float32) ** 2 / 3)
    np.testing.assert_array_equal(found["twice"], 2 * np.arange(8))
    assert "numbers: 100%" in capsys.readouterr().err
