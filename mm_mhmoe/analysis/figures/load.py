"""Figures of load: how many experts are in use, and how much each of them does. Shapes: P places, E experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import torch
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from mm_mhmoe.analysis.figures.style import Drawing, ink_on, legend_above, model_colour, new_figure
from mm_mhmoe.analysis.load import active_share
from mm_mhmoe.models.upcycling.layers import Place, layer_of

Loads = Mapping[str, Mapping[str, Mapping[Place, Tensor]]]
"""Model -> modality -> sparse layer or pool of experts that sees it -> choices that each expert computed: (E,)."""

_TOP = 4.0
"""Loads above so many even ones share one colour."""


def activation(loads: Loads, *, threshold: float, sweep: Sequence[float]) -> Drawing:
    """Share of the experts in use: bars for each layer and modality, and how it depends on the threshold.

    Args:
        threshold: of the bars, in uniform loads.
        sweep: thresholds of the curves.
    """
    modalities = list(next(iter(loads.values())))
    figure, (axes,) = new_figure(1, len(modalities) + 1, width=10, height=3.2, share_y=True)
    ticks = {modality: _ticks([own[modality] for own in loads.values()]) for modality in modalities}
    width = 0.8 / len(loads)
    for index, (model, counts) in enumerate(loads.items()):
        for axis, modality in zip(axes, modalities, strict=False):
            own = counts[modality]
            places = [ticks[modality].index(_tick(place)) - 0.4 + width * (index + 0.5) for place in own]
            shares = [active_share(counts_E, threshold) for counts_E in own.values()]
            bars = axis.bar(places, shares, width * 0.92, color=model_colour(index), label=model)
            if len(ticks[modality]) * len(loads) <= 12:
                axis.bar_label(bars, [f"{100 * share:.0f}" for share in shares], fontsize=8, padding=1)
        swept = [mean(active_share(counts_E, at) for counts_E in all_tokens(counts).values()) for at in sweep]
        marker = "osD^vP*X"[index % 8]
        axes[-1].plot(sweep, swept, color=model_colour(index), marker=marker, markersize=4, label=model)
    for axis, modality in zip(axes, modalities, strict=False):
        axis.set_title(f"{modality} tokens", fontsize=10)
        axis.set_xticks(range(len(ticks[modality])), [tick.replace(" ", "\n") for tick in ticks[modality]])
        axis.set_xlabel("layer", fontsize=9)
        axis.set_ylim(0, 1.08)
    axes[-1].set_title("all tokens and layers", fontsize=10)
    axes[-1].set_xlabel("threshold, in even loads", fontsize=9)
    axes[-1].axvline(threshold, color="0.6", linewidth=1, linestyle=":")
    axes[-1].grid(alpha=0.3)
    axes[0].set_ylabel("experts in use", fontsize=9)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_above(figure, axes[0], list(loads))
    return Drawing(
        figure,
        f"Share of the experts in use. Bars: experts that do more than {threshold:g} times their even share of the "
        "work in a layer. Curves: the same for other thresholds. Perfectly even load would stay at 100% up to 1 and "
        "then fall to 0; a curve that falls early means that few experts do most of the work. The paper states no "
        "threshold for its activation ratio, so these numbers cannot be set beside its own.",
    )


def expert_load(loads: Loads) -> Drawing:
    """A heat map of each model and modality: rows layers, columns experts, values in even loads."""
    modalities = list(next(iter(loads.values())))
    relative = {
        model: {modality: _in_even_loads(torch.stack(list(counts.values()))) for modality, counts in own.items()}
        for model, own in loads.items()
    }
    highest = max(values_PE.max().item() for own in relative.values() for values_PE in own.values())
    top = min(highest, _TOP)  # else one collapsed model would leave the others dark
    deepest = max(len(values_PE) for own in relative.values() for values_PE in own.values())
    panel = 0.85 + (0.32 if deepest <= 4 else 0.2) * deepest
    figure, axes = new_figure(len(loads), len(modalities), width=10, height=0.3 + panel * len(loads))
    image = None
    for row, (model, own) in enumerate(relative.items()):
        for axis, modality in zip(axes[row], modalities, strict=True):
            values_PE = own[modality]
            image = axis.imshow(values_PE, cmap="viridis", vmin=0, vmax=top, aspect="auto")
            axis.set_title(f"{model}: {modality} tokens", fontsize=10)
            names = [f"layer {_tick(p)}" if deepest <= 4 else _tick(p) for p in loads[model][modality]]
            axis.set_yticks(range(len(names)), names)
            experts = values_PE.shape[1]
            axis.set_xticks(range(0, experts, 1 if experts <= 16 else 8))
            if row == len(relative) - 1:
                axis.set_xlabel("expert", fontsize=9)
            if experts <= 16:
                for place, values_E in enumerate(values_PE.tolist()):
                    for expert, value in enumerate(values_E):
                        colour = ink_on(image.cmap(image.norm(value)))  # type: ignore[arg-type]
                        axis.text(expert, place, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    assert image is not None
    bar = figure.colorbar(image, ax=[axis for row in axes for axis in row], fraction=0.03, pad=0.01, aspect=25,
                          extend="max" if highest > top else "neither")  # fmt: skip
    bar.set_label("load (1 = even)", fontsize=9)
    return Drawing(
        figure,
        "What each expert does. One row a layer, one column an expert; 1 is the even share of the layer's work, 0 an "
        "idle expert. Where pictures, texts or pairs have experts of their own, a row is of these alone. Rows that "
        "differ between image and text tokens: experts have taken sides. Expert numbers are arbitrary: columns of "
        "different trainings do not belong together.",
    )


def all_tokens(counts: Mapping[str, Mapping[Place, Tensor]]) -> dict[Place, Tensor]:
    """The choices of all modalities together, at every place."""
    total: dict[Place, Tensor] = {}
    for own in counts.values():
        for place, counts_E in own.items():
            total[place] = total[place] + counts_E if place in total else counts_E
    return total


def _ticks(models: Sequence[Mapping[Place, Tensor]]) -> list[str]:
    """Of every place of any model, by layers."""
    places = {(layer_of(place), _tick(place)) for own in models for place in own}
    return [tick for _, tick in sorted(places)]


def _tick(place: Place) -> str:
    """The layer's number; among tokens of one modality only experts of pairs need to be told apart."""
    number = str(layer_of(place) + 1)
    return number if isinstance(place, int) or place[1] != "pair" else f"{number} pairs"


def _in_even_loads(counts_PE: Tensor) -> Tensor:
    return counts_PE * counts_PE.shape[1] / counts_PE.sum(dim=1, keepdim=True)
