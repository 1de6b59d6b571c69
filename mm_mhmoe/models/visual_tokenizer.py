"""The visual tokenizer (VQ-KD, BEiT-v2, arXiv 2208.06366): pictures to one code a patch.

Shapes: B batch, N patches, D encoder dim, C code dim, P teacher dim.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.block import Block
from mm_mhmoe.models.init import initialize
from mm_mhmoe.models.teachers import PixelTeacher
from mm_mhmoe.models.vector_quantizer import VectorQuantizer, unit
from mm_mhmoe.nn import FeedForward, PatchEmbedding, Segment, SelfAttention, unpatchify


@dataclass(frozen=True, kw_only=True)
class VisualTokenizerConfig:
    """The visual tokenizer. Defaults are BEiT-v2's, the teacher aside (here: normalised patch pixels).

    Args:
        dim: width of its transformer.
        num_heads: attention heads; divides dim.
        encoder_depth: blocks before the codebook.
        decoder_depth: blocks after it (BEiT-v2: 1 or 3).
        num_codes: size of the codebook, which is the vocabulary of the masked-picture objective.
        code_dim: width of a code.
        ema_decay: of the codebook's moving averages.
        revive_below: share of the uniform use below which a code counts as dead and is moved; 0: never.
        vision: picture and patch size; must be those of the encoder that is trained on the codes.
    """

    dim: int = 768
    num_heads: int = 12
    encoder_depth: int = 12
    decoder_depth: int = 1
    num_codes: int = 8192
    code_dim: int = 32
    ema_decay: float = 0.99
    revive_below: float = 0.02
    vision: VisionConfig = field(default_factory=VisionConfig)

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(
                f"visual_tokenizer.dim={self.dim} is not a multiple of num_heads={self.num_heads}; change one"
            )
        if min(self.encoder_depth, self.decoder_depth) < 1 or self.num_codes < 2:
            raise ValueError(
                f"visual_tokenizer: encoder_depth={self.encoder_depth}, decoder_depth={self.decoder_depth} must be 1 "
                f"or more, and num_codes={self.num_codes} 2 or more"
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VisualTokenizerConfig:
        try:
            return cls(**{**values, "vision": VisionConfig(**values["vision"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"visual tokenizer config: {error}") from error


class TokenizerLoss(NamedTuple):
    """total = distance + commitment. distance: 1 - cosine to the teacher. vectors_NC, codes_N: to move the codebook."""

    total: Tensor
    distance: Tensor
    commitment: Tensor
    vectors_NC: Tensor
    codes_N: Tensor


class VisualTokenizer(nn.Module):
    """Patches -> blocks -> nearest code -> blocks -> the teacher's feature of every patch."""

    def __init__(self, config: VisualTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        vision, dim = config.vision, config.dim
        self.teacher = PixelTeacher(vision.patch_size)
        self.patch = PatchEmbedding(vision.patch_size, dim, mean=vision.pixel_mean, std=vision.pixel_std)
        self.positions_ND = nn.Parameter(torch.empty(vision.num_patches, dim))
        self.encoder_blocks = nn.ModuleList(_block(config) for _ in range(config.encoder_depth))
        self.to_code = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, config.code_dim))
        self.quantizer = VectorQuantizer(
            config.num_codes, config.code_dim, decay=config.ema_decay, revive_below=config.revive_below
        )
        self.from_code = nn.Linear(config.code_dim, dim)
        self.decoder_positions_ND = nn.Parameter(torch.empty(vision.num_patches, dim))
        self.decoder_blocks = nn.ModuleList(_block(config) for _ in range(config.decoder_depth))
        self.to_teacher = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, self.teacher.dim)
        )
        initialize(self, depth=config.encoder_depth + config.decoder_depth, sub_ln=True)
        nn.init.trunc_normal_(self.positions_ND, std=0.02)
        nn.init.trunc_normal_(self.decoder_positions_ND, std=0.02)

    def vectors(self, pixels_BCHW: Tensor) -> Tensor:
        """The vectors that the codebook quantises: (B, N, C)."""
        states_BND = self.patch(pixels_BCHW) + self.positions_ND
        return self.to_code(_run(self.encoder_blocks, states_BND))

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        """One code a patch: uint8 or float pictures -> int64 (B, N)."""
        vectors_BNC = unit(self.vectors(pixels_BCHW))
        return self.quantizer.assign(vectors_BNC.flatten(0, 1)).unflatten(0, vectors_BNC.shape[:2])

    def decode(self, vectors_BNC: Tensor) -> Tensor:
        """The teacher's features that these code vectors stand for: (B, N, C) -> (B, N, P)."""
        states_BND = self.from_code(vectors_BNC) + self.decoder_positions_ND
        return self.to_teacher(_run(self.decoder_blocks, states_BND))

    def loss(self, pixels_BCHW: Tensor, *, quantized: bool = True) -> TokenizerLoss:
        """Loss of a batch. Without `quantized` the vectors reach the decoder as they are: no commitment."""
        vectors_BNC = self.vectors(pixels_BCHW)
        found = self.quantizer(vectors_BNC.flatten(0, 1))
        passed_BNC = found.vectors_NC.unflatten(0, vectors_BNC.shape[:2]) if quantized else unit(vectors_BNC)
        predicted_BNP = self.decode(passed_BNC)
        distance = 1.0 - F.cosine_similarity(predicted_BNP.float(), self.teacher(pixels_BCHW), dim=-1).mean()
        commitment = found.commitment if quantized else torch.zeros_like(distance)
        return TokenizerLoss(
            distance + commitment, distance, commitment, vectors_BNC.detach().flatten(0, 1), found.codes_N
        )

    @torch.no_grad()
    def reconstruct(self, codes_BN: Tensor) -> Tensor:
        """The pictures that codes stand for, as floats in [-1, 1]: (B, N) -> (B, 3, H, W)."""
        target_BNP = self.decode(self.quantizer.codebook_KC[codes_BN]).float()
        return unpatchify(self.teacher.pixels(target_BNP), self.config.vision.patch_size)


def _block(config: VisualTokenizerConfig) -> Block:
    return Block(
        SelfAttention(config.dim, config.num_heads),
        FeedForward(config.dim, 4 * config.dim),
        dim=config.dim,
        drop_path=0.0,
        norm_eps=1e-5,
    )


def _run(blocks: nn.ModuleList, states_BND: Tensor) -> Tensor:
    segments = [Segment(states_BND.shape[0], states_BND.shape[1], None)]
    x_TD = states_BND.flatten(0, 1)
    for block in blocks:
        x_TD, _ = block(x_TD, segments, None)
    return x_TD.unflatten(0, states_BND.shape[:2])
