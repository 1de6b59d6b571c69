"""Whether scores may stand in one table: the same version of the task, the same data, as much of it."""

from __future__ import annotations

from collections.abc import Sequence

from mm_mhmoe_eval.results import ResultRecord

Scored = Sequence[tuple[str, Sequence[ResultRecord]]]


def check_comparable(task: str, scored: Scored) -> None:
    """Raises ValueError that names the task, both rows, what differs, and the remedy.

    Records without checksums, as other tools write them, are taken at their word.
    """
    (first_name, (first, *_)), *_ = scored
    for name, records in scored:
        for record in records:
            told = _difference(first, record)
            if told:
                raise ValueError(
                    f"{task}: {first_name} and {name} were scored on {told}; such scores are not comparable. Score "
                    "both again with the same task and data, or compare them apart"
                )


def _difference(a: ResultRecord, b: ResultRecord) -> str | None:
    if a.task_version != b.task_version:
        return f"versions {a.task_version} and {b.task_version} of the task"
    if not a.checksums or not b.checksums:
        return None
    limits = [record.config.get("limit") for record in (a, b)]
    if a.samples != b.samples or limits[0] != limits[1]:
        counts = [f"{r.samples:,} samples{f' (limit={n})' if n else ''}" for r, n in zip((a, b), limits, strict=True)]
        return " and ".join(counts)
    ours, theirs = _data(a), _data(b)
    for file in sorted(ours.keys() | theirs.keys()):
        if ours.get(file) != theirs.get(file):
            return f"other data ({file} {'differs' if file in ours and file in theirs else 'is in one only'})"
    return None


def _data(record: ResultRecord) -> dict[str, str]:
    """Checksums of what is scored. Perplexities depend on the tokenizers too: they are means over tokens, except for
    lm-eval's, which are means over words, bytes or documents."""
    per_token = record.kind != "lm_eval" and any(name.endswith("perplexity") for name in record.metrics)
    return {name: sha for name, sha in record.checksums.items() if per_token or name.startswith("test")}
