"""What can be wrong with shards, and one thing that is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning"]
Parts = Literal["pairs", "images", "texts"]

MOST_OF_A_KIND = 1000
"""Findings of one kind that are kept of one shard; the others are only counted."""


class Kind(NamedTuple):
    """title: what such findings have in common; remedy: what to do about them."""

    severity: Severity
    title: str
    remedy: str


_AGAIN = "Copy or write the shard again; what is intact can be saved with --salvage."
_KEYS = "Rename the members; a key is what stands in front of the first dot of a file's name."

KINDS: dict[str, Kind] = {
    "unreadable": Kind("error", "shards that cannot be read", "Look at permissions, mounts and the disk."),
    "not_tar": Kind("error", "files that are no tar", "Unpack it if it is compressed; download it again otherwise."),
    "cut": Kind("error", "shards that end too early", _AGAIN),
    "header": Kind("error", "damaged headers", _AGAIN),
    "joined": Kind("error", "data behind the end of a tar", "Split joined tars; --salvage reads all of them."),
    "zeros": Kind("error", "ends filled with zeros, where data may have been", _AGAIN),
    "special": Kind("error", "links, devices and other members that are no files", "Write the shard from plain files."),
    "name": Kind("error", "names that are not UTF-8", "Rename the members."),
    "large": Kind("error", "members of too many bytes", "Take them out, or shrink them."),
    "no_key": Kind("error", "members without a key or an extension", f"{_KEYS} Files like ._x come from macOS."),
    "split": Kind("error", "samples whose members are apart", "Sort the members by name; --salvage does it."),
    "twice": Kind("error", "members or samples that occur twice in a shard", "Take one out; --salvage drops copies."),
    "picture": Kind("error", "pictures that cannot be decoded", "Take the samples out, or fetch the pictures again."),
    "pixels": Kind("error", "pictures of too many pixels", "Shrink them."),
    "text": Kind("error", "texts that are not UTF-8", "Convert them to UTF-8."),
    "long_text": Kind("error", "texts and .json of too many bytes", "Shorten them."),
    "json": Kind("error", ".json that cannot be read", "Write an object in UTF-8."),
    "count": Kind("error", "counts that are not those of the shards", "Find the missing samples, or mend the file."),
    "missing_shard": Kind("error", "shards that are listed but not there", "Fetch them, or mend the list."),
    "checksum": Kind("error", "bytes that have changed", "Copy the shard again from where the checksum was made."),
    "empty": Kind("warning", "shards without samples", "Take them out."),
    "no_picture": Kind("warning", "samples without a picture", "Training on pairs and pictures leaves them out."),
    "no_text": Kind("warning", "samples without a text", "Training on pairs and texts leaves them out."),
    "two_pictures": Kind("warning", "samples with several pictures", "Only the first of jpg, png, jpeg, webp is used."),
    "format": Kind("warning", "pictures of another format than their extension says", "Programs that trust it fail."),
    "json_key": Kind("warning", ".json that belongs to another sample", "Write the shard again from its source."),
    "small": Kind("warning", "pictures with a side below --min_side", "Take them out if they are too coarse."),
    "path": Kind("warning", "names that leave a folder, or hide", "Never unpack such a tar. Rename the members."),
    "control": Kind("warning", "names with characters that cannot be printed", "Rename the members."),
    "dots": Kind("warning", "names with several dots", "Readers disagree where the key ends; use one dot."),
    "runs_code": Kind("warning", "pickles", "Plain webdataset runs their code. They are not read here; take them out."),
    "inflates": Kind("warning", "compressed members", "Plain webdataset inflates them. They are not read here."),
    "key_twice": Kind("warning", "keys that occur in several shards", "Masks depend on keys: these get the same."),
    "sidecar": Kind("warning", "files beside shards that cannot be used", "Mend or remove them."),
    "stale_index": Kind("warning", "indexes older than their shards", "Run `data index` again."),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: where (at: byte of the shard) and what."""

    kind: str
    shard: str
    problem: str
    key: str = ""
    member: str = ""
    at: int | None = None

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What is looked at.

    parts: what every sample should have. decode: whether pictures are decoded, not only their headers read.
    min_side: pixels; smaller pictures are named.
    """

    parts: Parts = "pairs"
    decode: bool = True
    min_side: int = 0


@dataclass(kw_only=True)
class ShardReport:
    """What was found in one shard.

    intact: samples that can be used, if not as the shard is, then once it is salvaged.
    key_hash_n: 64 bits of every key.
    """

    shard: str
    samples: int = 0
    intact: int = 0
    sha256: str = ""
    salvaged: int | None = None
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    key_hash_n: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        if self.counts[finding.kind] <= MOST_OF_A_KIND:
            self.findings.append(finding)

    @property
    def errors(self) -> int:
        return sum(count for kind, count in self.counts.items() if KINDS[kind].severity == "error")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in all shards, and in files beside them."""

    shards: list[ShardReport]
    beside: list[Finding] = field(default_factory=list)

    @cached_property
    def findings(self) -> list[Finding]:
        return [finding for shard in self.shards for finding in shard.findings] + self.beside

    @cached_property
    def counts(self) -> Counter[str]:
        """Findings of each kind, also those that were only counted."""
        return sum((shard.counts for shard in self.shards), Counter(finding.kind for finding in self.beside))

    def number(self, severity: Severity) -> int:
        return sum(count for kind, count in self.counts.items() if KINDS[kind].severity == severity)
