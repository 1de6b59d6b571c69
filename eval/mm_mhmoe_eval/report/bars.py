"""Bars with a label and a number, and the marks of right and wrong answers."""

from __future__ import annotations

from mm_mhmoe_eval.report.markup import Markup, tag


def bar_of(label: str, share: float, colour: str, number: str) -> Markup:
    """share: in [0, 1], how much of the track is filled. colour: a class of the style sheet."""
    width = f"{100 * min(1.0, max(0.0, share)):.1f}%"
    fill = tag("span", class_=f"fill {colour}", style=f"width:{width}")
    return tag(
        "div",
        tag("span", label, class_="label"),
        tag("span", fill, class_="track"),
        tag("span", number, class_="number"),
        class_="bar",
    )


def mark_of(score: float) -> tuple[str, Markup]:
    """right, partly or wrong, and its badge."""
    if score >= 0.9995:
        sign, kind = "\u2713", "right"
    else:
        sign, kind = ("\u25d0", "partly") if score > 0 else ("\u2715", "wrong")
    named = {"right": "right", "partly": "partly right", "wrong": "wrong"}[kind]
    return kind, tag("span", sign, class_=f"mark {kind}", role="img", aria_label=named, title=named)
