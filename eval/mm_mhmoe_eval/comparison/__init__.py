"""`mm-mhmoe eval compare`: records side by side, with intervals and paired tests."""

from mm_mhmoe_eval.comparison.significance import PairedTest, holm, paired_test
from mm_mhmoe_eval.comparison.systems import System, read_systems
from mm_mhmoe_eval.comparison.tables import Cell, Difference, Row, TaskTable, compare
from mm_mhmoe_eval.comparison.written import to_csv, to_latex, to_markdown

__all__ = [
    "Cell",
    "Difference",
    "PairedTest",
    "Row",
    "System",
    "TaskTable",
    "compare",
    "holm",
    "paired_test",
    "read_systems",
    "to_csv",
    "to_latex",
    "to_markdown",
]
