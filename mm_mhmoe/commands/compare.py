from __future__ import annotations

from pathlib import Path

from mm_mhmoe_eval.comparison import TaskTable, read_systems, to_csv, to_latex, to_markdown
from mm_mhmoe_eval.comparison import compare as compare_systems
from mm_mhmoe_eval.comparison.tables import RULE, Row
from mm_mhmoe_eval.comparison.written import COST_COLUMNS, cost_rows, difference_text, heading, score_text
from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {"better": "green", "worse": "red", "unclear": "dim", None: "dim"}


def compare(
    records: list[str],
    metrics: list[str] | str | None = None,
    markdown: Path | None = None,
    csv: Path | None = None,
    latex: Path | None = None,
) -> None:
    """Puts records side by side: a table a task, every row held against the first.

    Args:
        records: what to compare, as words before the options: records (.json), folders of records, or patterns of
            either, each a row; several seeds of one model make one row. NAME= before a place names its row. Results
            of CLIP_benchmark are read too.
        metrics: which to show, separated by commas; without it, those that the tasks name.
        markdown: also writes the tables to this file.
        csv: the same with all digits, a line a row and metric.
        latex: the same as tabulars.
    """
    chosen = metrics.split(",") if isinstance(metrics, str) else metrics
    tables = compare_systems(read_systems(records), chosen)
    print_tables(tables, Console())
    for path, written in ((markdown, to_markdown), (csv, to_csv), (latex, to_latex)):
        if path is not None:
            write_text_atomic(path, written(tables))
            print(f"written: {path}")


def print_tables(tables: list[TaskTable], console: Console) -> None:
    """Models as lines; where there are more metrics than models, metrics as lines."""
    for task in tables:
        console.print(Text(heading(task), style="bold"))
        columns, lines = list(task.rows), list(task.metrics)
        if len(lines) <= len(columns):
            table = _table("model", *lines)
            for row in columns:
                table.add_row(row.name, *(_cell(row, metric) for metric in lines))
        else:
            table = _table("metric", *(row.name for row in columns))
            for metric in lines:
                table.add_row(metric, *(_cell(row, metric) for row in columns))
        console.print(table)
    if costs := cost_rows(tables):
        console.print(Text("Cost", style="bold"))
        table = _table("model", *COST_COLUMNS)
        for name, cells in costs:
            table.add_row(name, *cells)
        console.print(table)
    console.print(RULE, style="dim", highlight=False)


def _table(*columns: str) -> Table:
    table = Table(header_style="dim")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    return table


def _cell(row: Row, metric: str) -> Text:
    cell = row.cells.get(metric)
    if cell is None:
        return Text("–", style="dim")
    value, _, rest = score_text(metric, cell).partition(" ")
    text = Text.assemble((value, "bold"), (f" {rest}" if rest else "", "dim"))
    if cell.difference is not None:
        told = difference_text(metric, cell.difference)
        text.append(f"\n{told}", style=_STYLES[cell.difference.outcome])
    return text
