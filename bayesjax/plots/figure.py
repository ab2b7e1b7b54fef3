"""What every figure here begins and ends with."""

from pathlib import Path
from typing import Any

from bayesjax.training import files


def new(width: float, height: float, **grid: Any) -> tuple[Any, Any]:
    """A figure that needs no display and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def save(figure: Any, path: str | Path) -> Path:
    """Writes the figure as a PNG file and creates its folder if there is none.

    Raises:
      OSError: if the file cannot be written; the message is one line with its name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    return path
