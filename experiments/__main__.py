"""`python -m experiments` lists every experiment with the first line of its description."""

import ast

from experiments.harness.provenance import ROOT


def experiments() -> dict[str, str]:
    """Maps the name of every experiment to the first line of its docstring, without importing the experiment."""
    places = {path.stem: path for path in (ROOT / "experiments").glob("[!_]*.py") if path.stem != "sample"}
    places |= {path.parent.name: path for path in (ROOT / "experiments").glob("*/__main__.py")}
    return {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        for name, path in sorted(places.items())
    }


if __name__ == "__main__":
    for name, description in experiments().items():
        print(f"python -m experiments.{name:32} {description}")
