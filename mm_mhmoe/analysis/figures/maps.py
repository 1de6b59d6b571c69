"""Which expert looks at which patch of a picture. Shapes: C channels, H heads, N patches."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from torch import Tensor

from mm_mhmoe.analysis.figures.style import Drawing, expert_colours, ink_on, new_figure, ordered_colours
from mm_mhmoe.analysis.routing_sums import distinct_experts

MOST_HEADS = 8
_NUMBERED_UP_TO = 12


def assignment_maps(
    pictures: Sequence[tuple[str, Tensor, Tensor]], *, num_experts: int, layer: int, name: str
) -> Drawing:
    """One row a picture: itself, the experts of each head, and how many different ones a patch has.

    Args:
        pictures: (caption, uint8 pixels (C, H, W), first choices (H, N)) of each.
        layer: number of the layer, from 1.
    """
    heads = len(pictures[0][2])
    shown = min(heads, MOST_HEADS)
    side = round(pictures[0][2].shape[1] ** 0.5)
    columns = shown + (2 if heads > 1 else 1)
    size = 10 / columns
    figure, axes = new_figure(len(pictures), columns, width=10, height=(size + 0.3) * len(pictures) + 0.5)
    colours = expert_colours(num_experts)
    counted = ordered_colours(min(heads, num_experts))
    for row, (caption, pixels_CHW, first_HN) in zip(axes, pictures, strict=True):
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        row[0].imshow(pixels_CHW.permute(1, 2, 0), extent=(-0.5, side - 0.5, side - 0.5, -0.5))
        row[0].set_title(textwrap.shorten(caption, int(14 * size), placeholder=" ..."), fontsize=8)
        for head in range(shown):
            _cells(row[1 + head], first_HN[head].view(side, side), colours)
            row[1 + head].set_title(f"head {head + 1}", fontsize=9)
        if heads > 1:
            distinct_N = distinct_experts(first_HN.t(), num_experts)
            _cells(row[-1], distinct_N.view(side, side), counted, start=1)
            row[-1].set_title(f"different: {distinct_N.float().mean():.1f}", fontsize=8)
    if num_experts > 16:
        figure.suptitle(f"{name}, layer {layer}: experts from 0 (dark) to {num_experts - 1} (light)", fontsize=10)
    else:
        keys = [Patch(color=colour, label=str(expert)) for expert, colour in enumerate(colours)]
        figure.legend(handles=keys, loc="outside upper center", ncols=num_experts, fontsize=8, frameon=False,
                      title=f"{name}, layer {layer}: expert", title_fontsize=9)  # fmt: skip
    return Drawing(
        figure,
        f"Sub-token assignment over pictures drawn at random. MH-MoE cuts every patch into {heads} sub-tokens, one "
        "for each head. Colour and number: the expert that a head's sub-token of the patch chooses first. Colours that "
        "follow the outlines of the picture: experts care about content; stripes or one colour: about place, or "
        "nothing. "
        "Last column: how many different experts one patch has, and their mean (darker is fewer).",
    )


def _cells(axis: Axes, values_hw: Tensor, colours: Sequence[str], *, start: int = 0) -> None:
    last = start + len(colours) - 1
    axis.imshow(values_hw, cmap=ListedColormap(colours), vmin=start - 0.5, vmax=last + 0.5, interpolation="nearest")
    if len(values_hw) > _NUMBERED_UP_TO:
        return
    for y, line in enumerate(values_hw.tolist()):
        for x, value in enumerate(line):
            axis.text(x, y, str(value), ha="center", va="center", fontsize=7, color=ink_on(colours[value - start]))
