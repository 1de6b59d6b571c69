"""A page about any records: tables, scores by type, right and wrong answers, expert maps, how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mm_mhmoe_eval.comparison.systems import System
from mm_mhmoe_eval.comparison.tables import TaskTable
from mm_mhmoe_eval.files import write_text_atomic
from mm_mhmoe_eval.report import routing
from mm_mhmoe_eval.report.bars import mark_of
from mm_mhmoe_eval.report.galleries import Answer, Card, CardGallery
from mm_mhmoe_eval.report.markup import Markup, join, picture, tag
from mm_mhmoe_eval.report.numbers import duration, plural
from mm_mhmoe_eval.report.page import MAPS, frame
from mm_mhmoe_eval.report.record_tables import score_tables, scroll, type_bars
from mm_mhmoe_eval.report_data import ExpertMapSection


@dataclass(frozen=True, kw_only=True)
class RecordPage:
    """galleries: by task. notes: sentences about what the page does not show, and why."""

    title: str
    systems: Sequence[System]
    tables: Sequence[TaskTable]
    galleries: dict[str, list[CardGallery]] = field(default_factory=dict)
    expert_maps: ExpertMapSection | None = None
    notes: Sequence[str] = ()


def render_records(page: RecordPage) -> str:
    """The page as HTML that loads nothing from elsewhere and runs nothing."""
    bars = [body for table in page.tables if (body := type_bars(table.task, page.systems)) is not None]
    shown = [
        join(tag("h3", f"{task}: {gallery.title.lower()}"), tag("p", gallery.rule, class_="rule"), _cards(gallery))
        for task, galleries in page.galleries.items()
        for gallery in galleries
        if gallery.cards
    ]
    sections = [
        ("scores", "Scores", "Scores", score_tables(page.tables)),
        ("types", "By type", "Scores by type of sample", join(bars) if bars else None),
        ("answers", "Answers", "Right and wrong answers", join(shown, _READING) if shown else None),
        ("maps", "Expert maps", MAPS, routing.expert_maps(page.expert_maps)),
        ("method", "Method", "How this was made", _method(page)),
    ]
    return frame(page.title, _header(page), sections)


def write_records_page(page: RecordPage, path: str | Path) -> None:
    """Writes `render_records(page)`, at once or not at all."""
    write_text_atomic(path, render_records(page))


_READING = tag(
    "p",
    "How to read it: a tick is a right answer, a half-filled circle one that is partly right (in retrieval: among the "
    "first five), a cross a wrong one. A green border marks the picture that belongs to the caption.",
    class_="reading",
)


def _header(page: RecordPage) -> Markup:
    models = plural(len(page.systems), "model")
    tasks = plural(len(page.tables), "task")
    notes = [tag("p", note, class_="rule") for note in page.notes]
    return tag(
        "header",
        tag("p", "mm-mhmoe evaluation", class_="kicker"),
        tag("h1", page.title),
        tag("p", f"{models} on {tasks}: scores with intervals, what each got right and wrong.", class_="lead"),
        notes,
    )


def _cards(gallery: CardGallery) -> Markup:
    wide = any(answer.hits for card in gallery.cards for answer in card.answers)
    return tag("div", [_card(card) for card in gallery.cards], class_="stack" if wide else "three")


def _card(card: Card) -> Markup:
    frames = [tag("div", picture(uri, card.asked or card.truth), class_="frame") for uri in card.pictures]
    truth = tag("p", "truth: ", tag("b", card.truth), class_="own") if card.truth else None
    words = tag(
        "div",
        tag("p", card.asked, class_="asked") if card.asked else None,
        truth,
        [_answer(answer) for answer in card.answers],
    )
    return tag("div", tag("div", frames, class_="pictures"), words, class_="card said")


def _answer(answer: Answer) -> Markup:
    _, badge = mark_of(answer.score)
    hits = [
        tag("div", picture(uri, "found"), class_="frame right" if correct else "frame") for uri, correct in answer.hits
    ]
    return tag(
        "div",
        tag("p", badge, tag("b", answer.text), tag("small", answer.name), class_="answered"),
        tag("div", hits, class_="found") if hits else None,
    )


def _method(page: RecordPage) -> Markup:
    columns = ("model", "task", "seed", "date", "code", "configuration", "time", "device")
    rows = []
    checksums: dict[str, str] = {}
    for system in page.systems:
        for record in system.records:
            time = "\u2013" if record.wall_seconds is None else duration(record.wall_seconds)
            device = record.environment.get("device", "\u2013")
            facts = (record.date[:10] or "\u2013", record.git_hash or "\u2013", record.config_hash, time, device)
            cells = [tag("td", text) for text in (record.task, str(record.seed), *facts)]
            rows.append(tag("tr", tag("th", system.name, scope="row"), cells))
            checksums |= {name: sha for name, sha in record.checksums.items() if name.startswith("test")}
    head = tag("tr", [tag("th", name, scope="col") for name in columns])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="scores told plain")
    parts = [scroll(table, "Records")]
    if checksums:
        listed = "\n".join(f"{sha}  {name}" for name, sha in sorted(checksums.items()))
        parts += [tag("h3", "Test data (sha256)"), tag("pre", tag("code", listed))]
    return join(parts)
