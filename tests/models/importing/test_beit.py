"""Truth: timm's own BEiT with random weights, block by block. No released checkpoint is read."""

import pytest
import timm
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.checkpoints import at_image_size
from mm_mhmoe.models.importing import beit_config, beit_model, check_beit
from mm_mhmoe.models.tasks import PretrainModel

TEXT = TextConfig(vocab_size=40, max_length=8)
SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
HALF = (0.5, 0.5, 0.5)
SHARED = {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}
KINDS = {
    "beit_base_patch16_224": {},
    "beitv2_base_patch16_224": {"global_pool": "token"},
    "beit_base_patch16_224, shared": SHARED,
    "beitv2_base_patch16_224, absolute": {"use_abs_pos_emb": True, "init_values": None},
}


def make(kind: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    beit = timm.create_model(kind.split(",")[0], **{**SIZE, **KINDS[kind], **options}).eval()
    with torch.no_grad():  # tables, factors and biases too: at their initial values a mix-up would not show
        for value in beit.parameters():
            value += 0.2 * torch.randn_like(value)
    return beit


def imported(beit: torch.nn.Module, num_codes: int = 6, **more: torch.Tensor) -> PretrainModel:
    weights = {**beit.state_dict(), **more}
    config = beit_config(weights, "beit", TEXT, pixel_mean=HALF, pixel_std=HALF)
    return beit_model(weights, config, "beit", num_codes)


def block_outputs(blocks, run) -> list[torch.Tensor]:
    """What each block puts out, as (B, N, D) or the same tokens in one list."""
    found: list[torch.Tensor] = []
    keep = [b.register_forward_hook(lambda _, __, y: found.append(y[0] if isinstance(y, tuple) else y)) for b in blocks]
    with torch.no_grad():
        run()
    for hook in keep:
        hook.remove()
    return found


def assert_every_block_equal(model: PretrainModel, beit: torch.nn.Module, side: int) -> None:
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = ImageTextBatch(images=Images(pixels_BCHW=pixels))
    ours = block_outputs(model.encoder.blocks, lambda: model.encoder(batch))
    theirs = block_outputs(beit.blocks, lambda: beit.forward_features(pixels))
    assert len(ours) == len(theirs) == len(beit.blocks)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.view_as(other), other, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_puts_out_what_timms_does(kind: str) -> None:
    beit = make(kind)
    check_beit(beit, kind)
    model = imported(beit)
    assert model.config.relative_positions == ("shared" if "shared" in kind else "layer")
    assert model.config.image_positions == ("absolute" in kind) and model.config.norm_eps == 1e-6
    assert_every_block_equal(model, beit, 32)


@pytest.mark.parametrize("kind", ["beit_base_patch16_224", "beit_base_patch16_224, shared"])
def test_larger_pictures_are_timms_too(kind: str) -> None:
    """From 4 x 4 patches to 7 x 7."""
    beit = make(kind)
    model = at_image_size(imported(beit), 56)
    beit.set_input_size(img_size=56)
    assert_every_block_equal(model, beit, 56)


def test_the_last_norm() -> None:
    """Before the average of patches instead of behind it; with [CLS] as the output it is timm's."""
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    for kind in ("beit_base_patch16_224", "beitv2_base_patch16_224"):
        beit = make(kind)
        with torch.no_grad():
            (part,) = imported(beit).encoder(ImageTextBatch(images=Images(pixels_BCHW=pixels))).streams
            theirs = beit.forward_features(pixels)
            theirs = beit.fc_norm(theirs) if kind.startswith("beit_") else theirs
        torch.testing.assert_close(part.image_BND, theirs, rtol=0.0, atol=1e-5)


def test_names_of_the_authors_pretrained_checkpoint() -> None:
    """mask_token, lm_head, buffers, and the blocks that [CLS] is pretrained with: taken, taken, and left out."""
    beit = make("beitv2_base_patch16_224")
    more = {
        "mask_token": torch.randn(1, 1, 24),
        "lm_head.weight": torch.randn(6, 24),
        "lm_head.bias": torch.randn(6),
        "blocks.0.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.long),
        "cls_pt_layers.0.norm1.weight": torch.zeros(24),
    }
    model = imported(beit, **more)
    assert torch.equal(model.encoder.image.mask_token_D, more["mask_token"].flatten())
    assert torch.equal(model.image_head.weight, more["lm_head.weight"])
    assert torch.equal(model.image_head.bias, more["lm_head.bias"])
    other = imported(beit, num_codes=7, **more)
    assert len(other.image_head.weight) == 7


def test_texts_are_not_moved_by_the_tables() -> None:
    model = imported(make("beit_base_patch16_224"))
    texts = ImageTextBatch(
        texts=Texts(ids_BL=torch.tensor([[0, 7, 8, 2]]), valid_BL=torch.ones(1, 4, dtype=torch.bool))
    )
    with torch.no_grad():
        before = model.encoder(texts).streams[0].text_BLD
        for block in model.encoder.blocks:
            block.relative_positions.table_RH.normal_()
        assert torch.equal(model.encoder(texts).streams[0].text_BLD, before)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"blocks.1.attn.k_bias": torch.zeros(24)}, r"beit has blocks.1.attn.k_bias, which BEiT has not"),
        ({"blocks.0.attn.relative_position_bias_table": torch.zeros(50, 3)}, "has 50 rows, which is no"),
        ({"blocks.2.mlp.fc2.weight": torch.zeros(24, 5)}, r"blocks.2.mlp.fc2.weight has shape \(24, 5\) instead of"),
    ],
)
def test_other_weights_are_refused_by_name(changes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        imported(make("beit_base_patch16_224"), **changes)


def test_swiglu_is_refused() -> None:
    with pytest.raises(ValueError, match="beit has SwiGLU FFNs"):
        check_beit(make("beit_base_patch16_224", swiglu_mlp=True), "beit")
