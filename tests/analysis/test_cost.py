"""Truth: torch.utils.flop_counter on the real encoder.

Two things are outside token_flops and are added here: the patch embedding, and nothing for look-ups, norms and
activations, which the counter does not count either. Experts have no biases here: they are added inside a product,
where the counter would see them. Attention goes through torch's reference formula, because the counter does not know
the CPU's fused kernel in every version.
"""

from dataclasses import replace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.analysis.cost import active_share, recomputed_flops, step_flops, token_flops
from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig, language_preset
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.tasks import LanguageModel, PretrainModel
from mm_mhmoe.models.teachers.hog import HOGTeacher
from mm_mhmoe.objectives.contrastive import similarities
from mm_mhmoe.objectives.picture_targets import FeatureTarget, PixelTarget
from mm_mhmoe.training.apply import checkpoint_blocks

STREAMS = Workload(
    batch_images=16,
    batch_texts=64,
    batch_pairs=16,
    image_mask=0.25,
    text_mask=1 / 6,
    pair_image_mask=0.25,
    pair_text_mask=4 / 6,
)
MATCHING = replace(STREAMS, batch_images=0, batch_texts=0, contrastive_loss=True, itm_loss=True, embed_dim=12)


def attention(query, key, value, attn_mask=None):
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    return scores.softmax(-1) @ value


@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize(("kind", "length"), [("images", 17), ("texts", 8), ("pairs", 25)])
@pytest.mark.parametrize(("every", "heads", "top_k"), [(2, 4, 2), (1, 2, 1)])
def test_against_torchs_counter(config, stream, ffn, kind, length, every, heads, top_k) -> None:
    moe = MoEConfig(num_experts=4, top_k=top_k, heads=heads, every=every, expert_bias=False)
    encoder_config = config(ffn=ffn, depth=3, moe=moe)
    encoder = build_encoder(encoder_config).eval()
    batch = stream(kind, rows=2, padded=False)
    counter = FlopCounterMode(display=False)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), torch.no_grad(), counter:
        encoder(batch)
    patches = 0 if kind == "texts" else 2 * (2 * 16) * (3 * 4 * 4) * 32
    assert counter.get_total_flops() - patches == 2 * length * token_flops(encoder_config, length).total


@pytest.mark.parametrize("router", ["xmoe", "xmoe_released", "sigmoid_bias"])
@pytest.mark.parametrize("ffn", ["moe", "mh_moe"])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_other_routers_and_shared_experts_against_torchs_counter(config, stream, ffn, router, activation) -> None:
    moe = MoEConfig(
        num_experts=4,
        every=1,
        router=router,
        router_dim=6,
        shared_experts=1,
        projection_layers=2,
        activation=activation,
        expert_bias=False,
    )
    encoder_config = config(ffn=ffn, moe=moe)
    counter = FlopCounterMode(display=False)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), torch.no_grad(), counter:
        build_encoder(encoder_config).eval()(stream("texts", rows=2, padded=False))
    assert counter.get_total_flops() == 2 * 8 * token_flops(encoder_config, 8).total


@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize("router", ["top_k", "xmoe", "sigmoid_bias", "expert_choice"])
@pytest.mark.parametrize("cls_loss", [False, True])
def test_a_training_step_against_torchs_counter(config, pretraining_step, ffn, router, cls_loss) -> None:
    """Forward alone, then with the backward pass. 64 masked positions a stream and modality, because heads work on
    multiples of that: 16 pictures x round(.25 16), 64 texts x 1, 16 pairs x 4 patches and (of 6 words) x 4 words."""
    made = config(
        ffn=ffn, depth=3, moe=MoEConfig(num_experts=4, router=router, router_dim=6, every=2, expert_bias=False)
    )
    work = replace(STREAMS, cls_loss=cls_loss)
    model = PretrainModel(made, 24)
    expected = step_flops(made, work, 24)
    counter = FlopCounterMode(display=False)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), counter:
        loss, _ = pretraining_step(made, work, model)
        assert counter.get_total_flops() == expected.total
        loss.backward()
    assert counter.get_total_flops() == expected.training


@pytest.mark.parametrize(
    ("changes", "moe", "work"),
    [
        ({"ffn": "dense"}, {}, STREAMS),
        ({"ffn": "dense", "drop_path": 0.1}, {}, STREAMS),
        ({"ffn": "dense", "multiway": True}, {}, STREAMS),
        ({"ffn": "dense", "multiway": True, "vl_layers": 2}, {}, STREAMS),
        ({"ffn": "moe"}, {"shared_experts": 1}, STREAMS),
        ({"ffn": "mh_moe"}, {}, STREAMS),
        ({"ffn": "mh_moe"}, {"projection_layers": 0}, STREAMS),
        ({"ffn": "mh_moe", "drop_path": 0.1}, {}, STREAMS),
        ({"ffn": "mh_moe", "layer_scale": 0.1}, {}, STREAMS),
        ({"ffn": "mh_moe", "multiway": True}, {}, STREAMS),
        ({"ffn": "mh_moe", "multiway": True, "vl_layers": 1}, {}, MATCHING),
        ({"ffn": "mh_moe"}, {"keep": "tokens"}, MATCHING),
    ],
)
def test_what_is_computed_again_against_torchs_counter(config, pretraining_step, changes, moe, work) -> None:
    """FLOPs of the backward pass with checkpointed blocks, less those without."""
    made = config(depth=3, moe=MoEConfig(num_experts=4, every=2, expert_bias=False, **moe), **changes)
    backward = []
    for again in (False, True):
        torch.manual_seed(0)
        model = PretrainModel(made, 24, embed_dim=12 if work.contrastive_loss else None)
        if again:
            checkpoint_blocks(model.encoder)
        counter = FlopCounterMode(display=False)
        with mock.patch.object(F, "scaled_dot_product_attention", attention):
            loss, _ = pretraining_step(made, work, model)
            with counter:
                loss.backward()
        backward.append(counter.get_total_flops())
    assert backward[1] - backward[0] == recomputed_flops(made, work)


@pytest.mark.parametrize("cls_loss", [False, True])
@pytest.mark.parametrize("name", ["pixels", "hog"])
def test_other_targets_of_patches_against_torchs_counter(config, pretraining_step, name, cls_loss) -> None:
    made, work = config(ffn="dense"), replace(STREAMS, cls_loss=cls_loss)
    target = PixelTarget(4) if name == "pixels" else FeatureTarget(HOGTeacher(4))
    model, counter = PretrainModel(made, target.outputs), FlopCounterMode(display=False)
    expected = step_flops(made, work, target.outputs)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), counter:
        loss, _ = pretraining_step(made, work, model, target)
        assert counter.get_total_flops() == expected.total
        loss.backward()
    assert counter.get_total_flops() == expected.training


@pytest.mark.parametrize("ffn", ["dense", "mh_moe"])
@pytest.mark.parametrize(
    "asked", [{"caption_loss"}, {"contrastive_loss"}, {"contrastive_loss", "itm_loss"}, {"caption_loss", "cls_loss"}]
)
def test_what_else_is_asked_of_pairs_against_torchs_counter(config, pretraining_step, ffn, asked) -> None:
    """64 captions of 7 predicted tokens, and 64 masked positions a stream and modality, or multiples of that."""
    made = config(ffn=ffn, depth=3, moe=MoEConfig(num_experts=4, every=2, expert_bias=False))
    work = Workload(batch_images=16, batch_pairs=64, image_mask=0.25, pair_image_mask=0.25, pair_text_mask=4 / 6,
                    embed_dim=12, **dict.fromkeys(asked, True))  # fmt: skip
    model = PretrainModel(made, 24, embed_dim=12)
    expected = step_flops(made, work, 24)
    counter = FlopCounterMode(display=False)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), counter:
        loss, _ = pretraining_step(made, work, model)
        assert counter.get_total_flops() == expected.total
        loss.backward()
    assert counter.get_total_flops() == expected.training


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
def test_a_language_models_step_against_torchs_counter(language_step, ffn, released) -> None:
    """Forward alone, then with the backward pass. 64 sequences of 7 predicted tokens: the head works on multiples of
    64."""
    made = language_preset(
        "tiny",
        released=released,
        dim=32,
        depth=3,
        num_heads=4,
        ffn_dim=48,
        ffn=ffn,
        text=TextConfig(vocab_size=60, max_length=8),
        moe=MoEConfig(num_experts=4, router="xmoe", router_dim=6, every=2, expert_bias=False),
    )
    model, work = LanguageModel(made), Workload(sequences=64)
    expected = step_flops(made, work, 0)
    assert expected.patch_embedding == 0 and expected.task_heads == 2 * 64 * 7 * 32 * 60
    counter = FlopCounterMode(display=False)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), counter:
        loss, _ = language_step(made, work, model)
        assert counter.get_total_flops() == expected.total
        loss.backward()
    assert counter.get_total_flops() == expected.training


def test_similarities_with_the_pairs_of_other_ranks_against_torchs_counter() -> None:
    """Six own pairs of 18 on three ranks, whose others are played by copies; embeddings 5 wide."""
    made = EncoderConfig(dim=32, num_heads=2)
    alone, three = (
        step_flops(made, Workload(batch_pairs=6, contrastive_loss=True, embed_dim=5), 24, ranks=ranks).task_heads
        for ranks in (1, 3)
    )
    image_BP, text_BP = torch.randn(2, 6, 5)
    measured = []
    for gather in (None, lambda own_BP: (own_BP.repeat(3, 1), 0)):
        counter = FlopCounterMode(display=False)
        with counter:
            similarities(image_BP, text_BP, torch.tensor(2.0), gather)
        measured.append(counter.get_total_flops())
    assert measured[0] == 2 * 6 * 6 * 5 and measured[1] - measured[0] == three - alone


def test_flops_parity_leaves_only_the_router_and_rounding(config) -> None:
    dense = token_flops(config(ffn="dense"), 10)
    sparse = token_flops(config(ffn="mh_moe"), 10)
    assert sparse.total - sparse.router == dense.total
    assert sparse.router == 2 * 1 * 32 * 4


def test_active_share(config) -> None:
    assert active_share(config(ffn="dense")) == 1.0
    assert active_share(config(ffn="moe", moe=MoEConfig(num_experts=8, top_k=2))) == 2 / 8
    assert active_share(config(ffn="mh_moe", moe=MoEConfig(num_experts=16, top_k=2, heads=4))) == 8 / 16
    assert active_share(config(ffn="mh_moe", moe=MoEConfig(num_experts=4, top_k=2, heads=4))) == 1.0
    assert active_share(config(ffn="moe", moe=MoEConfig(num_experts=8, top_k=2, router="expert_choice"))) == 1.0
