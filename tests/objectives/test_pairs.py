"""Truth: each objective by itself, from passes of its own. Streams are random."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.batch import ImageTextBatch, PretrainBatch
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.captioning import caption_loss, caption_stream
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.masked import masked_losses
from mm_mhmoe.objectives.pairs import PairObjectives, pair_losses, pair_streams
from mm_mhmoe.objectives.picture_targets import CodeTarget

ALL = PairObjectives(caption=True, contrastive=True, itm=True)


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return PretrainModel(config(), 8, embed_dim=6).eval()


@pytest.fixture
def batch(stream):
    return PretrainBatch(images=stream("images", masked=True, seed=1), pairs=stream("pairs", masked=True, seed=3))


def codes_of(pixels):
    return torch.zeros(len(pixels), 16, dtype=torch.int64)


TARGET = CodeTarget(SimpleNamespace(codes=codes_of))


def run(model, batch, objectives):
    extra = pair_streams(batch.pairs, objectives)
    masked, output = masked_losses(model, TARGET, batch, extra=extra)
    return masked, pair_losses(model, batch.pairs, output.streams[len(output.streams) - len(extra) :], objectives)


def test_one_pass_serves_all_streams_and_matching_a_second(model, batch):
    passes = []
    model.encoder.register_forward_pre_hook(lambda _, streams: passes.append(len(streams)))
    run(model, batch, replace(ALL, itm=False))
    assert passes == [5]  # pictures, pairs; captions, pictures and texts of the pairs
    run(model, batch, ALL)
    assert passes == [5, 5, 1]


def test_the_masked_losses_do_not_change(model, batch):
    alone, _ = masked_losses(model, TARGET, batch)
    together, _ = run(model, batch, ALL)
    assert alone.keys() == together.keys()
    for name, part in alone.items():
        torch.testing.assert_close(together[name].loss, part.loss)


def test_each_loss_against_passes_of_its_own(model, batch):
    _, losses = run(model, batch, ALL)
    assert list(losses) == ["pairs_caption", "pairs_contrastive", "pairs_itm"]
    causal = caption_stream(batch.pairs)
    caption = caption_loss(model.encoder(causal).streams[0].text_BLD, causal.texts, model.text_head)
    torch.testing.assert_close(losses["pairs_caption"].loss, caption.loss)
    images, texts = replace(batch.pairs.images, masked_BN=None), replace(batch.pairs.texts, masked_BL=None)
    image_cls = model.encoder(ImageTextBatch(images=images)).streams[0].image_BND[:, 0]
    text_cls = model.encoder(ImageTextBatch(texts=texts)).streams[0].text_BLD[:, 0]
    head = model.contrastive_head
    image_BP, text_BP = head.embed_image(image_cls), head.embed_text(text_cls)
    torch.testing.assert_close(losses["pairs_contrastive"].loss, info_nce(image_BP, text_BP, head.scale))
    own = torch.arange(3)
    similar = image_BP @ text_BP.t()
    right = int((similar.argmax(0) == own).sum() + (similar.argmax(1) == own).sum())
    assert (losses["pairs_contrastive"].positions, losses["pairs_contrastive"].correct.item()) == (6, right)


def test_matching_is_trained_on_true_pairs_and_pairs_of_others(model, batch):
    """With two pairs the negatives are certain: the other picture, and the other text."""
    pairs = ImageTextBatch(
        images=replace(batch.pairs.images, pixels_BCHW=batch.pairs.images.pixels_BCHW[:2], masked_BN=None),
        texts=replace(
            batch.pairs.texts,
            ids_BL=batch.pairs.texts.ids_BL[:2],
            valid_BL=batch.pairs.texts.valid_BL[:2],
            masked_BL=None,
        ),
    )
    states = model.encoder(*pair_streams(pairs, ALL)).streams
    found = pair_losses(model, pairs, states, ALL)["pairs_itm"]
    logs = []
    for picture, text in [(0, 0), (1, 1), (1, 0), (0, 1), (0, 1), (1, 0)]:
        row = ImageTextBatch(
            images=replace(pairs.images, pixels_BCHW=pairs.images.pixels_BCHW[[picture]]),
            texts=replace(pairs.texts, ids_BL=pairs.texts.ids_BL[[text]], valid_BL=pairs.texts.valid_BL[[text]]),
        )
        logits = model.match_head(model.encoder(row).streams[0].image_BND[0, 0])
        logs.append(F.log_softmax(logits, dim=0)[int(picture == text)])
    torch.testing.assert_close(found.loss, -torch.stack(logs).mean())
    assert found.positions == 6


def test_a_picture_without_finite_pixels_comes_out_as_a_loss(model, batch):
    """So that the run can skip the step."""
    pixels = batch.pairs.images.pixels_BCHW.clone()
    pixels[0] = torch.nan
    spoilt = replace(batch.pairs, images=replace(batch.pairs.images, pixels_BCHW=pixels))
    _, losses = run(model, PretrainBatch(pairs=spoilt), ALL)
    assert losses["pairs_contrastive"].loss.isnan() and losses["pairs_itm"].loss.isnan()


def test_nothing_asked_and_no_pairs_add_nothing(model, batch):
    assert pair_streams(batch.pairs, PairObjectives()) == [] == pair_streams(None, ALL)
    assert pair_losses(model, batch.pairs, [], PairObjectives()) == {} == pair_losses(model, None, [], ALL)


def test_matching_without_similarities_is_refused():
    with pytest.raises(ValueError, match="itm_loss=true needs contrastive_loss=true"):
        PairObjectives(itm=True)


def test_a_model_without_the_head_is_refused(config, batch):
    model = PretrainModel(config(), 8).eval()
    with pytest.raises(ValueError, match="no contrastive head"):
        run(model, batch, PairObjectives(contrastive=True))
