"""Records of several models, read from where the user points."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from mm_mhmoe_eval.comparison.clip_benchmark import from_clip_benchmark, is_clip_benchmark
from mm_mhmoe_eval.results import ResultRecord, read_record

_NAMED = re.compile(r"(?P<name>[^=/]+)=(?P<place>.+)\Z")


@dataclass(frozen=True, kw_only=True)
class System:
    """What is one row: a model, or several seeds of one, on any tasks. files: where each of the records was read."""

    name: str
    records: tuple[ResultRecord, ...]
    files: tuple[Path, ...]

    def of(self, task: str) -> list[ResultRecord]:
        """Its records of a task, in the order of their seeds."""
        return sorted((record for record in self.records if record.task == task), key=lambda record: record.seed)

    def samples(self, task: str) -> list[dict[str, Any]]:
        """What the model said for each sample of a task, in its first seed; empty where `--log_samples` was not given.

        Raises ValueError for a file that is damaged.
        """
        seeds = {r.seed: file for r, file in zip(self.records, self.files, strict=True) if r.task == task}
        path = seeds[min(seeds)].with_suffix(".samples.jsonl") if seeds else None
        if path is None or not path.is_file():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}); score the task again with --log_samples true") from error


def read_systems(places: Sequence[str]) -> list[System]:
    """A system of each place: a record, a folder of records, or a pattern of either; `NAME=` before it names the row.

    Without a name it is that of the model, or the place where several models, or several systems, would share it.

    Raises ValueError for a place without records, a name that is there twice, or a seed that has a task twice.
    """
    found: list[tuple[str | None, str, list[_Found]]] = []
    for place in places:
        match = _NAMED.match(place)
        name, where = (match["name"], match["place"]) if match else (None, place)
        found.append((name, where, _records(where)))
    models = [{record.model for record, _ in records} for _, _, records in found]
    shared = Counter(model for group in models for model in group)
    systems = []
    for (name, where, records), group in zip(found, models, strict=True):
        alone = next(iter(group)) if len(group) == 1 and all(shared[model] == 1 for model in group) else None
        read, files = zip(*records, strict=True)
        systems.append(System(name=name or (alone or where).removeprefix("local-dir:"), records=read, files=files))
    twice = [name for name, count in Counter(system.name for system in systems).items() if count > 1]
    if twice:
        raise ValueError(f"records: {twice[0]} is there twice; name rows by NAME=PATH")
    for system in systems:
        _check_seeds(system)
    return systems


_Found = tuple[ResultRecord, Path]


def _records(where: str) -> list[_Found]:
    paths = [Path(path) for path in sorted(glob(where))] or [Path(where)]
    found: list[_Found] = []
    for path in paths:
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            record = _read(file, lenient=path.is_dir())
            if record is not None:
                found.append((record, file))
    if not found:
        raise ValueError(f"{where} holds no records; mm-mhmoe eval writes them to its --output_path")
    return found


def _read(path: Path, *, lenient: bool = False) -> ResultRecord | None:
    """`lenient`: None for JSON of another kind, of which folders hold some."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give records or folders that hold some")
    values = _json(path)
    if is_clip_benchmark(values):
        return from_clip_benchmark(values, str(path))
    if lenient and not (isinstance(values, dict) and "task" in values and "metrics" in values):
        return None
    return read_record(path)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None


def _check_seeds(system: System) -> None:
    seeds = Counter((record.task, record.seed) for record in system.records)
    (task, seed), count = max(seeds.items(), key=lambda item: item[1])
    if count > 1:
        raise ValueError(
            f"{system.name} has seed {seed} of {task} {count} times; give each record once, and models one by one"
        )
