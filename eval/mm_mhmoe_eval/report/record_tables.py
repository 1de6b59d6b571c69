"""Tables of a comparison as HTML, and scores by type of sample."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mm_mhmoe_eval.comparison.systems import System
from mm_mhmoe_eval.comparison.tables import TESTS, Cell, Row, TaskTable
from mm_mhmoe_eval.comparison.written import COST_COLUMNS, cost_rows, difference_text, heading
from mm_mhmoe_eval.metric_names import is_share, shown
from mm_mhmoe_eval.report.bars import bar_of
from mm_mhmoe_eval.report.markup import Markup, join, tag
from mm_mhmoe_eval.report.numbers import mean, percent, plural

_TYPE = re.compile(r"(?P<group>[^/]+)/(?P<name>.+)\Z")
_COLOURS = 5
_READING = (
    "How to read it: below a score stands its 95% bootstrap interval over the test's samples, and is drawn on a track "
    "from 0 to the highest of the column. "
)


def score_tables(tables: Sequence[TaskTable]) -> Markup:
    """One table a task, and one of costs."""
    parts = [join(tag("h3", heading(table)), scroll(_table(table), heading(table))) for table in tables]
    if costs := cost_rows(tables):
        head = tag("tr", [tag("th", name, scope="col") for name in ("model", *COST_COLUMNS)])
        rows = [tag("tr", tag("th", name, scope="row"), [tag("td", cell) for cell in cells]) for name, cells in costs]
        table = tag("table", tag("thead", head), tag("tbody", rows), class_="scores compared plain")
        parts.append(join(tag("h3", "Cost"), scroll(table, "Cost")))
    return join(parts, tag("p", _READING + TESTS, class_="reading"))


def scroll(table: Markup, label: str) -> Markup:
    """A table that a narrow window moves sideways."""
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def _table(table: TaskTable) -> Markup:
    highest = {m: max((c.high or c.value) for r in table.rows if (c := r.cells.get(m))) for m in table.metrics}
    head = tag("tr", tag("th", "model", scope="col"), [tag("th", words(m), scope="col") for m in table.metrics])
    rows = [_row(row, number, table.metrics, highest) for number, row in enumerate(table.rows)]
    return tag("table", tag("thead", head), tag("tbody", rows), class_="scores compared")


def words(metric: str) -> str:
    """The name, with places where it may be broken."""
    return metric.replace("_", " ")


def _by(group: str) -> str:
    """vqa_question_type: vqa by question type."""
    metric, _, rest = group.partition("_")
    return f"{metric} by {words(rest)}" if group.endswith("_type") else words(group)


def _row(row: Row, number: int, metrics: Sequence[str], highest: Mapping[str, float]) -> Markup:
    colour = f"c{number % _COLOURS}" if row.is_model else "r-rest"
    swatch = tag("span", class_=f"swatch {colour}", aria_hidden="true")
    cells = [_cell(m, row.cells.get(m), highest[m], colour) for m in metrics]
    return tag("tr", tag("th", swatch, row.name, scope="row"), cells, class_=None if row.is_model else "row-chance")


def _cell(metric: str, cell: Cell | None, highest: float, colour: str) -> Markup:
    if cell is None:
        return tag("td", tag("span", "\u2013", class_="none"))
    parts = [tag("span", shown(metric, cell.value), class_="value")]
    if cell.deviation is not None:
        parts.append(tag("small", f"\u00b1{shown(metric, cell.deviation)}"))
    if cell.low is not None and cell.high is not None:
        parts.append(tag("small", f"{shown(metric, cell.low)} to {shown(metric, cell.high)}", class_="interval"))
        if highest > 0:
            left, width = 100 * cell.low / highest, 100 * (cell.high - cell.low) / highest
            band = tag("i", class_=colour, style=f"left:{left:.1f}%;width:{width:.1f}%")
            spot = tag("b", style=f"left:{100 * cell.value / highest:.1f}%")
            parts.append(tag("span", band, spot, class_="band", aria_hidden="true"))
    if cell.difference is not None:
        outcome = cell.difference.outcome or "unclear"
        parts.append(tag("small", difference_text(metric, cell.difference), class_=f"against {outcome}"))
    return tag("td", parts)


def type_bars(task: str, systems: Sequence[System]) -> Markup | None:
    """Scores of each type of sample, such as of question; None where the records have none."""
    scored = [(system.name, records) for system in systems if (records := system.of(task))]
    names = list(dict.fromkeys(name for _, records in scored for name in records[0].metrics))
    counts = scored[0][1][0].metrics
    figures = []
    for group in dict.fromkeys(found["group"] for name in names if (found := _TYPE.match(name))):
        if not is_share(group) or not (group.endswith("_type") or group in names):
            continue
        kinds = [name for name in names if name.startswith(f"{group}/")]
        number = {kind: int(counts.get(kind.replace(f"{group}/", f"{group}_count/"), 0)) for kind in kinds}
        blocks = []
        for kind in sorted(kinds, key=lambda kind: (-number[kind], kind)):
            rows = [
                (name, mean([record.metrics[kind] for record in records]), f"c{place % _COLOURS}")
                for place, (name, records) in enumerate(scored)
                if all(kind in record.metrics for record in records)
            ]
            rows += [
                (name.removesuffix(f"/{kind}").replace("_", " "), value, "r-rest")
                for name, value in counts.items()
                if name.endswith(f"/{kind}")
            ]
            bars = [bar_of(name, value, colour, percent(value)) for name, value, colour in rows]
            count = tag("small", plural(number[kind], "sample")) if number[kind] else None
            blocks.append(tag("div", tag("h4", kind.removeprefix(f"{group}/"), count), bars, class_="group"))
        title = tag("h3", f"{task}: {_by(group)}")
        figures.append(tag("figure", title, tag("div", blocks, class_="groups"), class_="card types"))
    return join(figures) if figures else None
