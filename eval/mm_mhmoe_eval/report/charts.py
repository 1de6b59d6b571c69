"""Line charts as inline SVG. Colours are CSS classes, so that light and dark are the page's business."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mm_mhmoe_eval.report.markup import Markup, tag
from mm_mhmoe_eval.report_data import Curve, CurveChart

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 14, 44
_MOST_POINTS = 160


def line_chart(chart: CurveChart) -> Markup | None:
    """The chart, or None when no curve has a point. Long curves are thinned to means of neighbours."""
    curves = [(i, *thinned(curve)) for i, curve in enumerate(chart.curves) if curve.steps]
    if not curves:
        return None
    xs = [x for _, steps, _ in curves for x in steps]
    ys = [math.log10(y) if chart.log_y else y for _, _, values in curves for y in values]
    x_ticks, y_ticks = nice_ticks(min(0.0, min(xs)), max(xs), 5), nice_ticks(min(ys), max(ys), 5)
    x_low, x_high = min(0.0, min(xs)), max(xs) or 1.0
    x_ticks = [x for x in x_ticks if x <= x_high * 1.001]
    y_low, y_high = min(min(ys), y_ticks[0]), max(max(ys), y_ticks[-1])

    def place_x(x: float) -> float:
        return _LEFT + (x - x_low) / ((x_high - x_low) or 1) * (_WIDTH - _LEFT - _RIGHT)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y_low) / ((y_high - y_low) or 1) * (_HEIGHT - _TOP - _BOTTOM)

    parts: list[Markup] = []
    for y in y_ticks:
        at = round(place_y(y), 1)
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        label = tick_label(10**y if chart.log_y else y)
        parts.append(tag("text", label, x=_LEFT - 8, y=at + 4, text_anchor="end"))
    for x in x_ticks:
        at = round(place_x(x), 1)
        parts.append(tag("text", tick_label(x), x=at, y=_HEIGHT - _BOTTOM + 20, text_anchor="middle"))
    base = _HEIGHT - _BOTTOM
    parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base, class_="axis"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", chart.x_label, x=middle, y=_HEIGHT - 6, text_anchor="middle", class_="name"))
    for i, steps, values in curves:
        heights = [math.log10(v) if chart.log_y else v for v in values]
        spots = [f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in zip(steps, heights, strict=True)]
        style = line_class(chart.curves, i)
        if len(spots) == 1:
            across, down = spots[0].split(",")
            parts.append(tag("circle", cx=across, cy=down, r=3, class_=f"dot {style}"))
        else:
            parts.append(tag("polyline", points=" ".join(spots), class_=f"line {style}"))
    description = f"{chart.title}: {chart.y_label} over {chart.x_label}"
    return tag("svg", parts, class_="chart", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=description)


def legend(curves: Sequence[Curve]) -> Markup:
    """Names beside a piece of each line."""
    items = []
    for i, curve in enumerate(curves):
        if curve.steps:
            line = tag("line", x1=0, x2=26, y1=5, y2=5, class_=f"line {line_class(curves, i)}")
            items.append(tag("span", tag("svg", line, viewBox="0 0 26 10", aria_hidden="true"), curve.label))
    return tag("div", items, class_="legend")


def line_class(curves: Sequence[Curve], index: int) -> str:
    """CSS classes of a curve: its role's colour, and a dash that tells curves of one role apart."""
    role = curves[index].role
    same = sum(1 for curve in curves[:index] if curve.role == role)
    if role == "other":
        return f"c{same % 5}"
    return f"r-{role} d{same % 4}"


def thinned(curve: Curve) -> tuple[list[float], list[float]]:
    """Steps and values, at most about 160 of them; what was more is averaged over neighbours.

    Raises ValueError when lengths differ or a value is not finite.
    """
    if len(curve.steps) != len(curve.values):
        raise ValueError(f"curve {curve.label!r} has {len(curve.steps)} steps but {len(curve.values)} values")
    if not all(math.isfinite(number) for number in (*curve.steps, *curve.values)):
        raise ValueError(f"curve {curve.label!r} holds a value that is not finite; leave such points out")
    size = -(-len(curve.steps) // _MOST_POINTS)
    if size <= 1:
        return list(curve.steps), list(curve.values)
    steps, values = [], []
    for start in range(0, len(curve.steps), size):
        part_x, part_y = curve.steps[start : start + size], curve.values[start : start + size]
        steps.append(sum(part_x) / len(part_x))
        values.append(sum(part_y) / len(part_y))
    return steps, values


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, the first at or below `low`, the last at or above `high`."""
    if high - low < 1e-12:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def tick_label(value: float) -> str:
    """Short: 1500 -> "1,500", 0.25 -> "0.25"."""
    if abs(value) >= 10_000 and value % 1000 == 0:
        return f"{value / 1000:g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
