"""Comparisons as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from mm_mhmoe_eval.comparison.tables import RULE, Cell, Difference, Row, TaskTable
from mm_mhmoe_eval.metric_names import is_share, shown
from mm_mhmoe_eval.report.numbers import MINUS, compact

SIGNS = {"better": "▲", "worse": "▼", "unclear": "≈"}
_LATEX_SIGNS = {"▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "≈": r"$\approx$", "±": r"$\pm$", MINUS: "$-$"}
_COST: dict[str, Callable[[Row], float | None]] = {
    "parameters": lambda row: row.parameters_total,
    "active": lambda row: row.parameters_active,
    "FLOPs a sample": lambda row: row.flops_per_sample,
    "samples/s": lambda row: row.samples_per_second,
}


def score_text(metric: str, cell: Cell) -> str:
    """`23.0 [20.1, 25.9]`, over seeds `23.0 ±0.7 [20.1, 25.9]`."""
    text = shown(metric, cell.value)
    if cell.deviation is not None:
        text += f" ±{shown(metric, cell.deviation)}"
    if cell.low is not None and cell.high is not None:
        text += f" [{shown(metric, cell.low)}, {shown(metric, cell.high)}]"
    return text


def difference_text(metric: str, difference: Difference) -> str:
    """`▲ +2.1, p=.004`."""
    sign = "+" if difference.value >= 0 else MINUS
    text = f"{sign}{shown(metric, abs(difference.value))}"
    if difference.p is None or difference.outcome is None:
        return text
    return f"{SIGNS[difference.outcome]} {text}, {p_text(difference.p)}"


def p_text(p: float) -> str:
    return "p<.001" if p < 0.001 else f"p={p:.3f}".replace("0.", ".", 1)


def heading(table: TaskTable) -> str:
    samples = f", {table.samples:,} samples" if table.samples else ""
    unit = "; percent" if all(map(is_share, table.metrics)) else ""
    return f"{table.task} (version {table.version}{samples}{unit})"


def cost_rows(tables: Sequence[TaskTable]) -> list[tuple[str, list[str]]]:
    """Each model's cost, where its records say it, once; empty where none do."""
    models: dict[str, Row] = {}
    for row in (row for table in tables for row in table.rows if row.is_model):
        models.setdefault(row.name, row)
    rows = [
        (name, [compact(value) if (value := of(row)) else "–" for of in _COST.values()]) for name, row in models.items()
    ]
    return rows if any(cell != "–" for _, cells in rows for cell in cells) else []


COST_COLUMNS = tuple(_COST)


def to_markdown(tables: Sequence[TaskTable]) -> str:
    parts = []
    for table in tables:
        rows = [[_escaped(row.name), *(_lines(m, row, "<br>") for m in table.metrics)] for row in table.rows]
        parts.append(f"### {heading(table)}\n\n" + _markdown_table(["model", *table.metrics], rows))
    if costs := cost_rows(tables):
        rows = [[_escaped(name), *cells] for name, cells in costs]
        parts.append("### Cost\n\n" + _markdown_table(["model", *COST_COLUMNS], rows))
    return "\n".join([*parts, RULE]) + "\n"


def to_csv(tables: Sequence[TaskTable]) -> str:
    """One line a row and metric, values as they are: shares as fractions."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    scores = ["value", "seeds", "deviation", "low", "high"]
    tested = ["difference", "difference_low", "difference_high", "p_holm", "outcome"]
    cost = ["parameters_total", "parameters_active", "flops_per_sample", "samples_per_second"]
    writer.writerow(["task", "version", "samples", "model", "metric", *scores, *tested, *cost])
    for table in tables:
        for row in table.rows:
            for metric, cell in row.cells.items():
                told = cell.difference or Difference(value=float("nan"))
                difference = [told.value, told.low, told.high, told.p, told.outcome] if cell.difference else [None] * 5
                writer.writerow(
                    [table.task, table.version, table.samples, row.name, metric]
                    + [cell.value, cell.seeds, cell.deviation, cell.low, cell.high]
                    + difference
                    + [getattr(row, name) for name in cost]
                )
    return out.getvalue()


def to_latex(tables: Sequence[TaskTable]) -> str:
    """A tabular a task. It needs the packages booktabs, amssymb and makecell."""
    parts = [f"% {RULE}\n% Needs \\usepackage{{booktabs,amssymb,makecell}}"]
    for table in tables:
        rows = [[latex(row.name), *(_latex_cell(m, row) for m in table.metrics)] for row in table.rows]
        parts.append(_latex_table(heading(table), ["model", *table.metrics], rows))
    if costs := cost_rows(tables):
        rows = [[latex(name), *map(latex, cells)] for name, cells in costs]
        parts.append(_latex_table("Cost", ["model", *COST_COLUMNS], rows))
    return "\n\n".join(parts) + "\n"


def latex(text: str) -> str:
    """The text, printed as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escaped = re.sub(r"[\\~^&%$#_{}]", lambda found: special.get(found[0], f"\\{found[0]}"), text)
    return re.sub("|".join(_LATEX_SIGNS), lambda found: _LATEX_SIGNS[found[0]], escaped).replace("–", "--")


def _lines(metric: str, row: Row, between: str) -> str:
    cell = row.cells.get(metric)
    if cell is None:
        return "–"
    parts = [score_text(metric, cell)]
    if cell.difference is not None:
        parts.append(difference_text(metric, cell.difference))
    return between.join(parts)


def _latex_cell(metric: str, row: Row) -> str:
    lines = [latex(line) for line in _lines(metric, row, "\n").split("\n")]
    return lines[0] if len(lines) == 1 else "\\makecell{" + r" \\ ".join(lines) + "}"


def _latex_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"% {title}", f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule"]
    lines += [" & ".join(map(latex, head)) + r" \\", "\\midrule"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
