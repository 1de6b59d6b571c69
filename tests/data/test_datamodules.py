from __future__ import annotations

import pickle
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import (
    PairDataModule,
    PictureDataModule,
    PretrainDataModule,
    StepDataModule,
    VQADataModule,
)
from mm_mhmoe_data.ordered import iterate_pairs, iterate_vqa
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.questions import Questions
from mm_mhmoe_data.samples import Pictures
from mm_mhmoe_data.shards import ShardError
from mm_mhmoe_data.tokenizer import MASK, Tokenizer
from mm_mhmoe_data.transforms import EvalTransform
from mm_mhmoe_data.vqa_data import VQAExample
from torch.utils.data import DataLoader, Dataset

from mm_mhmoe.batch import ImageTextBatch, PretrainBatch, VQABatch
from mm_mhmoe.config import TextConfig, VisionConfig

STEPS = 12
Make = Callable[..., StepDataModule]


def _fingerprint(batch: Any) -> bytes:
    """All that is in a batch: keys, ids, pixels, masks."""
    return pickle.dumps(_plain(batch))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


class _Recorder(L.LightningModule):
    """Learns nothing; writes down every batch that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[bytes] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(_fingerprint(batch))
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class _SaveAndStop(L.Callback):
    """A checkpoint after a step, and the end of the run there, as a signal would cause it."""

    def __init__(self, at: int, path: Path) -> None:
        self.at = at
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def _run(
    data: L.LightningDataModule,
    *,
    stop: tuple[int, Path] | None = None,
    resume: Path | None = None,
    **trainer: Any,
) -> list[bytes]:
    module = _Recorder()
    L.Trainer(
        **{"max_steps": STEPS, **trainer},
        accelerator="cpu",
        callbacks=[_SaveAndStop(*stop)] if stop else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    ).fit(module, data, ckpt_path=resume, weights_only=True)
    return module.seen


@pytest.fixture
def make_pretrain(shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig) -> Make:
    def make(**changes: Any) -> PretrainDataModule:
        sizes = {"batch_images": 3, "batch_texts": 4, "batch_pairs": 5, "num_steps": STEPS}
        return PretrainDataModule(shards, tokenizer, vision, text, **{**sizes, **changes})

    return make


@pytest.fixture
def examples() -> list[VQAExample]:
    return [
        VQAExample(
            question_id=100 + i,
            image_id=i % 23,
            question="what bird",
            question_type="what",
            answer_type="other",
            answers=("red",) * 3 + ("blue",),
            top_answer="red",
        )
        for i in range(30)
    ]


def _batches(data: StepDataModule) -> list[Any]:
    data.setup("fit")
    return list(data.train_dataloader())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stops", [(5,), (3, 8)])
def test_a_resumed_run_sees_what_the_unbroken_one_sees(
    make_pretrain: Make, tmp_path: Path, workers: int, stops: tuple[int, ...]
) -> None:
    unbroken = _run(make_pretrain())
    assert len(unbroken) == STEPS == len(set(unbroken))
    seen: list[bytes] = []
    resume = None
    for number, at in enumerate((*stops, None)):
        stop = (at, tmp_path / f"{number}.ckpt") if at else None
        seen += _run(make_pretrain(workers=workers), stop=stop, resume=resume)
        resume = tmp_path / f"{number}.ckpt"
    assert seen == unbroken


def test_a_run_is_resumed_with_validation_too(make_pretrain: Make, shards: Path, tmp_path: Path) -> None:
    parts = {"val_shards": shards / "00002.tar"}
    unbroken = _run(make_pretrain(**parts))
    first = _run(make_pretrain(**parts), stop=(7, tmp_path / "c"))
    assert first + _run(make_pretrain(**parts), resume=tmp_path / "c") == unbroken


def test_accumulated_batches_are_resumed(make_pretrain: Make, tmp_path: Path) -> None:
    # num_steps counts batches: six optimiser steps of two batches each.
    options = {"max_steps": STEPS // 2, "accumulate_grad_batches": 2}
    unbroken = _run(make_pretrain(), **options)
    assert unbroken == _run(make_pretrain())
    first = _run(make_pretrain(), stop=(2, tmp_path / "c"), **options)
    assert first + _run(make_pretrain(), resume=tmp_path / "c", **options) == unbroken


def test_the_seed_decides(make_pretrain: Make) -> None:
    runs = [[_fingerprint(b) for b in _batches(make_pretrain(seed=seed))] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert not set(runs[0]) & set(runs[2])


def test_every_stream_takes_every_sample_once_an_epoch(make_pretrain: Make) -> None:
    batches = _batches(make_pretrain(num_steps=23))
    for name, size in (("images", 3), ("texts", 4), ("pairs", 5)):
        keys = [key for batch in batches for key in getattr(batch, name).keys]
        assert len(keys) == 23 * size
        for epoch in range(size):
            assert len(set(keys[epoch * 23 : (epoch + 1) * 23])) == 23


def test_streams_and_seeds_have_orders_of_their_own(make_pretrain: Make) -> None:
    orders = set()
    for seed in range(4):
        data = make_pretrain(seed=seed, num_steps=5, batch_images=4, batch_texts=4, batch_pairs=4)
        batches = _batches(data)
        for name in ("images", "texts", "pairs"):
            orders.add(tuple(key for batch in batches for key in getattr(batch, name).keys))
    assert len(orders) == 12


def test_a_sample_has_new_masks_and_crops_in_another_epoch(make_pretrain: Make) -> None:
    batches = _batches(make_pretrain(batch_pairs=23, num_steps=2))
    first, second = ({k: i for i, k in enumerate(b.pairs.keys)} for b in batches)
    masks = [b.pairs.images.masked_BN for b in batches]
    pixels = [b.pairs.images.pixels_BCHW for b in batches]
    same = [torch.equal(masks[0][first[k]], masks[1][second[k]]) for k in first]
    assert sum(same) <= 1
    assert not any(torch.equal(pixels[0][first[k]], pixels[1][second[k]]) for k in first)


def test_pretrain_batches_have_the_shares_that_were_asked_for(make_pretrain: Make, vision: VisionConfig) -> None:
    for batch in _batches(make_pretrain()):
        assert isinstance(batch, PretrainBatch)
        images, texts, pairs = batch.images, batch.texts, batch.pairs
        assert images and texts and pairs and images.images and texts.texts and pairs.images and pairs.texts
        assert images.texts is None and texts.images is None
        assert (len(images), len(texts), len(pairs)) == (3, 4, 5)
        for masked_BN in (images.images.masked_BN, pairs.images.masked_BN):
            assert masked_BN is not None
            assert masked_BN.sum(1).eq(round(0.4 * vision.num_patches)).all()
        for part in (texts.texts, pairs.texts):
            assert part.masked_BL is not None
            assert part.masked_BL.any(1).all()
            assert (part.ids_BL[part.masked_BL] > MASK).all() and part.valid_BL[part.masked_BL].all()


def test_a_stream_of_size_0_is_absent(make_pretrain: Make) -> None:
    batch = _batches(make_pretrain(batch_images=0, batch_texts=0))[0]
    assert batch.images is None and batch.texts is None and batch.pairs is not None
    with pytest.raises(ValueError, match="at least one stream"):
        make_pretrain(batch_images=0, batch_texts=0, batch_pairs=0)


def test_validation_is_the_same_for_every_run(make_pretrain: Make, shards: Path) -> None:
    runs = []
    for seed in (0, 5):
        loader = make_pretrain(seed=seed, val_shards=shards).val_dataloader()
        runs.append([_fingerprint(batch) for batch in loader])
    assert runs[0] == runs[1]
    keys = [key for batch in make_pretrain(val_shards=shards).val_dataloader() for key in batch.pairs.keys]
    assert keys == list(ShardDataset(shards).keys)


def test_the_loader_counts_the_whole_run(make_pretrain: Make) -> None:
    data = make_pretrain()
    data.load_state_dict({"batches": 7})
    data.setup("fit")
    assert len(data.train_dataloader()) == STEPS
    assert len(list(data.train_dataloader())) == STEPS - 7


def test_two_processes_share_the_batches_of_one(make_pretrain: Make) -> None:
    def keys(per_process: int, rank: int, world: int) -> list[tuple[str, ...]]:
        data = make_pretrain(batch_pairs=per_process)
        data.trainer = types.SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
        return [batch.pairs.keys for batch in _batches(data)]

    one, zero_of_two, one_of_two = keys(6, 0, 1), keys(3, 0, 2), keys(3, 1, 2)
    for whole, even, odd in zip(one, zero_of_two, one_of_two, strict=True):
        assert whole[0::2] == even and whole[1::2] == odd


def test_retrieval_pairs_are_whole_and_belong_together(
    shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    dataset = ShardDataset(shards)
    data = PairDataModule(shards, tokenizer, vision, text, task="retrieval", batch_size=5, num_steps=3)
    for batch in _batches(data):
        assert isinstance(batch, ImageTextBatch) and batch.images and batch.texts
        assert batch.images.masked_BN is None and batch.texts.masked_BL is None
        for row, key in enumerate(batch.keys):
            expected = tokenizer.encode(dataset.caption(dataset.keys.index(key)), text.max_length)
            assert batch.texts.ids_BL[row][batch.texts.valid_BL[row]].tolist() == expected


def test_pictures_come_alone(shards: Path, vision: VisionConfig) -> None:
    for batch in _batches(PictureDataModule(shards, vision, batch_size=4, num_steps=2)):
        assert batch.texts is None and batch.images.masked_BN is None
        assert batch.images.pixels_BCHW.shape == (4, 3, 32, 32) and batch.images.pixels_BCHW.dtype == torch.uint8


def test_vqa_rows_belong_together(
    shards: Path, examples: list[VQAExample], tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    data = VQADataModule(shards, examples, ["blue", "red"], tokenizer, vision, text, batch_size=6, num_steps=5)
    batches = _batches(data)
    assert sorted(q for b in batches for q in b.question_ids) == [e.question_id for e in examples]
    for batch in batches:
        assert isinstance(batch, VQABatch)
        assert batch.pairs.keys == tuple(f"{(q - 100) % 23:09d}" for q in batch.question_ids)
        assert batch.targets_BA.shape == (6, 2)
        torch.testing.assert_close(batch.targets_BA, torch.tensor([[0.3, 0.9]]).expand(6, 2))


def test_a_question_about_a_missing_picture_is_named(
    shards: Path, examples: list[VQAExample], tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    dataset = ShardDataset(shards / "00000.tar")
    pictures = Pictures(dataset, EvalTransform(32), grid=8, stream="vqa", seed=0)
    with pytest.raises(ValueError, match=r"question 110 is about picture 000000010"):
        Questions(dataset, examples, ["red"], pictures, tokenizer, text)


def test_pairs_for_evaluation_come_once_and_in_order(
    shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    dataset = ShardDataset(shards)
    batches = list(iterate_pairs(dataset, tokenizer, vision, text, 10))
    assert [len(b) for b in batches] == [10, 10, 3]
    assert [k for b in batches for k in b.keys] == list(dataset.keys)
    assert batches[0].images and batches[0].texts and batches[0].images.masked_BN is None
    assert torch.equal(batches[0].images.pixels_BCHW[4], EvalTransform(32)(dataset.picture(4)))


def test_chosen_pairs_for_evaluation(
    shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    dataset = ShardDataset(shards)
    options = {"image_mask": 0.4, "text_mask": 0.5, "seed": 3}
    chosen = [20, 4, 11, 4]
    whole = list(iterate_pairs(dataset, tokenizer, vision, text, 1, **options))
    found = list(iterate_pairs(dataset, tokenizer, vision, text, 3, chosen=chosen, **options))
    assert [len(b) for b in found] == [3, 1]
    assert [k for b in found for k in b.keys] == [dataset.keys[i] for i in chosen]
    masks = torch.cat([b.images.masked_BN for b in found if b.images and b.images.masked_BN is not None])
    for mask, i in zip(masks, chosen, strict=True):
        images = whole[i].images
        assert images is not None and images.masked_BN is not None and torch.equal(mask, images.masked_BN[0])


def test_masked_pairs_for_evaluation_are_those_of_the_seed(
    shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    def masks(seed: int, batch_size: int) -> torch.Tensor:
        batches = iterate_pairs(
            ShardDataset(shards),
            tokenizer,
            vision,
            text,
            batch_size,
            image_mask=0.4,
            text_mask=0.5,
            seed=seed,
        )
        return torch.cat([b.images.masked_BN for b in batches if b.images and b.images.masked_BN is not None])

    assert torch.equal(masks(0, 10), masks(0, 4))
    assert not torch.equal(masks(0, 10), masks(1, 10))


def test_questions_for_evaluation_come_once_and_in_order(
    shards: Path, examples: list[VQAExample], tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    batches = list(iterate_vqa(ShardDataset(shards), examples, ["green"], tokenizer, vision, text, 8))
    assert [q for b in batches for q in b.question_ids] == [e.question_id for e in examples]
    assert all(not b.targets_BA.any() for b in batches)  # "green" is nobody's answer


class _Unreadable(Dataset):
    """Synthetic: every sample is a damaged one."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise ShardError(Path("a.tar"), "sample 3 is damaged")


def test_a_shard_error_of_a_worker_reaches_the_user_as_itself() -> None:
    """torch makes a worker's exception again from its message; an exception that needs more becomes a RuntimeError."""
    with pytest.raises(ShardError, match=r"a\.tar: sample 3 is damaged"):
        next(iter(DataLoader(_Unreadable(), batch_size=None, num_workers=1)))


def test_options_without_effect_are_refused(
    shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    pairs = partial(PairDataModule, shards, tokenizer, vision, text, task="retrieval", batch_size=4, num_steps=1)
    questions = partial(VQADataModule, shards, [], [], tokenizer, vision, text, batch_size=4, num_steps=1)
    with pytest.raises(ValueError, match=r"data\.exclude=leaks.txt has no effect"):
        questions(data=DataConfig(exclude="leaks.txt"))
    with pytest.raises(ValueError, match=r"data\.mix_by=tokens has no effect"):
        pairs(data=DataConfig(mix_by="tokens"))
    with pytest.raises(ValueError, match="pretraining only"):
        pairs(data=DataConfig(mode="stream"))
    assert pairs(data=DataConfig(captions="whole", window=9)).order.window == 9  # type: ignore[attr-defined]
