"""`python -m tests.migration NAME ...` rewrites the results files of experiments: named metrics become rows.

`tests/migration/NAME.py` holds `row_keys(name, config)`, which returns `method`, `measure` and further keys of the
metric called `name`. It may hold `new_config(config)`, which returns the configuration with its present flags,
`new_row(row)`, which adds fields to a row, and `more_rows(rows)`, which returns rows that follow from others.
"""

import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTS = ("errors", "splits", "by epoch")


def converted(results: dict, module) -> dict:
    """A results file's contents with rows in place of metrics."""
    rows = []
    for name, entry in results["metrics"].items():
        keys = {key: value for key, value in module.row_keys(name, results["config"]).items() if value is not None}
        first = {key: keys.pop(key) for key in ("method", "measure") if key in keys}
        assert "measure" in first, name
        fields = {("values" if key in LISTS else key): value for key, value in entry.items()}
        fields = {key: value for key, value in fields.items() if value is not None or key not in ("stderr", "sd")}
        assert not set(keys) & set(fields), name
        rows.append(getattr(module, "new_row", dict)(first | keys | fields))
    rows += getattr(module, "more_rows", lambda rows: [])(rows)
    config = getattr(module, "new_config", dict)(results["config"])
    items = {"config": config, "metrics": rows}
    return {("rows" if key == "metrics" else key): items.get(key, value) for key, value in results.items()}


for experiment in sys.argv[1:]:
    module = importlib.import_module(f"tests.migration.{experiment}")
    for path in sorted((ROOT / "experiments" / "results").glob(f"{experiment}-*.json")):
        results = json.loads(path.read_text())
        if "metrics" in results:
            path.write_text(json.dumps(converted(results, module), indent=2) + "\n")
            print(path.name)
