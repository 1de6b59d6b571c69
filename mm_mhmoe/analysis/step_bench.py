"""What a pretraining step is timed against: its matrix products alone, and encoders that others write.

Legend: B batch, N patches, L row length, D model dim, H heads, d head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.batch import Images, ImageTextBatch, PretrainBatch, Texts
from mm_mhmoe.config import EncoderConfig, MoEConfig
from mm_mhmoe.models.encoder import Encoder, StreamStates


class Product(NamedTuple):
    """`times` times (batch, rows, inner) @ (batch, inner, columns). to_input: whether the left side has a gradient."""

    batch: int
    rows: int
    inner: int
    columns: int
    times: int = 1
    to_input: bool = True


def step_products(config: EncoderConfig, work: Workload, num_codes: int, *, heads: bool) -> list[Product]:
    """The products of the dense encoder's forward pass; with heads, those of both heads at masked positions."""
    dim, depth, tokens = config.dim, config.depth, work.tokens(config)
    found = [
        Product(1, tokens, dim, 3 * dim, depth),
        Product(1, tokens, dim, dim, depth),
        Product(1, tokens, dim, config.ffn_dim, depth),
        Product(1, tokens, config.ffn_dim, dim, depth),
    ]
    for rows, length in work.streams(config):
        width = dim // config.num_heads
        found.append(Product(rows * config.num_heads, length, width, length, depth))
        found.append(Product(rows * config.num_heads, length, length, width, depth))
    if work.pictures:
        patches = work.pictures * config.vision.num_patches
        found.append(Product(1, patches, 3 * config.vision.patch_size**2, dim, to_input=False))
    if heads:
        found.append(Product(1, work.hidden_patches(config), dim, num_codes))
        found.append(Product(1, work.hidden_words(config), dim, config.text.vocab_size))
    return [product for product in found if product.rows]


def run_products(products: Sequence[Product], dtype: torch.dtype) -> Callable[[], None]:
    """A call that computes all products and those of their gradients, and nothing else."""
    operands = [
        [torch.randn(*shape, dtype=dtype).squeeze(0) for shape in ((b, m, k), (b, n, k), (b, m, n))]
        for b, m, k, n, _, _ in products
    ]

    def call() -> None:
        for product, (x, w, g) in zip(products, operands, strict=True):
            for _ in range(product.times):
                torch.matmul(x, w.mT)
                torch.matmul(g.mT, x)
                if product.to_input:
                    torch.matmul(g, w)

    return call


def contestants(config: EncoderConfig) -> dict[str, EncoderConfig]:
    """Our encoders by name, all of about the FLOPs of the dense one, without stochastic depth."""
    config = replace(config, drop_path=0.0)
    moe = MoEConfig(parity="flops", every=config.moe.every)
    return {
        "dense": replace(config, ffn="dense"),
        "X-MoE": replace(config, ffn="moe", moe=replace(moe, router="xmoe", top_k=1)),
        "MH-MoE": replace(config, ffn="mh_moe", moe=moe),
    }


class PlainEncoder(nn.Module):
    """The dense encoder as it is usually written: fused QKV, nn.Linear, scaled_dot_product_attention, row by row.

    Takes the weights of ours, whose embeddings it shares, and gives the same states. Only for comparison.
    """

    def __init__(self, ours: Encoder, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.num_heads

        def norm(dim: int) -> nn.LayerNorm:
            return nn.LayerNorm(dim, eps=config.norm_eps)

        def block(dim: int, hidden: int) -> nn.ModuleDict:
            attention = {"qkv": nn.Linear(dim, 3 * dim), "norm": norm(dim), "proj": nn.Linear(dim, dim)}
            ffn = {"fc1": nn.Linear(dim, hidden), "norm": norm(hidden), "fc2": nn.Linear(hidden, dim)}
            parts = {"attention": nn.ModuleDict(attention), "ffn": nn.ModuleDict(ffn)}
            return nn.ModuleDict(parts | {"attention_norm": norm(dim), "ffn_norm": norm(dim)})

        self.image, self.text = ours.image, ours.text
        self.blocks = nn.ModuleList(block(config.dim, config.ffn_dim) for _ in range(config.depth))
        self.norm = norm(config.dim)
        self.load_state_dict(ours.state_dict())

    def forward(self, stream: ImageTextBatch) -> Tensor:
        """The states of one stream: (B, L, D)."""
        parts, mask = [], None
        if stream.images is not None:
            assert self.image is not None
            parts.append(self.image(stream.images.pixels_BCHW, stream.images.masked_BN))
        if stream.texts is not None:
            parts.append(self.text(stream.texts.ids_BL, stream.texts.masked_BL))
            image_length = parts[0].shape[1] if stream.images is not None else 0
            mask = F.pad(stream.texts.valid_BL, (image_length, 0), value=True)[:, None, None, :]
        x_BLD = torch.cat(parts, dim=1)
        for block in self.blocks:
            attention, ffn = block["attention"], block["ffn"]  # type: ignore[index]
            qkv = attention["qkv"](block["attention_norm"](x_BLD))  # type: ignore[index]
            query, key, value = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed_BLD = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
            x_BLD = x_BLD + attention["proj"](attention["norm"](mixed_BLD))
            hidden_BLF = F.gelu(ffn["fc1"](block["ffn_norm"](x_BLD)))  # type: ignore[index]
            x_BLD = x_BLD + ffn["fc2"](ffn["norm"](hidden_BLF))
        return self.norm(x_BLD)


def split_states(states_BLD: Tensor, stream: ImageTextBatch, config: EncoderConfig) -> StreamStates:
    """States of whole rows as our encoder gives them."""
    cut = 0 if stream.images is None else 1 + config.vision.num_patches
    return StreamStates(states_BLD[:, :cut] if cut else None, states_BLD[:, cut:] if stream.texts is not None else None)


def random_batch(config: EncoderConfig, work: Workload) -> PretrainBatch:
    """Noise and random words, texts as long as they may get, and as many hidden positions a row as `work` counts."""

    def stream(rows: int, image_mask: float | None, text_mask: float | None) -> ImageTextBatch | None:
        if not rows:
            return None
        images = texts = None
        if image_mask is not None:
            size, patches = config.vision.image_size, config.vision.num_patches
            pixels_BCHW = torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8)
            masked_BN = _mask(rows, patches, round(image_mask * patches))
            images = Images(pixels_BCHW=pixels_BCHW, masked_BN=masked_BN)
        if text_mask is not None:
            length = config.text.max_length
            ids_BL = torch.randint(config.text.mask_id + 1, config.text.vocab_size, (rows, length))
            masked_BL = F.pad(_mask(rows, length - 2, max(1, round(text_mask * (length - 2)))), (1, 1))
            texts = Texts(ids_BL=ids_BL, valid_BL=torch.ones_like(masked_BL), masked_BL=masked_BL)
        return ImageTextBatch(images=images, texts=texts)

    return PretrainBatch(
        images=stream(work.batch_images, work.image_mask, None),
        texts=stream(work.batch_texts, None, work.text_mask),
        pairs=stream(work.batch_pairs, work.pair_image_mask, work.pair_text_mask),
    )


def _mask(rows: int, columns: int, hidden: int) -> Tensor:
    return torch.rand(rows, columns).argsort(dim=1) < hidden
