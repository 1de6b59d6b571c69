"""Figures of sub-token diversity: by kind of token, against the ambiguity of words, and over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mm_mhmoe.analysis.figures.style import INK, Drawing, legend_above, model_colour, new_figure

KIND_NAMES = {"cls": "[CLS]", "patch": "patches", "begin": "text begin", "word": "words", "end": "text end"}


class KindDiversity(NamedTuple):
    """Different experts of a token: what was found, what heads alone would give, what chance would give."""

    found: Mapping[str, float]
    independent: Mapping[str, float]
    uniform: float


def by_kind(models: Mapping[str, KindDiversity]) -> Drawing:
    """Bars for each kind of token and model, with both baselines."""
    kinds = [kind for kind in KIND_NAMES if any(kind in model.found for model in models.values())]
    figure, ((axis,),) = new_figure(1, 1, width=8, height=3.4)
    width = 0.8 / len(models)
    for index, (name, model) in enumerate(models.items()):
        places = [i - 0.4 + width * (index + 0.5) for i, kind in enumerate(kinds) if kind in model.found]
        own = [kind for kind in kinds if kind in model.found]
        colour = model_colour(index)
        axis.bar(places, [model.found[kind] for kind in own], width * 0.9, color=colour, label=name)
        label = "_" if index else "heads alone"
        marks = [model.independent[kind] for kind in own]
        axis.hlines(marks, [p - width * 0.45 for p in places], [p + width * 0.45 for p in places], color=INK,
                    linewidth=2, label=label)  # fmt: skip
        for place, kind, mark in zip(places, own, marks, strict=True):
            top = max(mark, model.found[kind], model.uniform)
            axis.annotate(f"{model.found[kind]:.2f}", (place, top), xytext=(0, 3), textcoords="offset points",
                          ha="center", fontsize=8)  # fmt: skip
    for index, level in enumerate(sorted({round(model.uniform, 6) for model in models.values()})):
        axis.axhline(level, color="0.45", linestyle="--", linewidth=1, label="_" if index else "uniform routing")
    axis.set_xticks(range(len(kinds)), [KIND_NAMES[kind] for kind in kinds])
    axis.set_ylabel("different experts of a token", fontsize=9)
    axis.set_ylim(0, 1.18 * max(max(*model.found.values(), model.uniform) for model in models.values()))
    legend_above(figure, axis, list(models))
    return Drawing(
        figure,
        "Sub-token diversity: how many different experts the sub-tokens of one token choose first, mean over tokens "
        "and sparse layers. Dashed: what uniform random routing would give. Black marks: what the heads would give if "
        "each chose as often as it does but without regard to the others; a bar below its mark means that sub-tokens "
        "of one token tend to go the same way.",
    )


class WordPoints(NamedTuple):
    """Words with their ambiguity, the diversity of their tokens and how often they occur in captions.

    correlation: Spearman's, with its interval; partial: with frequency taken out.
    """

    words: Sequence[str]
    ambiguity: Sequence[float]
    diversity: Sequence[float]
    captions: Sequence[int]
    correlation: float
    interval: tuple[float, float]
    partial: float


def against_ambiguity(models: Mapping[str, WordPoints]) -> Drawing:
    """A scatter of words for each model, with the rank correlation above it."""
    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    figure, axes = new_figure(rows, columns, width=max(6.5, 4.2 * columns), height=3.6 * rows)
    flat = [axis for row in axes for axis in row]
    for index, (name, points) in enumerate(models.items()):
        axis = flat[index]
        sizes = [8 + 3 * count**0.5 for count in points.captions]
        axis.scatter(points.ambiguity, points.diversity, s=sizes, color=model_colour(index), alpha=0.55, linewidth=0)
        low, high = points.interval
        axis.set_title(
            f"{name}, {len(points.words)} words\n"
            f"rank correlation {points.correlation:+.2f} (95%: {low:+.2f} to {high:+.2f})",
            fontsize=9,
        )
        axis.set_xlabel("ambiguity of the word", fontsize=9)
        axis.set_ylabel("different experts of its tokens", fontsize=9)
        axis.grid(alpha=0.3)
        for place in _labelled(points):
            axis.annotate(points.words[place], (points.ambiguity[place], points.diversity[place]), fontsize=8,
                          color=INK, xytext=(3, 3), textcoords="offset points")  # fmt: skip
    for axis in flat[len(models) :]:
        axis.set_visible(False)
    return Drawing(
        figure,
        "One dot a word of the captions, larger where it is frequent. To the right: words of pictures of many "
        "categories (chance that two captions with the word are of different categories). Up: the sub-tokens of the "
        "word's pieces spread over more experts. The paper expects a rise; an interval that holds 0 shows none.",
    )


def _labelled(points: WordPoints, count: int = 4) -> list[int]:
    """The most frequent words, and those with the smallest and largest diversity, where labels would not collide."""
    places = range(len(points.words))
    wanted = sorted(places, key=lambda i: -points.captions[i])[:count]
    by_diversity = sorted(places, key=lambda i: points.diversity[i])
    wanted += by_diversity[:count] + by_diversity[-count:]
    across = (max(points.ambiguity) - min(points.ambiguity)) or 1.0
    up = (max(points.diversity) - min(points.diversity)) or 1.0
    kept: list[int] = []
    for i in wanted:
        apart = all(
            abs(points.ambiguity[i] - points.ambiguity[j]) > 0.22 * across
            or abs(points.diversity[i] - points.diversity[j]) > 0.06 * up
            for j in kept
        )
        if i not in kept and apart:
            kept.append(i)
    return kept


class Course(NamedTuple):
    """Modality -> (step, different experts of a token), and what uniform routing would give."""

    points: Mapping[str, Sequence[tuple[int, float]]]
    uniform: float


def over_training(models: Mapping[str, Course]) -> Drawing:
    """Lines over steps, one panel a modality."""
    modalities = [m for m in ("image", "text") if any(m in course.points for course in models.values())]
    figure, (axes,) = new_figure(1, len(modalities), width=9, height=3.2, share_y=True)
    for axis, modality in zip(axes, modalities, strict=True):
        for index, (name, course) in enumerate(models.items()):
            points = course.points.get(modality, ())
            axis.plot([step + 1 for step, _ in points], [value for _, value in points], color=model_colour(index),
                      marker="osD^vP*X"[index % 8], markersize=4, label=name)  # fmt: skip
        for index, level in enumerate(sorted({round(course.uniform, 6) for course in models.values()})):
            axis.axhline(level, color="0.45", linestyle="--", linewidth=1, label="_" if index else "uniform routing")
        axis.set_title(f"{modality} tokens", fontsize=10)
        axis.set_xlabel("training step", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("different experts of a token", fontsize=9)
    legend_above(figure, axes[0], list(models))
    return Drawing(
        figure,
        "Sub-token diversity over training, from the runs' logs: different first choices of a token's sub-tokens, "
        "mean over the tokens of a training batch (hidden ones included) and over sparse layers. Dashed: what "
        "uniform random routing would give. A fall to 1 would mean that splitting tokens has become pointless.",
    )
