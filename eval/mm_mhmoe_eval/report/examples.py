"""Examples one can look at: retrieval, questions and answers, masked pictures."""

from __future__ import annotations

from mm_mhmoe_eval.report.bars import bar_of, mark_of
from mm_mhmoe_eval.report.markup import Markup, join, picture, tag
from mm_mhmoe_eval.report.numbers import mean, percent, plural, whole
from mm_mhmoe_eval.report_data import (
    MaskedView,
    PictureHit,
    PictureQuery,
    QuestionView,
    ReportData,
    Role,
    TextQuery,
)

_TICK = tag("span", "\u2713", class_="tick", title="right", role="img", aria_label="right")
_BAR_ROLES: tuple[Role, ...] = ("main", "no_pretraining", "dense", "question_only")


def gallery(data: ReportData) -> Markup | None:
    """Captions that look for pictures, then pictures that look for captions."""
    section = data.gallery
    if section is None or not (section.text_queries or section.picture_queries):
        return None
    parts = [tag("p", section.rule, class_="rule")]
    if section.text_queries:
        parts.append(tag("h3", "A caption looks for its picture"))
        parts.append(
            tag(
                "div",
                [_text_query(query, data.test_pairs) for query in section.text_queries],
                class_="queries",
            )
        )
        reading = (
            "How to read it: each line shows the pictures the model puts first for the caption, best from "
            "the left. A green border and a tick mark the right one. When it is not among them, it stands "
            "apart at the end of the line with the rank the model gave it."
        )
        parts.append(tag("p", reading, class_="reading"))
    if section.picture_queries:
        parts.append(tag("h3", "A picture looks for its caption"))
        parts.append(tag("div", [_picture_query(query) for query in section.picture_queries], class_="two"))
        reading = (
            "How to read it: the captions the model puts first for the picture. A tick marks its own "
            "caption; when that is not among them, it is given below with its rank."
        )
        parts.append(tag("p", reading, class_="reading"))
    return join(parts)


def _text_query(query: TextQuery, candidates: int | None) -> Markup:
    found = any(hit.correct for hit in query.hits)
    among = f" of {whole(candidates)}" if candidates else ""
    title = tag("p", tag("q", query.text), _rank(query.rank, f"rank {whole(query.rank)}{among}"), class_="query")
    tiles = [_hit(hit) for hit in query.hits]
    if not found and query.target is not None:
        apart = tag("figcaption", f"the right one, rank {whole(query.rank)}")
        tiles.append(
            tag(
                "figure",
                tag("div", picture(query.target, query.text), class_="frame"),
                apart,
                class_="hit apart",
            )
        )
    return tag("div", title, tag("div", tiles, class_="hits"), class_="card text-query")


def _rank(rank: int, text: str) -> Markup:
    return tag("span", text, class_="rank good" if rank == 1 else "rank")


def _hit(hit: PictureHit) -> Markup:
    frame = tag("div", picture(hit.picture, hit.caption), _TICK if hit.correct else None, class_="frame")
    caption = tag("figcaption", hit.caption, title=f"similarity {hit.score:.2f}")
    return tag("figure", frame, caption, class_="hit right" if hit.correct else "hit")


def _picture_query(query: PictureQuery) -> Markup:
    items = [
        tag("li", _TICK if hit.correct else None, hit.text, class_="right" if hit.correct else None)
        for hit in query.hits
    ]
    below = None
    if not any(hit.correct for hit in query.hits) and query.captions:
        own = tag("q", query.captions[0])
        below = tag("p", "Its caption: ", own, f", rank {whole(query.rank)}", class_="own")
    alt = query.captions[0] if query.captions else "query picture"
    return tag(
        "div",
        tag("div", picture(query.picture, alt), class_="frame"),
        tag("div", tag("ol", items), below),
        class_="card picture-query",
    )


def questions(data: ReportData) -> Markup | None:
    """Questions with the model's answers, and scores by question type."""
    section = data.vqa
    if section is None:
        return None
    parts: list[Markup] = []
    if section.examples:
        parts.append(tag("p", section.rule, class_="rule"))
        parts.append(tag("div", [_question(view) for view in section.examples], class_="three"))
        reading = (
            "How to read it: the bars are the model's likeliest answers with their probabilities; each "
            "answer is judged by itself, so they need not add up to 100%. A tick means full VQA score, a "
            "half-filled circle part of it, a cross none."
        )
        parts.append(tag("p", reading, class_="reading"))
    bars = _type_bars(data, section.question_type_counts)
    if bars is not None:
        parts.append(bars)
    return join(parts) if parts else None


def _question(view: QuestionView) -> Markup:
    kind, badge = mark_of(view.score)
    bars = [
        bar_of(
            bar.answer,
            bar.probability,
            "r-main" if bar.answer == view.answer else "r-rest",
            percent(bar.probability, 0),
        )
        for bar in view.top
    ]
    truth = None if kind == "right" else tag("span", "truth: ", tag("b", view.truth), class_="truth")
    return tag(
        "div",
        tag("div", picture(view.picture, view.question), class_="frame"),
        tag(
            "div",
            tag("p", view.question, class_="asked"),
            tag("p", badge, tag("b", view.answer), truth, class_="answered"),
            tag("div", bars, class_="bars"),
        ),
        class_="card question",
    )


def _type_bars(data: ReportData, counts: dict[str, int]) -> Markup | None:
    prefix = "vqa_question_type/"
    rows = [row for role in _BAR_ROLES if (row := data.row(role)) is not None]
    names = {name.removeprefix(prefix) for row in rows for name in row.scores if name.startswith(prefix)}
    if not names:
        return None
    ordered = sorted(names, key=lambda name: (-counts.get(name, 0), name))
    groups = []
    for name in ordered:
        bars = [
            bar_of(row.name, mean(row.scores[prefix + name]), f"r-{row.role}", percent(mean(row.scores[prefix + name])))
            for row in rows
            if row.scores.get(prefix + name)
        ]
        count = tag("small", plural(counts[name], "question")) if name in counts else None
        groups.append(tag("div", tag("h4", name, count), bars, class_="group"))
    reading = (
        "How to read it: one block a question type, the commonest first; bars are VQA scores. A model that "
        "only knows which answers are common does no better than the question-only bar."
    )
    return tag(
        "figure",
        tag("h3", "By question type"),
        tag("div", groups, class_="groups"),
        tag("figcaption", reading, class_="reading"),
        class_="card types",
    )


def masked(data: ReportData) -> Markup | None:
    """Originals, what the model saw, and its guess."""
    section = data.masked
    if section is None or not section.examples:
        return None
    rule = [tag("span", section.rule)]
    if section.accuracy is not None:
        text = f" Over the whole test set the model guesses {percent(section.accuracy)} of the codes right"
        if section.chance_accuracy is not None:
            text += f"; always guessing the commonest code gives {percent(section.chance_accuracy)}"
        rule.append(tag("b", text + "."))
    reading = (
        "How to read it: the picture; the picture with the hidden patches greyed out, which is all that "
        "the model sees; and the hidden patches drawn from the codes that the model predicts. Where a "
        "fourth picture is shown, it is drawn from the true codes: the best that any guess could look. "
    )
    return join(
        tag("p", rule, class_="rule"),
        tag("div", [_masked(view) for view in section.examples], class_="two"),
        tag("p", reading + section.note, class_="reading"),
    )


def _masked(view: MaskedView) -> Markup:
    panels = [("original", view.original), ("masked", view.masked)]
    if view.reconstruction is not None:
        panels.append(("its guess", view.reconstruction))
    if view.tokenized is not None:
        panels.append(("true codes", view.tokenized))
    figures = [
        tag(
            "figure",
            tag("div", picture(uri, f"{name}: {view.caption}"), class_="frame"),
            tag("figcaption", name),
        )
        for name, uri in panels
    ]
    accuracy = f"{percent(view.accuracy, 0)} of the hidden codes right" if view.accuracy is not None else None
    words = tag(
        "p",
        tag("q", view.caption) if view.caption else None,
        " \u00b7 " if view.caption and accuracy else None,
        accuracy,
        class_="own",
    )
    return tag("div", tag("div", figures, class_="panels"), words, class_="card")
