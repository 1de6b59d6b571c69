"""The figure of a visual tokenizer: pictures and what their codes keep of them, use of the codes, and training.

Shapes: H W pixels, h w patches, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from mm_mhmoe.analysis.code_usage import CodeReport
from mm_mhmoe.analysis.figures.style import INK, OKABE_ITO, Drawing

Course = Sequence[tuple[int, float]]
"""(step, value) of a metric."""

CURVES = {
    "train/distance": "1 - cosine to the teacher, a batch",
    "train/code_perplexity": "perplexity of a batch's codes",
    "train/codes_in_batch": "part of the codes in a batch",
}


class PictureCodes(NamedTuple):
    """One picture. Pixels are in [0, 1]. decoded_3HW: what the decoder draws; None: its teacher is not pixels."""

    picture_3HW: Tensor
    averages_3HW: Tensor
    decoded_3HW: Tensor | None
    codes_hw: Tensor
    cosine_hw: Tensor


def visual_codes(
    pictures: Sequence[PictureCodes], counts_K: Tensor, report: CodeReport, courses: Mapping[str, Course]
) -> Drawing:
    """Pictures across, and below each what its codes keep; then use of the codes, and the curves that were logged.

    Args:
        counts_K: how often each code was used on the pictures that `report` is about.
        courses: logged metrics by name, those of `CURVES`.
    """
    decoded = all(picture.decoded_3HW is not None for picture in pictures)
    names = ["picture", "mean patch\nof each code", *(["decoder"] if decoded else []), "codes", "cosine to\nteacher"]
    across = 1.35 * max(4, len(pictures)) + 1.0
    figure = Figure(figsize=(across, 1.4 * len(names) + 2.6), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.4 * len(names), 2.6])
    above, below = parts[0, 0], parts[1, 0]
    axes = above.subplots(len(names), len(pictures), squeeze=False)
    last = None
    for column, picture in enumerate(pictures):
        rows = iter(axes[:, column])
        for pixels_3HW in (picture.picture_3HW, picture.averages_3HW, picture.decoded_3HW):
            if pixels_3HW is not None:
                next(rows).imshow(pixels_3HW.permute(1, 2, 0).clamp(0, 1).numpy())
        # Neighbouring numbers of codes mean nothing, so they are spread over the colours.
        next(rows).imshow((picture.codes_hw * 7919 % 257).numpy(), cmap="nipy_spectral", vmin=0, vmax=256)
        last = next(rows).imshow(picture.cosine_hw.numpy(), cmap="viridis", vmin=0.0, vmax=1.0)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=8, color=INK)
    if last is not None:
        above.colorbar(last, ax=list(axes[-1]), fraction=0.03).ax.tick_params(labelsize=7)
    _curves(below, counts_K, report, courses)
    share = 100 * report.used / report.num_codes
    return Drawing(
        figure,
        f"{report.used:,} of {report.num_codes:,} codes ({share:.0f}%) occur in {report.patches:,} patches; perplexity "
        f"{report.perplexity:,.1f}. Mean cosine of decoded codes to the teacher: {report.cosine:.3f}; one direction "
        f"for all patches would reach {report.one_code_cosine:.3f}. Equal codes have equal colours in the row of "
        "codes. Codes that are used evenly lie on the dotted line.",
    )


def _curves(figure: Figure | SubFigure, counts_K: Tensor, report: CodeReport, courses: Mapping[str, Course]) -> None:
    drawn = {name: courses[name] for name in CURVES if courses.get(name)}
    axes: Sequence[Axes] = list(figure.subplots(1, 1 + len(drawn), squeeze=False)[0])
    ordered = torch.sort(counts_K, descending=True).values[: report.used]
    axes[0].plot(range(1, report.used + 1), ordered.numpy(), color=OKABE_ITO[0], linewidth=1.2)
    axes[0].axhline(report.patches / report.num_codes, color="0.5", linewidth=0.8, linestyle=":")
    axes[0].set_yscale("log")
    axes[0].set_title("patches of each code", fontsize=8, color=INK)
    axes[0].set_xlabel("codes, most used first", fontsize=8)
    axes[0].set_xlim(0, report.num_codes)
    for index, (axis, (name, course)) in enumerate(zip(axes[1:], drawn.items(), strict=True), start=1):
        axis.plot([step for step, _ in course], [value for _, value in course], color=OKABE_ITO[index], linewidth=1.0)
        axis.set_title(CURVES[name], fontsize=8, color=INK)
        axis.set_xlabel("step", fontsize=8)
        axis.set_ylim(bottom=0)
    for axis in axes:
        axis.tick_params(labelsize=7, colors=INK)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
