"""What every figure here begins and ends with."""

from pathlib import Path
from typing import Any


def new(width: float, height: float, **grid: Any) -> tuple[Any, Any]:
    """A figure that needs no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def save(figure: Any, path: str | Path) -> Path:
    """Writes the PNG, and its folder where there is none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path
