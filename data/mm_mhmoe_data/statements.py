"""Sentences about two pictures (NLVR2), each true or false. Legend: B batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, NLVR2Batch
from mm_mhmoe.config import TextConfig
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.masking import sample_draws
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.ring import Empty, fresh
from mm_mhmoe_data.samples import Picks, keys_of, load_all, squares
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import TrainTransform, Transform

_LABELS = {"true": True, "false": False}
_MAX_BYTES = 1 << 30


class Place(NamedTuple):
    """A picture of a `ShardDataset`: number of the sample, and its name there."""

    sample: int
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence, whether it is true of its two pictures, and where these lie.

    type: what kind of sentence it is; empty where nobody says so.
    """

    identifier: str
    sentence: str
    label: bool
    left: Place
    right: Place
    type: str = ""


class Statements(NamedTuple):
    """Statements, and the samples that their pictures are part of."""

    dataset: ShardDataset
    rows: Sequence[Statement]

    @property
    def counts(self) -> list[int]:
        """Statements that lie together: those of each shard, or of the file."""
        return self.dataset.counts if isinstance(self.rows, _OfShards) else [len(self.rows)]


class _OfShards(Sequence[Statement]):
    """A sample a statement, as `data build nlvr2` writes them; read when it is asked for."""

    def __init__(self, dataset: ShardDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return Statement(
            identifier=self.dataset.keys[index],
            sentence=self.dataset.caption(index),
            label=bool(self.dataset.label(index)),
            left=Place(index, "left"),
            right=Place(index, "right"),
        )


def read_statements(shards: str | Path, file: str | Path | None = None) -> Statements:
    """The statements of shards whose samples are KEY.left.png, KEY.right.png, KEY.txt and KEY.cls; or of a file of JSON
    lines about the pictures of shards: identifier, sentence, label ("True" or "False"), left and right (keys).

    Raises:
        ValueError: a line is no statement, or is about a picture that the shards do not hold; names it.
    """
    if file is None:
        dataset = ShardDataset(str(shards), "texts")
        return Statements(dataset, _OfShards(dataset))
    dataset = ShardDataset(str(shards), "images")
    index_of = {key: index for index, key in enumerate(dataset.keys)}
    rows = []
    for number, row in enumerate(_lines(Path(file)), start=1):
        try:
            left, right = index_of.get(row["left"]), index_of.get(row["right"])
            if left is None or right is None:
                missing = row["left" if left is None else "right"]
                raise ValueError(
                    f"{file}, line {number}: the statement is about picture {missing}, which the shards do not hold; "
                    "give the shards that belong to the statements"
                )
            statement = Statement(
                identifier=row["identifier"],
                sentence=row["sentence"],
                label=_LABELS[row["label"].lower()],
                left=Place(left),
                right=Place(right),
                type=row.get("type", ""),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{file}, line {number} is no statement ({type(error).__name__}: {error}); it needs identifier, "
                "sentence, label (True or False), left and right"
            ) from error
        rows.append(statement)
    if not rows:
        raise ValueError(f"{file} holds no statement; see docs/tasks/NLVR2.md for its format")
    return Statements(dataset, rows)


def _lines(path: Path) -> list[Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give a file of statements, or shards that hold them")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; that is no file of statements")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path} is no file of JSON lines ({error})") from error


class StatementBatches:
    """Batches of statements with both pictures, which are cropped apart from each other."""

    def __init__(
        self,
        statements: Statements,
        transform: TrainTransform | Transform,
        tokenizer: Tokenizer,
        text: TextConfig,
        *,
        seed: int = 0,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.dataset, self.rows = statements
        self.transform = transform
        self.tokenizer = tokenizer
        self.text = text
        self.seed = seed
        self.quarantine = quarantine

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, picks: Picks, empty: Empty = fresh) -> NLVR2Batch:
        """The pixels lie in memory from `empty`."""
        pixels = {side: squares(len(picks), self.transform.image_size, empty) for side in ("left", "right")}

        def read(row: int, pick: Pick) -> Statement:
            statement = self.rows[pick.sample]
            for side, pixels_BCHW in pixels.items():
                self._load(pick, statement, side, pixels_BCHW[row])
            return statement

        chosen = [statement for _, statement in load_all(self.quarantine, self.dataset, len(self), picks, read)]
        ids = [self.tokenizer.encode(statement.sentence, self.text.max_length) for statement in chosen]
        texts = collate_texts(ids, self.text.pad_id, self.text.max_length)

        def half(side: str, places: Sequence[Place]) -> ImageTextBatch:
            return ImageTextBatch(
                images=Images(pixels_BCHW=pixels[side]),
                texts=texts,
                keys=keys_of(self.dataset, [Pick(0, place.sample) for place in places]),
            )

        return NLVR2Batch(
            left=half("left", [statement.left for statement in chosen]),
            right=half("right", [statement.right for statement in chosen]),
            labels_B=torch.tensor([int(statement.label) for statement in chosen]),
            identifiers=tuple(statement.identifier for statement in chosen),
        )

    def _load(self, pick: Pick, statement: Statement, side: str, out_CHW: Tensor) -> None:
        place: Place = getattr(statement, side)
        pixels_CHW = self.dataset.picture(*place, at_least=self.transform.least_side)
        if isinstance(self.transform, TrainTransform):
            draws = sample_draws(self.seed, pick.epoch, statement.identifier, f"nlvr2/{side}")
            self.transform(pixels_CHW, draws, statement.sentence, out_CHW)
        else:
            out_CHW.copy_(self.transform(pixels_CHW))
