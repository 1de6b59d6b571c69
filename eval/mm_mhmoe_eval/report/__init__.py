"""The report: one self-contained HTML page. `write_report(data, path)` is all one needs."""

from mm_mhmoe_eval.report.page import render, write_report

__all__ = ["render", "write_report"]
