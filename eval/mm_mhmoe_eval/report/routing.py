"""What the experts do: their load by layer and modality, and maps of sub-tokens to experts over a picture."""

from __future__ import annotations

from collections.abc import Sequence

from mm_mhmoe_eval.report.markup import Markup, checked_picture, join, picture, tag
from mm_mhmoe_eval.report.numbers import percent, plural
from mm_mhmoe_eval.report_data import ExpertLayer, ExpertMap, ExpertMapSection, ExpertSection, ReportData

COLOURS = 8
"""Expert colours of the style sheet; experts beyond start over, told apart by their number."""

_CELL = 10


def experts(data: ReportData) -> Markup | None:
    """Heat maps of load, and the share of experts that are in use."""
    section = data.experts
    if section is None or not section.layers:
        return None
    highest = max(max(share) for layer in section.layers for share in (layer.image_share, layer.text_share) if share)
    count = len(section.layers[0].image_share or section.layers[0].text_share)
    reading = (
        "How to read it: one line a layer, one column an expert; the number is the percentage of "
        f"sub-tokens that the layer sends there, counted on {section.sample}. Even load would be "
        f"{percent(1 / count)} everywhere. A line whose two halves differ treats pictures and text "
        "differently. Max/mean is the busiest expert's load over the even load: 1 is perfectly even."
    )
    heat = tag(
        "figure",
        tag(
            "div",
            _heat("Pictures", section.layers, "image_share", highest),
            _heat("Text", section.layers, "text_share", highest),
            class_="two",
        ),
        tag("figcaption", reading, class_="reading"),
        class_="card",
    )
    return join(heat, _active(section))


def _heat(title: str, layers: Sequence[ExpertLayer], which: str, highest: float) -> Markup:
    shares: list[list[float]] = [getattr(layer, which) for layer in layers]
    count = max(len(share) for share in shares)
    head = tag(
        "tr",
        tag("th", "layer", scope="col"),
        [tag("th", str(expert), scope="col") for expert in range(count)],
        tag("th", "max/mean", scope="col"),
    )
    rows = []
    for layer, share in zip(layers, shares, strict=True):
        if not share:
            continue
        cells = []
        for value in share:
            depth = value / highest if highest > 0 else 0.0
            style = f"--v:{depth:.3f}"
            cells.append(
                tag(
                    "td",
                    tag("span", f"{100 * value:.0f}"),
                    style=style,
                    class_="deep" if depth > 0.55 else None,
                )
            )
        peak = tag("td", f"{max(share) * len(share):.2f}", class_="stat")
        rows.append(tag("tr", tag("th", str(layer.layer), scope="row"), cells, peak))
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="heat")
    return tag(
        "div",
        tag("h3", title),
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=title),
    )


def _active(section: ExpertSection) -> Markup | None:
    if not section.active_share:
        return None
    names = ["MH-MoE"] + ([section.other_name or "comparison"] if section.active_share_other else [])
    head = tag("tr", tag("th", "load of at least", scope="col"), [tag("th", name, scope="col") for name in names])
    rows = []
    for threshold, share in section.active_share.items():
        shares = [share]
        if section.active_share_other:
            shares.append(section.active_share_other.get(threshold, float("nan")))
        rows.append(tag("tr", tag("th", f"{threshold} \u00d7 even load", scope="row"), [_share(s) for s in shares]))
    reading = (
        "How to read it: the share of all experts, over layers, that carry at least so much of an even "
        "share of the work. No threshold is standard, so several are given."
    )
    return tag(
        "figure",
        tag("h3", "Experts in use"),
        tag("table", tag("thead", head), tag("tbody", rows), class_="active"),
        tag("figcaption", reading, class_="reading"),
        class_="card narrow",
    )


def _share(share: float) -> Markup:
    if share != share:
        return tag("td", "\u2013")
    fill = tag("span", class_="fill r-main", style=f"width:{100 * share:.1f}%")
    return tag("td", tag("span", fill, class_="track"), tag("span", percent(share, 0), class_="number"))


def expert_maps(section: ExpertMapSection | None) -> Markup | None:
    """For each picture: the expert of every head at every patch, and how many different ones a patch uses."""
    if section is None or not section.maps:
        return None
    keys = [
        tag("span", tag("i", class_=f"key e{expert % COLOURS}"), str(expert)) for expert in range(section.num_experts)
    ]
    heads = len(section.maps[0].experts)
    reading = (
        f"How to read it: MH-MoE cuts every patch of the picture into {plural(heads, 'sub-token')}, one a "
        "head, and sends each to an expert of its own. Every panel shows one head: colour and number are "
        "the expert that got this patch's sub-token. The last panel counts how many different experts one "
        "patch uses. Where the colours follow the outlines of the picture, experts have come to care about "
        "content; more experts at a patch mean that it is looked at in more ways."
    )
    return join(
        tag("p", section.rule, class_="rule"),
        tag("div", tag("span", "Expert"), keys, class_="keys"),
        tag("div", [_map(view) for view in section.maps], class_="stack"),
        tag("p", reading, class_="reading"),
    )


def _map(view: ExpertMap) -> Markup:
    patches = view.grid * view.grid
    if any(len(head) != patches for head in view.experts):
        raise ValueError(f"expert map {view.caption!r}: every head needs {patches} patches for grid={view.grid}")
    numbered = view.grid <= 12
    panels = [
        tag(
            "figure",
            tag("div", picture(view.picture, view.caption), class_="frame"),
            tag("figcaption", "picture"),
        )
    ]
    for number, head in enumerate(view.experts, start=1):
        classes = [f"e{expert % COLOURS}" for expert in head]
        drawing = _grid(view, classes, head if numbered else None, f"experts of head {number}")
        panels.append(tag("figure", drawing, tag("figcaption", f"head {number}")))
    heads = len(view.experts)
    if heads > 1:
        distinct = [len({head[patch] for head in view.experts}) for patch in range(patches)]
        classes = [f"n{_shade(count, heads)}" for count in distinct]
        drawing = _grid(view, classes, distinct if numbered else None, "different experts of a patch", plain=True)
        average = sum(distinct) / patches
        panels.append(tag("figure", drawing, tag("figcaption", f"experts a patch: {average:.1f} on average")))
    words = tag(
        "p",
        tag("q", view.caption) if view.caption else None,
        f" \u00b7 layer {view.layer}" if view.caption else f"layer {view.layer}",
        class_="own",
    )
    style = f"--pic:url({checked_picture(view.picture)})"
    return tag("div", words, tag("div", panels, class_="maps"), class_="card", style=style)


def _shade(count: int, most: int) -> int:
    """0..4: where count lies between 1 and most."""
    return round(4 * (count - 1) / (most - 1))


def _grid(
    view: ExpertMap,
    classes: Sequence[str],
    numbers: Sequence[int] | None,
    description: str,
    *,
    plain: bool = False,
) -> Markup:
    side = view.grid * _CELL
    parts = []
    for patch, name in enumerate(classes):
        x, y = patch % view.grid * _CELL, patch // view.grid * _CELL
        parts.append(tag("rect", x=x, y=y, width=_CELL, height=_CELL, class_=name))
        if numbers is not None:
            parts.append(tag("text", str(numbers[patch]), x=x + _CELL / 2, y=y + 6.6))
    drawing = tag("svg", parts, viewBox=f"0 0 {side} {side}", role="img", aria_label=f"{description}: {view.caption}")
    return tag("div", drawing, class_="map plain" if plain else "map")
