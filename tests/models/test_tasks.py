"""Truth: the heads' definitions, and that both sides of a dual encoder are encoded apart."""

import math
from dataclasses import replace

import pytest
import torch

from mm_mhmoe.models.heads import ContrastiveHead
from mm_mhmoe.models.tasks import ClassificationModel, NLVR2Model, PretrainModel, RetrievalModel, VQAModel


@pytest.fixture
def retrieval(config) -> RetrievalModel:
    torch.manual_seed(0)
    return RetrievalModel(config(), 12).eval()


def test_embeddings_are_unit_vectors_of_each_side_alone(retrieval, stream) -> None:
    batch = stream("pairs")
    image_BP, text_BP, _ = retrieval(batch)
    assert image_BP.shape == text_BP.shape == (3, 12)
    torch.testing.assert_close(image_BP.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(text_BP.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(retrieval.embed_images(batch.images), image_BP, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(retrieval.embed_texts(batch.texts), text_BP, rtol=1e-4, atol=1e-5)


def test_scale_starts_at_clips_and_is_capped() -> None:
    head = ContrastiveHead(8, 4)
    assert head.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        head.log_scale.fill_(math.log(1000))
    assert head.scale.item() == pytest.approx(100)


def test_vqa_reads_picture_and_question(config, stream) -> None:
    torch.manual_seed(0)
    model = VQAModel(config(), ["yes", "no", "two"]).eval()
    batch = stream("pairs")
    logits = model.answer_logits(batch)
    assert logits.shape == (3, 3) and model.answers == ("yes", "no", "two")
    other = stream("pairs", seed=1)
    assert not torch.allclose(model.answer_logits(replace(batch, images=other.images)), logits)
    assert not torch.allclose(model.answer_logits(replace(batch, texts=other.texts)), logits)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_vqa_needs_both(config, stream, kind: str) -> None:
    with pytest.raises(ValueError, match="pictures and questions"):
        VQAModel(config(), ["yes"])(stream(kind))


def test_vqa_needs_answers(config) -> None:
    with pytest.raises(ValueError, match="answer vocabulary is empty"):
        VQAModel(config(), [])


def test_pretrain_heads_have_their_vocabularies(config) -> None:
    model = PretrainModel(config(), 50)
    assert model.image_head.weight.shape == (50, 32) and model.text_head.weight.shape == (40, 32)
    assert model.vision.num_patches == 16 and model.text.vocab_size == 40


def test_nlvr2_head_gets_both_pairs_in_beit3s_order(config, stream) -> None:
    """unilm/beit3, BEiT3ForVisualReasoning: [picture; text] of the left pair, then of the right, each encoded alone."""
    torch.manual_seed(0)
    model = NLVR2Model(config()).eval()
    left = stream("pairs")
    right = replace(left, images=stream("pairs", seed=1).images)
    parts = []
    for side in (left, right):
        states = model.encoder(side).streams[0]
        parts += [states.image_BND[:, 0], states.text_BLD[:, 0]]
    torch.testing.assert_close(model.judge(left, right), model.head(torch.cat(parts, dim=-1)), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="pictures and sentences"):
        model(stream("images"), right)


def test_beit3s_heads_have_its_shapes_and_start_small(config) -> None:
    """Released weights: head.norm1 (4 D), head.dense1 (2 D, 4 D), head.norm2 (2 D), head.dense2 (2, 2 D) of NLVR2."""
    head = NLVR2Model(config()).head
    assert [tuple(p.shape) for p in head.parameters()] == [
        (128,),
        (128,),
        (64, 128),
        (64,),
        (64,),
        (64,),
        (2, 64),
        (2,),
    ]
    assert head(torch.randn(5, 128)).abs().max() < 1e-2


def test_classes_are_told_from_the_mean_of_the_patches(config, stream) -> None:
    """unilm/beit3, BEiT3ForImageClassification: norm and one layer on the mean over patches, [CLS] left out."""
    torch.manual_seed(0)
    model = ClassificationModel(config(), ["cat", "dog", "bird"]).eval()
    batch = stream("images")
    patch_BND = model.encoder(batch).streams[0].image_BND[:, 1:]
    expected = model.head.classify(model.head.norm(patch_BND.mean(dim=1)))
    torch.testing.assert_close(model.class_logits(batch.images), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.image_features(batch.images), patch_BND.mean(dim=1), rtol=1e-4, atol=1e-6)
    assert [tuple(p.shape) for p in model.head.parameters()] == [(32,), (32,), (3, 32), (3,)]
    assert model.class_logits(batch.images).abs().max() < 1e-2
    with pytest.raises(ValueError, match="no classes"):
        ClassificationModel(config(), [])
