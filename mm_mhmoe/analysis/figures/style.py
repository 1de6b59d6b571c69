"""What the figures share: colours that colour-blind readers can tell apart, and a caption below each figure."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
"""Okabe and Ito 2008."""

INK, FAINT = "#22262b", "#d5d9df"
_CHARACTERS_PER_INCH = 13.5


class Drawing(NamedTuple):
    """A figure and the sentences that say how to read it."""

    figure: Figure
    caption: str


def new_figure(
    rows: int, columns: int, *, width: float, height: float, share_y: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of rows x columns axes, in inches; no global state of matplotlib is touched."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    for axis in axes.flat:
        axis.tick_params(labelsize=9, colors=INK)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure, axes.tolist()


def render(drawing: Drawing) -> bytes:
    """The figure with its caption below, as PNG."""
    figure = drawing.figure
    caption_lines = textwrap.wrap(drawing.caption, int(figure.get_figwidth() * _CHARACTERS_PER_INCH))
    figure.set_figheight(figure.get_figheight() + 0.17 * len(caption_lines) + 0.1)
    figure.supxlabel("\n".join(caption_lines), x=0.01, ha="left", fontsize=9, color=INK)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, facecolor="white")
    return content.getvalue()


def model_colour(index: int) -> str:
    return OKABE_ITO[index % len(OKABE_ITO)]


def expert_colours(count: int) -> list[str]:
    """One colour an expert: Okabe-Ito up to eight; beyond, steps of viridis, which numbers must tell apart."""
    return list(OKABE_ITO[:count]) if count <= len(OKABE_ITO) else ordered_colours(count)


def ordered_colours(count: int) -> list[str]:
    """Colours of an order, from dark to light."""
    return [to_hex(colormaps["viridis"](i / max(1, count - 1))) for i in range(count)]


def ink_on(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour."""
    red, green, blue = (int(to_hex(colour)[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def legend_above(figure: Figure, axis: Axes, models: Sequence[str]) -> None:
    """One legend for all axes: the models in their order, then what else the axis names."""
    handles, labels = axis.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: models.index(labels[i]) if labels[i] in models else len(models))
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside upper center",
        ncols=min(4, len(labels)),
        frameon=False,
        fontsize=9,
    )
