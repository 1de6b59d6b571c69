"""Truth: one forward pass for each prefix of a caption, whose last position predicts the next token; the picture's own
pass; gradients. What a token sees in such a pass, tests/nn/test_attention.py holds. Streams are random."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.captioning import caption_loss, caption_stream


@pytest.fixture(params=["dense", "mh_moe"])
def model(request, config):
    torch.manual_seed(0)
    moe = MoEConfig(num_experts=4, top_k=2, heads=4, every=1)
    return PretrainModel(config(ffn=request.param, moe=moe), 8).double().eval()


def prefix_states(model, pairs, row, length):
    """State of the last token of a prefix of one row."""
    images = replace(pairs.images, pixels_BCHW=pairs.images.pixels_BCHW[row : row + 1])
    cut = Texts(ids_BL=pairs.texts.ids_BL[row : row + 1, :length], valid_BL=torch.ones(1, length, dtype=torch.bool))
    return model.encoder(caption_stream(ImageTextBatch(images=images, texts=cut))).streams[0].text_BLD[0, -1]


def test_one_causal_pass_equals_a_pass_for_each_prefix(model, stream):
    pairs = stream("pairs", dtype=torch.float64)
    causal = caption_stream(pairs)
    found = caption_loss(model.encoder(causal).streams[0].text_BLD, causal.texts, model.text_head)
    losses, correct = [], 0
    for row in range(len(pairs)):
        for length in range(1, int(pairs.texts.valid_BL[row].sum())):
            logits = model.text_head(prefix_states(model, pairs, row, length))
            losses.append(F.cross_entropy(logits, pairs.texts.ids_BL[row, length]))
            correct += int(logits.argmax() == pairs.texts.ids_BL[row, length])
    assert found.positions == len(losses) == int(pairs.texts.valid_BL.sum()) - 3
    assert found.correct.item() == correct
    torch.testing.assert_close(found.loss.double(), torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)  # fp32


def test_a_picture_is_encoded_as_if_alone(model, stream):
    pairs = stream("pairs", dtype=torch.float64)
    alone = model.encoder(ImageTextBatch(images=pairs.images)).streams[0].image_BND
    torch.testing.assert_close(model.encoder(caption_stream(pairs)).streams[0].image_BND, alone)


def test_later_tokens_have_no_gradient_to_earlier_states(model, stream):
    causal = caption_stream(stream("pairs", dtype=torch.float64, padded=False))
    seen = {}
    model.encoder.text.register_forward_hook(lambda _, __, states: seen.update(text=states.requires_grad_()))
    states = model.encoder(causal).streams[0].text_BLD
    for place in (0, 4, 7):
        (gradient,) = torch.autograd.grad(states[:, place].square().sum(), seen["text"], retain_graph=True)
        reached = gradient.abs().amax(dim=(0, 2)) > 0
        assert reached.tolist() == [other <= place for other in range(8)]


def test_the_pairs_masks_are_off(stream):
    causal = caption_stream(stream("pairs", masked=True))
    assert causal.images.masked_BN is None and causal.texts.masked_BL is None and causal.causal_text
