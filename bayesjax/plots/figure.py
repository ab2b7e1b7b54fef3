"""Common steps of every figure: a new figure without a display, and an atomic write to a PNG file.

Read `lines.py` next for their use.
"""

from pathlib import Path
from typing import Any

from bayesjax import atomic


def new_figure(width: float, height: float, **grid: Any) -> tuple[Any, Any]:
    """Creates a figure that needs no display and no global state of matplotlib.

    Args:
      width, height: size in inches.
      **grid: arguments of `matplotlib.figure.Figure.subplots`, such as `nrows` and `ncols`.

    Returns:
      The figure and its axes, as `subplots` returns them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def save_figure(figure: Any, path: str | Path) -> Path:
    """Writes a figure to a PNG file at 120 dots per inch and creates the folder of the file.

    Args:
      figure: as `new_figure` returns it.
      path: the PNG file to write.

    Returns:
      The path.

    Raises:
      OSError: if the file cannot be written; the message is one line with the name of the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    return path
