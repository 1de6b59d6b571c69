"""One self-contained page out of the sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from mm_mhmoe_eval.files import write_text_atomic
from mm_mhmoe_eval.report import examples, overview, routing
from mm_mhmoe_eval.report.markup import Markup, join, tag
from mm_mhmoe_eval.report_data import ReportData

MAPS = "Which expert looks at which part of a picture"
_SECTIONS: tuple[tuple[str, str, str, Callable[[ReportData], Markup | None]], ...] = (
    ("scores", "Scores", "What it scores, and what each part is worth", overview.scores),
    ("retrieval", "Retrieval", "Finding pictures by text, and text by pictures", examples.gallery),
    ("questions", "Questions", "Answering questions about pictures", examples.questions),
    ("masked", "Masked pictures", "What pretraining practises: filling in what is hidden", examples.masked),
    ("experts", "Experts", "How the work is spread over the experts", routing.experts),
    (
        "maps",
        "Expert maps",
        "Which expert looks at which part of a picture",
        lambda data: routing.expert_maps(data.expert_maps),
    ),
    ("curves", "Curves", "How training went", overview.curves),
)


def render(data: ReportData) -> str:
    """The report as one HTML page that loads nothing from elsewhere: styles, charts and pictures are inside.

    Raises ValueError for a picture that is no data URI, and for curves or maps whose lengths do not fit.
    """
    made = [(key, short, title, build(data)) for key, short, title, build in _SECTIONS]
    made.append(("method", "Method", "How this was made", _method(data)))
    return frame(data.title, overview.header(data), made)


Section = tuple[str, str, str, Markup | None]
"""Id, name in the navigation, heading, body; a section without a body is left out."""


def frame(title: str, header: Markup, sections: Sequence[Section]) -> str:
    """A whole page around its parts."""
    shown = [(key, short, heading, body) for key, short, heading, body in sections if body is not None]
    links = [tag("a", short, href=f"#{key}") for key, short, _, _ in shown]
    bodies = [tag("section", tag("h2", heading), body, id=key) for key, _, heading, body in shown]
    style = Markup(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    nav = tag("nav", tag("div", links), aria_label="Sections")
    body = tag("body", nav, tag("main", header, bodies))
    return "<!doctype html>\n" + join(tag("html", head, body, lang="en")) + "\n"


def write_report(data: ReportData, path: str | Path) -> None:
    """Writes `render(data)`, at once or not at all."""
    write_text_atomic(path, render(data))


def _method(data: ReportData) -> Markup | None:
    method = data.method
    if method is None or not (method.commands or method.data_card or method.caveats):
        return None
    parts: list[Markup] = []
    if method.commands:
        parts += [tag("h3", "Commands"), tag("pre", tag("code", "\n".join(method.commands)))]
    if method.data_card:
        facts = [tag("div", tag("dt", key), tag("dd", text)) for key, text in method.data_card.items()]
        parts += [tag("h3", "Data"), tag("dl", facts, class_="facts card-facts")]
    if method.caveats:
        items = [tag("li", text) for text in method.caveats]
        parts += [tag("h3", "What these numbers do not say"), tag("ul", items, class_="caveats")]
    return join(parts)
