"""Questions about pictures, in batches. Legend: B batch, A answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mm_mhmoe.batch import ImageTextBatch, VQABatch
from mm_mhmoe.config import TextConfig
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.ring import Empty, fresh
from mm_mhmoe_data.samples import Picks, Picture, Pictures, collate_pictures, load_all
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import VQAExample, soft_targets


class Questions:
    """VQA examples joined with their pictures. Raises ValueError when a picture is not in the shards."""

    def __init__(
        self,
        dataset: ShardDataset,
        examples: Sequence[VQAExample],
        answers: Sequence[str],
        pictures: Pictures,
        tokenizer: Tokenizer,
        text: TextConfig,
        quarantine: Quarantine | None = None,
    ) -> None:
        index_of = {key: index for index, key in enumerate(dataset.keys)}
        for example in examples:
            if example.image_key not in index_of:
                raise ValueError(
                    f"question {example.question_id} is about picture {example.image_key}, which the shards do not "
                    "hold; give the shards that belong to the questions"
                )
        self.examples = examples
        self.picture_of = [index_of[example.image_key] for example in examples]
        self.answer_index = {answer: i for i, answer in enumerate(answers)}
        self.dataset = dataset
        self.pictures = pictures
        self.tokenizer = tokenizer
        self.text = text
        self.quarantine = quarantine

    def __len__(self) -> int:
        return len(self.examples)

    def __call__(self, picks: Picks, empty: Empty = fresh) -> VQABatch:
        """The pixels lie in memory from `empty`."""
        pixels_BCHW = self.pictures.square(len(picks), empty)

        def read(row: int, pick: Pick) -> Picture:
            example = self.examples[pick.sample]
            return self.pictures(Pick(pick.epoch, self.picture_of[pick.sample]), example.question, pixels_BCHW[row])

        rows = load_all(self.quarantine, self.dataset, len(self), picks, read)
        chosen = [self.examples[pick.sample] for pick, _ in rows]
        ids = [self.tokenizer.encode(example.question, self.text.max_length) for example in chosen]
        pairs = ImageTextBatch(
            images=collate_pictures([picture for _, picture in rows], pixels_BCHW),
            texts=collate_texts(ids, self.text.pad_id, self.text.max_length),
            keys=tuple(example.image_key for example in chosen),
        )
        targets_BA = torch.stack([soft_targets(example.answers, self.answer_index) for example in chosen])
        return VQABatch(
            pairs=pairs, targets_BA=targets_BA, question_ids=tuple(example.question_id for example in chosen)
        )
