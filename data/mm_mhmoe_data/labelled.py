"""Pictures with a class each: from .cls, as shards of ImageNet and CLIP_benchmark have it, or from a field of .json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mm_mhmoe.batch import ImageTextBatch, LabelledBatch
from mm_mhmoe_data.clip_benchmark import read_lines
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.ring import Empty, fresh
from mm_mhmoe_data.samples import Picks, Picture, Pictures, collate_pictures, keys_of, load_all
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards.places import join

CLASSNAMES = "classnames.txt"


class Labelled:
    """Those pictures of shards that have a class, and its number in `classes`.

    Args:
        dataset: of pictures.
        classes: names, in the order of their numbers.
        places: which samples of the dataset.
        labels: their classes; None: the numbers in their .cls, read when they are asked for.
    """

    def __init__(
        self, dataset: ShardDataset, classes: Sequence[str], places: Sequence[int], labels: Sequence[int] | None = None
    ) -> None:
        self.dataset = dataset
        self.classes = tuple(classes)
        self.places = places
        self._labels = labels

    def __len__(self) -> int:
        return len(self.places)

    @property
    def left_out(self) -> int:
        """Pictures of the shards whose class is none of `classes`."""
        return len(self.dataset) - len(self)

    @property
    def counts(self) -> list[int]:
        """Pictures that lie together: those of each shard, or all."""
        return self.dataset.counts if self._labels is None else [len(self)]

    def key(self, index: int) -> str:
        return self.dataset.keys[self.places[index]]

    def label(self, index: int) -> int:
        """Raises `SampleError` for a .cls that is missing or names no class."""
        if self._labels is not None:
            return self._labels[index]
        return self.dataset.label(self.places[index], len(self.classes))

    def labels(self, count: int | None = None) -> torch.Tensor:
        """Of all pictures, or of the first so many: int64."""
        return torch.tensor([self.label(index) for index in range(len(self) if count is None else count)])


def read_labelled(
    shards: str | Path, *, field: str | None = None, classes: Sequence[str] | None = None, min_count: int = 1
) -> Labelled:
    """The pictures of shards that have a class.

    Args:
        field: of KEY.json, whose value is the class; None: KEY.cls holds its number.
        classes: names of the classes. With a field, pictures of other classes are left out; None: every value of at
            least min_count pictures, by alphabet. Without one, None: the lines of classnames.txt beside the splits.
        min_count: see classes.

    Raises:
        ValueError: classes are not known, or no picture has one of them.
    """
    dataset = ShardDataset(str(shards), "images")
    if field is None:
        return Labelled(dataset, classes or _classnames(dataset), range(len(dataset)))
    values = [_value(dataset.metadata(index), field) for index in range(len(dataset))]
    if classes is None:
        counts = Counter(value for value in values if value)
        classes = sorted(value for value, count in counts.items() if count >= min_count)
    number_of = {name: number for number, name in enumerate(classes)}
    places = [index for index, value in enumerate(values) if value in number_of]
    if not places:
        raise ValueError(
            f"no picture of {shards} has a class in the field {field!r} of its .json that is one of "
            f"{len(classes)} classes of at least {min_count} pictures; look at the shards' .json"
        )
    return Labelled(dataset, classes, places, [number_of[values[place]] for place in places])


def read_names(path: str | Path) -> tuple[str, ...]:
    """The lines of a file of names, or of templates. Raises ValueError where there are none."""
    names = read_lines(str(path))
    if not names:
        raise ValueError(f"{path} does not exist or is empty; it needs a name a line")
    return names


def _classnames(dataset: ShardDataset) -> tuple[str, ...]:
    names = read_lines(join(dataset.root, CLASSNAMES))
    if not names:
        raise ValueError(
            f"{join(dataset.root, CLASSNAMES)} does not exist or is empty; name the classes by a file, or take them "
            "from a field of .json"
        )
    return names


def _value(metadata: dict[str, Any], field: str) -> str:
    value = metadata.get(field)
    return str(value).strip() if isinstance(value, (str, int)) else ""


class LabelledBatches:
    """Batches of pictures with their classes."""

    def __init__(self, labelled: Labelled, pictures: Pictures, quarantine: Quarantine | None = None) -> None:
        self.labelled = labelled
        self.pictures = pictures
        self.quarantine = quarantine

    def __len__(self) -> int:
        return len(self.labelled)

    def __call__(self, picks: Picks, empty: Empty = fresh) -> LabelledBatch:
        """The pixels lie in memory from `empty`."""
        dataset, places = self.labelled.dataset, self.labelled.places
        pixels_BCHW = self.pictures.square(len(picks), empty)

        def read(row: int, pick: Pick) -> tuple[Picture, int]:
            picture = self.pictures(Pick(pick.epoch, places[pick.sample]), out_CHW=pixels_BCHW[row])
            return picture, self.labelled.label(pick.sample)

        rows = load_all(self.quarantine, dataset, len(self), picks, read)
        return LabelledBatch(
            images=ImageTextBatch(
                images=collate_pictures([picture for _, (picture, _) in rows], pixels_BCHW),
                keys=keys_of(dataset, [Pick(pick.epoch, places[pick.sample]) for pick, _ in rows]),
            ),
            labels_B=torch.tensor([label for _, (_, label) in rows]),
        )
