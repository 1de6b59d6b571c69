"""Findings for people and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from rich.padding import Padding
from rich.text import Text

from mm_mhmoe_data.validation.findings import KINDS, Finding, Report

_STYLE = {"error": "bold red", "warning": "yellow"}


def as_json(report: Report) -> dict[str, Any]:
    """Everything as JSON values: counts of every kind, every shard, every finding that was kept."""
    return {
        "shards": len(report.shards),
        "samples": sum(shard.samples for shard in report.shards),
        "intact": sum(shard.intact for shard in report.shards),
        "errors": report.number("error"),
        "warnings": report.number("warning"),
        "kinds": {kind: {"count": report.counts[kind], **KINDS[kind]._asdict()} for kind in _kinds(report)},
        "findings": [
            {
                "severity": finding.severity,
                "kind": finding.kind,
                "shard": finding.shard,
                "key": finding.key,
                "member": finding.member,
                "at": finding.at,
                "problem": finding.problem,
            }
            for finding in report.findings
        ],
        "by_shard": [
            {
                "shard": shard.shard,
                "samples": shard.samples,
                "intact": shard.intact,
                "sha256": shard.sha256,
                "salvaged": shard.salvaged,
                "counts": dict(shard.counts),
            }
            for shard in report.shards
        ],
    }


def as_text(report: Report, examples: int = 3) -> Iterator[Text | Padding]:
    """For a terminal: each kind with its number, a few examples and what to do; errors first."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        by_kind[finding.kind].append(finding)
    for kind in _kinds(report):
        severity, title, remedy = KINDS[kind]
        count = report.counts[kind]
        yield Text.assemble((f"{severity:7s}", _STYLE[severity]), f" {count:6,}  ", (title, "bold"), f" [{kind}]")
        for finding in by_kind[kind][:examples]:
            yield Padding(Text(_line(finding)), (0, 0, 0, 4))
        if count > examples:
            yield Padding(Text(f"and {count - examples:,} more", style="dim"), (0, 0, 0, 4))
        yield Padding(Text(f"-> {remedy}", style="cyan"), (0, 0, 0, 4))


def summary(report: Report) -> str:
    samples = sum(shard.samples for shard in report.shards)
    intact = sum(shard.intact for shard in report.shards)
    errors, warnings = report.number("error"), report.number("warning")
    return (
        f"{_of(len(report.shards), 'shard')}, {_of(samples, 'sample')}, {intact:,} intact; "
        f"{_of(errors, 'error')}, {_of(warnings, 'warning')}"
    )


def _kinds(report: Report) -> list[str]:
    return [kind for kind in KINDS if report.counts[kind]]


def _line(finding: Finding) -> str:
    place = finding.shard.rpartition("/")[2] or finding.shard
    what = finding.member or (f"sample {finding.key}" if finding.key else "")
    at = "" if finding.at is None else f" at byte {finding.at}"
    shown = what if what.isprintable() else ascii(what)
    return f"{place}{' ' + shown if shown else ''}{at}: {finding.problem}"


def _of(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
