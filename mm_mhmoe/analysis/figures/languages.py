"""Which experts each language uses. Shapes: L languages, E experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mm_mhmoe.analysis.figures.style import Drawing, new_figure


def by_language(counts: Mapping[str, Mapping[int, Tensor]], languages: Sequence[str]) -> Drawing:
    """A heat map of each model and sparse layer: rows languages, columns experts, values in even loads.

    Args:
        counts: model -> number of a layer, from 1 -> first choices (L, E).
    """
    deepest = max(len(layers) for layers in counts.values())
    height = 0.9 + max(1.2, 0.17 * len(languages))
    figure, axes = new_figure(len(counts), deepest, width=10, height=height * len(counts), share_y=True)
    image = None
    for row, (model, layers) in zip(axes, counts.items(), strict=True):
        for axis in row[len(layers) :]:
            axis.set_axis_off()
        for axis, (number, counts_LE) in zip(row, layers.items(), strict=False):
            share_LE = counts_LE / counts_LE.sum(dim=1, keepdim=True).clamp(min=1)
            image = axis.imshow(share_LE * share_LE.shape[1], cmap="viridis", vmin=0, vmax=4, aspect="auto")
            axis.set_title(f"{model}, layer {number}", fontsize=10)
            axis.set_yticks(range(len(languages)), [name or "no language" for name in languages], fontsize=8)
            axis.set_xticks(range(0, share_LE.shape[1], 1 if share_LE.shape[1] <= 16 else 8))
            axis.set_xlabel("expert", fontsize=9)
    assert image is not None
    bar = figure.colorbar(image, ax=[axis for row in axes for axis in row], fraction=0.03, pad=0.01, aspect=25,
                          extend="max")  # fmt: skip
    bar.set_label("load (1 = even)", fontsize=9)
    return Drawing(
        figure,
        "Experts that each language's sub-tokens choose first. One row a language, one column an expert; 1 is the even "
        "share of the language's choices. Rows that are alike: languages share experts. Expert numbers are arbitrary.",
    )
