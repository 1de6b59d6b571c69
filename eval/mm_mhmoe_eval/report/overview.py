"""The top of the report: what this is, headline numbers, run facts, the scores table with its verdicts, and
curves."""

from __future__ import annotations

from collections.abc import Sequence

from mm_mhmoe_eval.report.charts import legend, line_chart
from mm_mhmoe_eval.report.markup import Markup, join, tag
from mm_mhmoe_eval.report.numbers import (
    compact,
    deviation,
    duration,
    mean,
    percent,
    plural,
    points,
    times,
    whole,
)
from mm_mhmoe_eval.report.verdicts import RECALL, RULE, VQA, Comparison, compare, verdicts
from mm_mhmoe_eval.report_data import ReportData, Role, ScoreRow

SUMMARY = (
    "A small image-text encoder learned, on this machine, by filling in what was hidden from it: pieces of "
    "pictures and words of their titles. Then it was fine-tuned to find pictures by text and to answer "
    "questions, and tested here on clip-art that it has never seen, beside controls that show what each "
    "part is worth."
)

ROW_ORDER: tuple[Role, ...] = (
    "main",
    "no_pretraining",
    "dense",
    "other",
    "untrained",
    "question_only",
    "chance",
)
_NO_MODEL = ("chance", "question_only")


def header(data: ReportData) -> Markup:
    """Title, summary, tiles and run facts."""
    notice = tag("p", data.notice, class_="notice") if data.notice else None
    return tag(
        "header",
        notice,
        tag("p", "Masked pretraining with Multi-Head Mixture-of-Experts", class_="kicker"),
        tag("h1", data.title),
        tag("p", data.summary or SUMMARY, class_="lead"),
        tag("div", _tiles(data), class_="tiles"),
        _facts(data),
    )


def _tiles(data: ReportData) -> list[Markup]:
    tiles = []
    main = data.row("main")
    if main is not None and main.scores.get(RECALL):
        chance = compare(data, "chance", RECALL)
        among = f" among {whole(data.test_pairs)}" if data.test_pairs else ""
        below = None
        if chance is not None and chance.other > 0:
            below = f"{times(chance.main / chance.other)} chance ({percent(chance.other)})"
        label = f"of captions find their picture in the first ten{among} (recall@10)"
        tiles.append(_tile(percent(mean(main.scores[RECALL])), label, below, "plain"))
    if main is not None and main.scores.get(VQA):
        blind = compare(data, "question_only", VQA)
        below = None
        if blind is not None:
            below = f"{points(blind.difference)} points against answering blind ({percent(blind.other)})"
        label = "VQA score on questions about unseen pictures"
        tiles.append(_tile(percent(mean(main.scores[VQA])), label, below, "plain"))
    for role, label in (
        ("no_pretraining", "points of recall@10 from masked pretraining"),
        ("dense", "points of recall@10 from MH-MoE in place of a dense FFN of equal FLOPs"),
    ):
        gain = compare(data, role, RECALL)  # type: ignore[arg-type]
        if gain is not None:
            below = f"{percent(gain.other)} without, {percent(gain.main)} with{_doubt(gain)}"
            tiles.append(_tile(points(gain.difference), label, below, gain.outcome))
    return tiles


def _doubt(comparison: Comparison) -> str:
    return "; no clear difference" if comparison.outcome == "unclear" else ""


def _tile(number: str, label: str, below: str | None, kind: str) -> Markup:
    return tag(
        "div",
        tag("div", number, class_="big"),
        tag("div", label, class_="what"),
        tag("div", below, class_="versus") if below else None,
        class_=f"tile {kind}",
    )


def _facts(data: ReportData) -> Markup:
    facts = data.facts
    pairs: list[tuple[str, str]] = [("Wall time", duration(facts.wall_seconds))]
    if facts.parameters_total is not None:
        text = compact(facts.parameters_total)
        if facts.parameters_active is not None:
            text += f" ({compact(facts.parameters_active)} active)"
        pairs.append(("Parameters", text))
    if facts.flops_per_token is not None:
        pairs.append(("FLOPs per token", compact(facts.flops_per_token)))
    for label, count in (("Pretraining", facts.pretrain_steps), ("Fine-tuning", facts.finetune_steps)):
        if count is not None:
            pairs.append((label, plural(count, "step")))
    if facts.pretrain_samples is not None:
        pairs.append(("Samples seen in pretraining", whole(facts.pretrain_samples)))
    for label, count in (
        ("Test pictures", data.test_pairs),
        ("Test captions", data.captions if data.captions != data.test_pairs else None),
        ("Test questions", data.questions),
    ):
        if count is not None:
            pairs.append((label, whole(count)))
    if facts.seeds:
        pairs.append(("Seed" if len(facts.seeds) == 1 else "Seeds", ", ".join(map(str, facts.seeds))))
    for label, text_or_none in (("Machine", facts.machine), ("Code", facts.git_hash), ("Date", facts.date)):
        if text_or_none:
            pairs.append((label, text_or_none))
    pairs.extend(facts.extra.items())
    return tag("dl", [tag("div", tag("dt", a), tag("dd", b)) for a, b in pairs], class_="facts")


def scores(data: ReportData) -> Markup | None:
    """The table of all rows, and the verdicts."""
    if not data.scores:
        return None
    rows = sorted(data.scores, key=lambda row: ROW_ORDER.index(row.role))
    groups = column_groups(rows)
    seeds = max((len(values) for row in rows for values in row.scores.values()), default=1)
    spread = f" Values are means over {seeds} seeds \u00b1 their standard deviation." if seeds > 1 else " One seed."
    table = tag(
        "table",
        tag("thead", _table_head(groups)),
        tag("tbody", [_table_row(row, rows, groups) for row in rows]),
        class_="scores",
    )
    reading = (
        "How to read it: recall@k is the share of queries whose right answer is among the first k, in "
        "percent; VQA is "
        "the official VQAv2 score, in percent. Higher is better, the best model of a column is bold." + spread
    )
    cards = [
        tag(
            "li",
            tag("span", _sign(v.outcome), class_="sign"),
            tag("b", v.head),
            tag("span", v.text),
            class_=v.outcome,
        )
        for v in verdicts(data)
    ]
    verdict_list = None
    if cards:
        verdict_list = join(tag("ul", cards, class_="verdicts"), tag("p", RULE, class_="reading"))
    return join(
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Scores"),
        tag("p", reading, class_="reading"),
        verdict_list,
    )


def _sign(outcome: str) -> str:
    return {"better": "\u25b2", "worse": "\u25bc"}.get(outcome, "\u2248")


def best_of(rows: Sequence[ScoreRow], metric: str) -> list[ScoreRow]:
    """The models (not chance, not answering blind) with the highest mean as printed."""
    printed = [
        (round(mean(row.scores[metric]), 3), row)
        for row in rows
        if row.role not in _NO_MODEL and row.scores.get(metric)
    ]
    highest = max((value for value, _ in printed), default=None)
    return [row for value, row in printed if value == highest]


def column_groups(rows: Sequence[ScoreRow]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(group, [(column, metric)]) of the metrics that some row has."""
    present = {name for row in rows for name, values in row.scores.items() if values}
    groups = []
    for title, prefix in (
        ("Caption \u2192 picture", "image_retrieval_recall@"),
        ("Picture \u2192 caption", "text_retrieval_recall@"),
    ):
        ks = sorted(int(name.removeprefix(prefix)) for name in present if name.startswith(prefix))
        groups.append((title, [(f"R@{k}", f"{prefix}{k}") for k in ks]))
    kind = "vqa_answer_type/"
    types = sorted(name for name in present if name.startswith(kind))
    vqa_columns = [("all", VQA)] if VQA in present else []
    groups.append(("VQA score", vqa_columns + [(name.removeprefix(kind), name) for name in types]))
    return [(title, columns) for title, columns in groups if columns]


def _table_head(groups: Sequence[tuple[str, list[tuple[str, str]]]]) -> Markup:
    above = [tag("th", title, colspan=len(columns), scope="colgroup", class_="first") for title, columns in groups]
    below = [
        tag("th", column, scope="col", class_="first" if i == 0 else None)
        for _, columns in groups
        for i, (column, _) in enumerate(columns)
    ]
    return join(tag("tr", tag("th", "Model", rowspan=2, scope="col"), above), tag("tr", below))


def _table_row(row: ScoreRow, rows: Sequence[ScoreRow], groups: Sequence[tuple[str, list[tuple[str, str]]]]) -> Markup:
    cells = []
    for _, columns in groups:
        for i, (_, metric) in enumerate(columns):
            values = row.scores.get(metric)
            classes = ["first"] if i == 0 else []
            if not values:
                cells.append(tag("td", tag("span", "\u2013", class_="none"), class_=" ".join(classes) or None))
                continue
            if row in best_of(rows, metric):
                classes.append("best")
            sd = deviation(values)
            spread = tag("small", f"\u00b1{100 * sd:.1f}") if sd is not None else None
            cells.append(tag("td", f"{100 * mean(values):.1f}", spread, class_=" ".join(classes) or None))
    note = tag("small", row.note) if row.note else None
    swatch = tag("span", class_=f"swatch r-{row.role}", aria_hidden="true")
    return tag("tr", tag("th", swatch, row.name, note, scope="row"), cells, class_=f"row-{row.role}")


def curves(data: ReportData) -> Markup | None:
    """One card for each chart."""
    cards = []
    for chart in data.curves:
        drawing = line_chart(chart)
        if drawing is not None:
            scale = ", log scale" if chart.log_y else ""
            cards.append(
                tag(
                    "figure",
                    tag("h3", chart.title),
                    tag("p", f"{chart.y_label}{scale}", class_="unit"),
                    drawing,
                    legend(chart.curves),
                    tag("figcaption", chart.reading, class_="reading"),
                    class_="card",
                )
            )
    return tag("div", cards, class_="two") if cards else None
