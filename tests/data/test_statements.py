"""Statements from shards and from files: what is read is what was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.datamodules import NLVR2DataModule
from mm_mhmoe_data.ordered import iterate_nlvr2
from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.shards.indexed import SampleError
from mm_mhmoe_data.statements import read_statements
from mm_mhmoe_data.transforms import EvalTransform

SENTENCES = ["both show a bird", "the left picture is red", "only one is green"]


@pytest.fixture
def pairs(tmp_path: Path, make_picture: Callable[..., bytes]) -> Path:
    """Shards as the recipe nlvr2 writes them."""
    samples = [
        Sample(
            key=f"dev-{i}-0-1",
            parts={
                "left.png": make_picture(2 * i),
                "right.jpg": make_picture(2 * i + 1, format="JPEG"),
                "txt": sentence.encode(),
                "cls": str(i % 2).encode(),
            },
        )
        for i, sentence in enumerate(SENTENCES)
    ]
    write_shards(samples, tmp_path / "pairs", 0, 2)
    return tmp_path / "pairs"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A file about the pictures of `shards`."""
    rows = [
        {"identifier": f"test-{i}-0-0", "sentence": sentence, "label": ("True", "false")[i % 2]}
        | {"left": f"{i:09d}", "right": f"{20 - i:09d}", "type": "t"}
        for i, sentence in enumerate(SENTENCES)
    ]
    (tmp_path / "statements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "statements.jsonl"


def test_shards_hold_statements_with_both_pictures(pairs: Path, make_picture, tokenizer, vision, text) -> None:
    statements = read_statements(pairs)
    assert [row.identifier for row in statements.rows] == ["dev-0-0-1", "dev-1-0-1", "dev-2-0-1"]
    assert [row.label for row in statements.rows] == [False, True, False]
    assert [row.sentence for row in statements.rows] == SENTENCES and statements.counts == [2, 1]
    first, second = iterate_nlvr2(statements, tokenizer, vision, text, 2)
    assert first.identifiers + second.identifiers == tuple(row.identifier for row in statements.rows)
    assert first.labels_B.tolist() + second.labels_B.tolist() == [0, 1, 0]
    shrink = EvalTransform(vision.image_size)
    for i, (batch, row) in enumerate([(first, 0), (first, 1), (second, 0)]):
        for side, number, format in ((batch.left, 2 * i, "PNG"), (batch.right, 2 * i + 1, "JPEG")):
            picture = decode_picture(make_picture(number, format=format))
            assert torch.equal(side.images.pixels_BCHW[row], shrink(picture))
            length = int(side.texts.valid_BL[row].sum())
            assert side.texts.ids_BL[row, :length].tolist() == tokenizer.encode(SENTENCES[i], text.max_length)


def test_a_file_names_pictures_of_shards(shards: Path, listed: Path, tokenizer, vision, text) -> None:
    statements = read_statements(shards, listed)
    dataset = ShardDataset(shards)
    (batch,) = iterate_nlvr2(statements, tokenizer, vision, text, 8)
    assert batch.left.keys == ("000000000", "000000001", "000000002")
    assert batch.right.keys == ("000000020", "000000019", "000000018")
    assert batch.labels_B.tolist() == [1, 0, 1] and statements.rows[0].type == "t"
    shrink = EvalTransform(vision.image_size)
    assert torch.equal(batch.right.images.pixels_BCHW[1], shrink(dataset.picture(19)))


def test_training_crops_depend_on_seed_epoch_and_side(shards: Path, listed: Path, tokenizer, vision, text) -> None:
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    listed.write_text("".join(json.dumps({**row, "right": row["left"]}) + "\n" for row in rows))

    def batches(seed: int):
        module = NLVR2DataModule(
            read_statements(shards, listed), tokenizer, vision, text, batch_size=3, num_steps=2, seed=seed
        )
        module.setup("fit")
        return [module.make_batch(step) for step in range(2)]

    first, again, other = batches(0), batches(0), batches(1)
    assert sorted(first[0].identifiers) == sorted(first[1].identifiers)  # an epoch has every statement once
    for ours, theirs in zip(first, again, strict=True):
        assert torch.equal(ours.left.images.pixels_BCHW, theirs.left.images.pixels_BCHW)
        assert not torch.equal(ours.left.images.pixels_BCHW, ours.right.images.pixels_BCHW)
    place = [other[0].identifiers.index(name) for name in first[0].identifiers]
    assert not torch.equal(first[0].left.images.pixels_BCHW, other[0].left.images.pixels_BCHW[place])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "no file of JSON lines"),
        ('["a"]', "line 1 is no statement"),
        ('{"identifier": "a-0-0-0", "sentence": "x", "left": "000000000", "right": "000000001"}', "label"),
        (
            '{"identifier": "a-0-0-0", "sentence": "x", "label": "maybe", "left": "000000000", "right": "000000001"}',
            "maybe",
        ),
        ('{"identifier": "a-0-0-0", "sentence": "x", "label": "True", "left": "000000000", "right": "7"}', "picture 7"),
        ("", "holds no statement"),
    ],
)
def test_what_is_no_statement(shards: Path, tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "bad.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=problem):
        read_statements(shards, tmp_path / "bad.jsonl")


def test_a_sample_that_lacks_a_part_is_named(write_shard, make_picture) -> None:
    dataset = read_statements(write_shard(**{"left.png": make_picture(0), "txt": b"x", "cls": b"yes"})).dataset
    with pytest.raises(SampleError, match=r"000000007 has b'yes' in its \.cls"):
        dataset.label(0)
    with pytest.raises(SampleError, match=r"000000007 has no picture right\.jpg"):
        dataset.picture(0, "right")
