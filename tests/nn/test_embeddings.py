"""Truth: a strided convolution with the same weights, slices of the pictures, rows of the tables."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import normalize

from mm_mhmoe.nn import ImageEmbedding, PatchEmbedding, TextEmbedding, patchify, unpatchify


@given(batch=st.integers(0, 3), channels=st.integers(1, 4), side=st.integers(1, 4), patch=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_patchify_and_unpatchify_are_inverse(batch, channels, side, patch):
    pixels = torch.randn(batch, channels, side * patch, side * patch)
    patches = patchify(pixels, patch)
    assert patches.shape == (batch, side**2, patch**2 * channels)
    assert torch.equal(unpatchify(patches, patch), pixels)


def test_patches_are_row_major():
    pixels = torch.arange(24.0).view(1, 1, 4, 6)
    patches = patchify(pixels, 2)
    for row in range(2):
        for column in range(3):
            cut = pixels[0, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches[0, 3 * row + column], cut.flatten())


def as_kernel(embedding, channels, patch):
    """The Linear as a kernel: column j of the matrix belongs to the pixel that patchify puts at j."""
    where = patchify(torch.arange(channels * patch * patch).view(1, channels, patch, patch), patch)[0, 0]
    kernel = torch.empty_like(embedding.proj.weight)
    kernel[:, where] = embedding.proj.weight.detach()
    return kernel.view(-1, channels, patch, patch)


@pytest.mark.parametrize("mean, std", [((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.8, 0.7, 0.6), (0.2, 0.3, 0.4))])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_equals_a_strided_convolution_of_normalised_pixels(dtype, mean, std):
    torch.manual_seed(0)
    embedding = PatchEmbedding(4, 10, mean=mean, std=std)
    pixels = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8)
    normalised = normalize(pixels.float() / 255, list(mean), list(std))  # torchvision's
    kernel = as_kernel(embedding, 3, 4)
    true = F.conv2d(normalised, kernel, embedding.proj.bias, stride=4).flatten(2).transpose(1, 2)
    y = embedding(pixels if dtype == torch.uint8 else pixels.float() / 255 * 2 - 1)
    torch.testing.assert_close(y, true, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_normalised_pixels():
    torch.manual_seed(0)
    mean, std = (0.8, 0.7, 0.6), (0.2, 0.3, 0.4)
    embedding = PatchEmbedding(4, 10, mean=mean, std=std)
    pixels, grad = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8), torch.randn(2, 6, 10)
    patches = patchify(normalize(pixels.float() / 255, list(mean), list(std)), 4)
    true = torch.autograd.grad(embedding.proj(patches), list(embedding.proj.parameters()), grad)
    ours = torch.autograd.grad(embedding(pixels), list(embedding.proj.parameters()), grad)
    for mine, theirs in zip(ours, true, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_layout_in_memory_and_autocast_change_nothing_but_rounding():
    torch.manual_seed(0)
    embedding = PatchEmbedding(4, 10, mean=(0.8, 0.7, 0.6), std=(0.2, 0.3, 0.4))
    pixels = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8)
    y = embedding(pixels)
    assert torch.equal(embedding(pixels.contiguous(memory_format=torch.channels_last)), y)
    with torch.autocast("cpu", torch.bfloat16):
        low = embedding(pixels)
    # bf16 rounds weights, offset and result, each by at most 2**-9: of the terms that are added up, 3 * 2**-9.
    scale_P = torch.tensor([0.2, 0.3, 0.4]).repeat_interleave(16) * 255
    weight_DP, mean_P = embedding.proj.weight / scale_P, torch.tensor([0.8, 0.7, 0.6]).repeat_interleave(16) * 255
    terms = (patchify(pixels, 4) + mean_P) @ weight_DP.abs().t() + embedding.proj.bias.abs()
    assert low.dtype == torch.bfloat16 and bool(((low - y).abs() <= 3 * 2**-9 * terms).all())


def test_pictures_that_patches_do_not_cover_are_refused():
    with pytest.raises(ValueError, match=r"9x8.*4"):
        PatchEmbedding(4, 10)(torch.zeros(1, 3, 9, 8))
    with pytest.raises(ValueError, match="6"):
        unpatchify(torch.zeros(1, 6, 12), 2)


def image_embedding():
    torch.manual_seed(0)
    return ImageEmbedding(PatchEmbedding(4, 10), 6, 10)


def test_image_embedding_is_cls_then_patches_plus_positions():
    """The [CLS] row is the same for every picture; the other rows differ by the embedded patch."""
    embedding, pixels = image_embedding(), torch.randn(2, 3, 8, 12)
    y = embedding(pixels)
    blank = embedding(torch.zeros_like(pixels))
    assert y.shape == (2, 7, 10)
    assert torch.equal(y[0, 0], y[1, 0])
    delta = embedding.patch(pixels) - embedding.patch(torch.zeros_like(pixels))
    torch.testing.assert_close(y[:, 1:] - blank[:, 1:], delta)


def test_hidden_patches_leak_nothing_and_the_others_do_not_change():
    embedding = image_embedding()
    masked = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    a, b = torch.randn(2, 3, 8, 12), torch.randn(2, 3, 8, 12)
    ya, yb = embedding(a, masked), embedding(b, masked)
    assert torch.equal(ya[:, 1:][masked], yb[:, 1:][masked])
    assert torch.equal(ya[:, 1:][~masked], embedding(a)[:, 1:][~masked])
    assert not torch.equal(ya[:, 1:][masked], embedding(a)[:, 1:][masked])
    rows = ya[:, 1:][masked]  # patches 0, 3 and 5: one mask token, three positions
    positions = embedding(torch.zeros(1, 3, 8, 12))[0, 1:]
    torch.testing.assert_close(rows[1] - rows[0], positions[3] - positions[0])
    torch.testing.assert_close(rows[2] - rows[0], positions[5] - positions[0])


@pytest.mark.parametrize("autocast", [False, True])
def test_every_image_parameter_learns(autocast):
    embedding = image_embedding()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = embedding(torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8), torch.rand(2, 6) > 0.5)
    y.float().square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in embedding.parameters())


def test_wrong_grids_and_masks_are_refused():
    with pytest.raises(ValueError, match=r"4.*6|6.*4"):
        image_embedding()(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="mask"):
        image_embedding()(torch.zeros(1, 3, 8, 12), torch.zeros(1, 5, dtype=torch.bool))


def text_embedding():
    torch.manual_seed(0)
    return TextEmbedding(20, 6, 10, mask_id=4)


def test_text_rows_plus_positions():
    embedding = text_embedding()
    ids = torch.tensor([[0, 7, 2], [0, 7, 7]])
    y = embedding(ids)
    assert y.shape == (2, 3, 10)
    assert torch.equal(y[0, :2], y[1, :2])
    table = embedding.tokens.weight
    torch.testing.assert_close(y[0, 2] - y[1, 2], table[2] - table[7])
    torch.testing.assert_close(
        y[1, 2] - y[1, 1], embedding(torch.full((1, 3), 9))[0, 2] - embedding(torch.full((1, 2), 9))[0, 1]
    )


def test_hidden_tokens_are_the_mask_token_and_leak_nothing():
    embedding = text_embedding()
    ids = torch.tensor([[0, 7, 9, 2]])
    masked = torch.tensor([[False, True, False, False]])
    seen = ids.clone()
    assert torch.equal(embedding(ids, masked), embedding(torch.tensor([[0, 4, 9, 2]])))
    assert torch.equal(embedding(torch.tensor([[0, 13, 9, 2]]), masked), embedding(ids, masked))
    assert torch.equal(ids, seen)  # the ids are the targets: they must stay as they were


def test_long_texts_are_refused_with_both_lengths():
    with pytest.raises(ValueError, match=r"7.*6"):
        text_embedding()(torch.zeros(1, 7, dtype=torch.int64))
    assert text_embedding()(torch.zeros(1, 6, dtype=torch.int64)).shape == (1, 6, 10)
