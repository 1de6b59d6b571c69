"""Evaluation tasks: one YAML each, in this package or the user's own."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from mm_mhmoe_eval.kinds import KINDS

_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is scored on what.

    name, version: written into every record; the version goes up when scores stop being comparable.
    kind:          how it is scored, one of `KINDS`: retrieval (pairs of shards), vqa (questions about pictures of
                   shards), masked (perplexity of what is hidden in pictures, texts and pairs of shards), nlvr2
                   (sentences about two pictures), perplexity (of texts, by language), next_paragraph (which of four
                   follows), translation (which of four is one), ...
    data:          name -> path in the data directory. test: shards of the split that is scored (a directory,
                   glob or brace range). vqa: also test_questions and test_annotations, in VQAv2's format, of which the
                   latter may be missing: then there are results for the server, but no scores;
                   train_questions and train_annotations, when given, teach the question-only baseline. nlvr2:
                   test_statements, a file about the pictures of test, where these shards hold no statements
                   themselves; train, and train_statements as before, when given, teach the sentence-only baseline.
                   classification: pictures of the classes that the model tells. zero_shot and probe: classes, a file of
                   names, where classnames.txt does not lie beside the splits, and train, shards that probe learns from
                   and of which both take the classes of label_field; zero_shot: templates, a file of lines with {c}.
    metrics:       those that a summary shows first.
    options:       what the kind leaves to the task (`Kind.options`), such as rerank of a retrieval task; of
                   classification, zero_shot and probe: label_field, the field of KEY.json that says the class (without
                   it, KEY.cls is its number), and min_class_count, how many pictures make a value a class;
                   of perplexity, next_paragraph and translation: languages, separated by commas ("": all), of the last
                   two also questions, how many are asked about, and of translation pivot, the language on one side.
    """

    name: str
    version: int
    kind: str
    description: str
    data: dict[str, str]
    metrics: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is not one of {', '.join(KINDS)}")
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise ValueError(f"version={self.version!r} must be a whole number from 1")
        if not isinstance(self.name, str) or not self.name or not isinstance(self.description, str):
            raise ValueError("name and description must be texts")
        if not isinstance(self.data, dict) or not all(isinstance(v, str) for v in self.data.values()):
            raise ValueError("data must map names to paths")
        missing = [name for name in KINDS[self.kind].needs if name not in self.data]
        if missing:
            raise ValueError(f"data lacks {', '.join(missing)}, which kind={self.kind} needs")
        known = KINDS[self.kind].options
        if not isinstance(self.options, dict) or not set(self.options) <= set(known):
            raise ValueError(f"options={self.options!r} must map some of {', '.join(known) or 'no names'} to values")
        for name, value in self.options.items():
            if type(value) is not type(known[name]):
                raise ValueError(f"options.{name}={value!r} must be of type {type(known[name]).__name__}")


def list_tasks() -> list[str]:
    """Names of the tasks that come with the package."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files(__name__).iterdir()
        if entry.name.endswith(".yaml")
    )


def load_task(name_or_path: str | Path) -> Task:
    """A task by name, or from the user's own YAML file (a path that ends in .yaml or .yml).

    Raises ValueError for an unknown name, and for a file that is too large or no task.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise ValueError(f"task file {path} does not exist")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"task file {path} is larger than {_MOST_BYTES} bytes; a task is a few lines")
        return _parse(path.read_text(encoding="utf-8"), str(path))
    known = list_tasks()
    if str(name_or_path) not in known:
        raise ValueError(f"task {str(name_or_path)!r} is not one of {', '.join(known)}, nor a .yaml file")
    return _parse((resources.files(__name__) / f"{name_or_path}.yaml").read_text(encoding="utf-8"), str(name_or_path))


def _parse(text: str, where: str) -> Task:
    try:
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"task {where} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"task {where} must be a mapping, is {type(values).__name__}")
    needed = {f.name for f in fields(Task) if f.default_factory is MISSING}
    missing = sorted(needed - set(values))
    unknown = sorted(map(str, set(values) - {f.name for f in fields(Task)}))
    if missing or unknown:
        raise ValueError(
            f"task {where}: missing fields {', '.join(missing) or 'none'}, unknown fields "
            f"{', '.join(unknown) or 'none'}"
        )
    try:
        if not isinstance(values["metrics"], list) or not all(isinstance(name, str) for name in values["metrics"]):
            raise ValueError("metrics must be a list of names")
        return Task(**{**values, "metrics": tuple(values["metrics"])})
    except ValueError as error:
        raise ValueError(f"task {where}: {error}") from error
