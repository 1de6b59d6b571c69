"""Truth: SentencePiece's own ids; what is hidden, counted over all samples and epochs. Shards are the demo's."""

from importlib import resources

import pytest
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PairDataModule
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import EOS, MASK, Tokenizer, train_tokenizer

from mm_mhmoe.config import TextConfig, VisionConfig

DEMO = resources.files("mm_mhmoe_data") / "demo" / "val"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    dataset = ShardDataset(str(DEMO))
    captions = [dataset.caption(index) for index in range(len(dataset))]
    return Tokenizer(train_tokenizer(captions, tmp_path_factory.mktemp("words"), vocab_size=300))


def module(words, **options):
    vision, text = VisionConfig(image_size=16, patch_size=8), TextConfig(vocab_size=300, max_length=16)
    made = PairDataModule(str(DEMO), words, vision, text, task="captioning", batch_size=50, num_steps=20, **options)
    made.setup("fit")
    return made


def test_words_and_the_end_are_hidden_in_that_share(words):
    made = module(words, text_mask=0.7)
    hidden = maskable = ends = rows = 0
    for step in range(20):  # four epochs
        texts = made.make_batch(step).texts
        maskable_BL = (texts.ids_BL > MASK) | (texts.ids_BL == EOS)
        assert not (texts.masked_BL & ~maskable_BL).any() and texts.masked_BL.any(dim=1).all()
        hidden, maskable = hidden + texts.masked_BL.sum().item(), maskable + maskable_BL.sum().item()
        ends, rows = ends + (texts.masked_BL & (texts.ids_BL == EOS)).sum().item(), rows + len(texts)
    assert hidden / maskable == pytest.approx(0.7, abs=0.02)
    assert ends / rows == pytest.approx(0.7, abs=0.05)


def test_texts_are_the_captions_and_masks_differ_between_epochs(words):
    made = module(words, text_mask=0.7)
    dataset = ShardDataset(str(DEMO))
    said = {key: words.encode(dataset.caption(i), 16) for i, key in enumerate(dataset.keys)}
    masks = {}
    for step in range(10):
        batch = made.make_batch(step)
        for row, key in enumerate(batch.keys):
            ids = batch.texts.ids_BL[row][batch.texts.valid_BL[row]].tolist()
            assert ids == said[key]
            masks.setdefault(key, []).append(batch.texts.masked_BL[row].tolist())
    assert all(len(both) == 2 for both in masks.values())
    assert sum(first != second for first, second in masks.values()) > 100


def test_whole_words_can_be_hidden(words):
    texts = module(words, data=DataConfig(whole_word=True), text_mask=0.5).make_batch(0).texts
    for ids, masked in zip(texts.ids_BL.tolist(), texts.masked_BL.tolist(), strict=True):
        for place in range(2, len(ids)):
            if ids[place] > MASK and not words.piece(ids[place]).startswith("▁"):
                assert masked[place] == masked[place - 1]
