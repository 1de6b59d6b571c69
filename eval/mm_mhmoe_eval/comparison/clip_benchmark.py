"""Results of CLIP_benchmark as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_mhmoe_eval.results import ResultRecord

_NEEDED = ("dataset", "model", "pretrained", "task", "metrics")


def is_clip_benchmark(values: object) -> bool:
    return isinstance(values, Mapping) and all(name in values for name in _NEEDED)


def from_clip_benchmark(values: Mapping[str, Any], where: str) -> ResultRecord:
    """A record of one JSON file that CLIP_benchmark wrote.

    Its task has the name of the data set, without `wds/` and with `_` for `/`, its scores keep their names, which are
    those of this project. How many samples were scored, on which files, is not said there.

    Raises ValueError that names the file, for metrics that are no finite numbers.
    """
    metrics = values["metrics"]
    if not isinstance(metrics, Mapping):
        raise ValueError(f"{where}: metrics is a {type(metrics).__name__}, not an object")
    model, weights = values["model"], values["pretrained"]
    language = values.get("language", "en")
    task = str(values["dataset"]).removeprefix("wds/").replace("/", "_")
    try:
        return ResultRecord(
            task=task if language == "en" else f"{task}_{language}",
            task_version=1,
            model=f"{model}/{weights}" if weights else str(model),
            metrics={str(name): value for name, value in metrics.items() if value is not None},
            samples=0,
            seed=0,
            config={"from": "CLIP_benchmark", "task": values["task"], "language": language},
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
