"""The report's numbers in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mm_mhmoe_eval.report.numbers import deviation, mean
from mm_mhmoe_eval.report.overview import ROW_ORDER, best_of, column_groups
from mm_mhmoe_eval.report.verdicts import RULE, verdicts
from mm_mhmoe_eval.report_data import ReportData, ScoreRow

_SIGNS = {"better": ("\u25b2", "green"), "worse": ("\u25bc", "red"), "unclear": ("\u2248", "dim")}


def print_scores(data: ReportData, console: Console) -> None:
    """Scores in percent, one table for each direction of retrieval and for VQA, and the verdicts."""
    rows = sorted(data.scores, key=lambda row: ROW_ORDER.index(row.role))
    for title, columns in column_groups(rows):
        table = Table(title=f"{title} (%)", title_justify="left", title_style="bold", header_style="dim")
        table.add_column("model", no_wrap=False)
        for name, _ in columns:
            table.add_column(name, justify="right")
        for row in rows:
            if any(row.scores.get(metric) for _, metric in columns):
                table.add_row(Text(row.name), *(_cell(row, rows, metric) for _, metric in columns))
        console.print(table)
    found = verdicts(data)
    for verdict in found:
        sign, style = _SIGNS[verdict.outcome]
        console.print(Text.assemble((f"{sign} ", style), (verdict.head, "bold"), f": {verdict.text}"))
    if found:
        console.print(Text(RULE, style="dim"))


def _cell(row: ScoreRow, rows: list[ScoreRow], metric: str) -> Text:
    values = row.scores.get(metric)
    if not values:
        return Text("\u2013", style="dim")
    spread = deviation(values)
    text = Text(f"{100 * mean(values):.1f}", style="bold" if row in best_of(rows, metric) else "")
    return text if spread is None else text.append(f" \u00b1{100 * spread:.1f}", style="not bold dim")
