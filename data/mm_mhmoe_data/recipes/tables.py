"""Rows of a table of captions: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_MAX_FIELD = 16 << 20


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) with the named columns only. The form follows the name: .csv, .tsv, .jsonl or .parquet.

    Raises `ValueError` naming the file, the line, and the columns that are there.
    """
    if not path.is_file():
        raise ValueError(f"captions={str(path)!r} is no file.")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"captions={str(path)!r} must end in one of {', '.join(readers)}.")
    yield from reader(path, columns)


def _csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(_MAX_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            _check_columns(path, columns, rows.fieldnames or [])
            for row in rows:
                yield f"{path.name}, line {rows.line_num}", {name: row[name] for name in columns}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, after line {rows.line_num}: {error}. Write the file again as UTF-8.") from error


def _jsonl(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON ({error}). Mend it or take it out.") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is not a JSON object. Mend it or take it out.")
            _check_columns(path, columns, list(row), f", line {number}")
            yield f"{path.name}, line {number}", {name: row[name] for name in columns}


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow to be read: pip install 'mm-mhmoe[parquet]'.") from error
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, columns, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", row
    except ArrowException as error:
        raise ValueError(f"{path} cannot be read as Parquet ({error}).") from error


def _check_columns(path: Path, columns: Sequence[str], there: Sequence[str], where: str = "") -> None:
    missing = [name for name in columns if name not in there]
    if missing:
        raise ValueError(f"{path}{where} has no column {missing[0]!r}. It has {', '.join(map(str, there)) or 'none'}.")
