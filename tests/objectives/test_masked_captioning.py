"""Truth: the KL divergence of BEiT-3's captioning loss written out class by class; a pass for each hidden token over
the picture and the tokens before it; shares that are drawn, counted."""

import math

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.tasks import CaptionModel
from mm_mhmoe.objectives.masked_captioning import hidden_caption_loss, hidden_captions, smoothed_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_divergence_from_smoothed_targets(smoothing):
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 5, dtype=torch.float64), torch.randint(5, (7,))
    each = []
    for row, target in zip(logits.log_softmax(1).tolist(), targets.tolist(), strict=True):
        total = 0.0
        for kind, logp in enumerate(row):
            wanted = 1 - smoothing if kind == target else smoothing / 4
            total += wanted * (math.log(wanted) - logp) if wanted else 0.0
        each.append(total)
    assert smoothed_loss(logits, targets, smoothing=smoothing).item() == pytest.approx(sum(each) / 7)
    best = sorted(each)[: int(7 * 0.8)]
    found = smoothed_loss(logits, targets, smoothing=smoothing, drop_worst=0.2)
    assert len(best) == 5 and found.item() == pytest.approx(sum(best) / 5)


def test_loss_is_zero_at_the_smoothed_target():
    wanted = torch.full((1, 10), 0.1 / 9, dtype=torch.float64)
    wanted[0, 3] = 0.9
    assert smoothed_loss(wanted.log(), torch.tensor([3]), smoothing=0.1).item() == pytest.approx(0, abs=1e-12)


def test_nothing_hidden_costs_nothing_and_has_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    smoothed_loss(logits, torch.zeros(0, dtype=torch.long), smoothing=0.1, drop_worst=0.2).backward()
    assert logits.grad is not None


def test_shares_of_what_is_hidden():
    """80% mask tokens, 10% other words, 10% as they are; the encoder puts the mask tokens where masked_BL is."""
    torch.manual_seed(0)
    told = torch.rand(200, 50) < 0.7
    texts = Texts(ids_BL=torch.full((200, 50), 7), valid_BL=torch.ones(200, 50, dtype=torch.bool), masked_BL=told)
    pairs = ImageTextBatch(images=Images(pixels_BCHW=torch.zeros(200, 3, 4, 4)), texts=texts)
    shown = hidden_captions(pairs, TextConfig(vocab_size=1005, max_length=50)).texts
    other = shown.ids_BL != 7
    count = told.sum().item()
    assert not (shown.masked_BL & ~told).any() and not (other & ~told).any() and not (other & shown.masked_BL).any()
    assert shown.masked_BL.sum() / count == pytest.approx(0.8, abs=0.02)
    assert other.sum() / count == pytest.approx(0.1, abs=0.01)
    words = shown.ids_BL[other]
    assert words.min() == 5 and words.max() == 1004 and words.float().mean() == pytest.approx(505, abs=40)


def test_a_hidden_token_is_told_from_the_picture_and_what_stands_before_it(config, stream):
    torch.manual_seed(0)
    model = CaptionModel(config()).double().eval()
    pairs = stream("pairs", dtype=torch.float64, masked=True)
    hidden = hidden_captions(pairs, model.text)
    text_BLD, _ = model(hidden)
    found = hidden_caption_loss(model, text_BLD, pairs.texts, smoothing=0.1)
    logits, targets = [], []
    for row, place in pairs.texts.masked_BL.nonzero().tolist():
        part = slice(0, place + 1)
        texts = Texts(
            ids_BL=hidden.texts.ids_BL[row : row + 1, part],
            valid_BL=torch.ones(1, place + 1, dtype=torch.bool),
            masked_BL=hidden.texts.masked_BL[row : row + 1, part],
        )
        images = Images(pixels_BCHW=hidden.images.pixels_BCHW[row : row + 1])
        states, _ = model(ImageTextBatch(images=images, texts=texts, causal_text=True))
        logits.append(model.head(states[0, -1]))
        targets.append(pairs.texts.ids_BL[row, place])
    wanted = smoothed_loss(torch.stack(logits), torch.stack(targets), smoothing=0.1)
    assert found.positions == len(targets) > 5
    assert found.correct.item() == sum(int(row.argmax() == t) for row, t in zip(logits, targets, strict=True))
    torch.testing.assert_close(found.loss.double(), wanted, rtol=1e-5, atol=1e-6)  # fp32


def test_pictures_are_not_hidden(stream, config):
    assert hidden_captions(stream("pairs", masked=True), config().text).images.masked_BN is None
