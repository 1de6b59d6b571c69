"""The visual tokenizer (VQ-KD, BEiT-v2, arXiv 2208.06366): pictures to one code a patch.

Shapes: B batch, N patches, D encoder dim, C code dim, P teacher dim.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.init import initialize
from mm_mhmoe.models.teachers import PixelTeacher, check_teacher_name
from mm_mhmoe.models.vector_quantizer import REVIVE_BELOW, VectorQuantizer, unit
from mm_mhmoe.models.visual_tokenizer_blocks import BEiT2Blocks, SubLNBlocks, initialize_as_beit2
from mm_mhmoe.nn import PatchEmbedding, unpatchify


@dataclass(frozen=True, kw_only=True)
class VisualTokenizerConfig:
    """The visual tokenizer. Defaults are BEiT-v2's sizes; teacher, architecture and revival are this project's.

    Args:
        teacher: what it learns to predict: pixels (normalised patch pixels), hog, timm:NAME, open_clip:ARCH/TAG, or
            local-dir:DIR (a model of pretrain or finetune). timm:NAME/ and open_clip:ARCH/ have random weights.
        teacher_dim: width of the teacher's features, which mm-mhmoe vqkd fills in; a model is loaded without teacher.
        architecture: beit2: blocks, [CLS] tokens, norms and initial weights as released with BEiT-v2; sub_ln: blocks of
            the encoder that is pretrained on the codes, without [CLS].
        dim: width of its transformer.
        num_heads: attention heads; divides dim.
        encoder_depth: blocks before the codebook.
        decoder_depth: blocks after it (BEiT-v2: 1 or 3).
        num_codes: size of the codebook, which is the vocabulary of the masked-picture objective.
        code_dim: width of a code.
        commitment_weight: of the distance between vectors and codes in the loss (BEiT-v2: 1).
        ema_decay: of the codebook's moving averages.
        revive_below: share of the uniform use below which a code counts as dead and is moved; 0: never (BEiT-v2).
        vision: picture and patch size; must be those of the encoder that is trained on the codes.
    """

    teacher: str = "pixels"
    teacher_dim: int | None = None
    architecture: Literal["sub_ln", "beit2"] = "sub_ln"
    dim: int = 768
    num_heads: int = 12
    encoder_depth: int = 12
    decoder_depth: int = 1
    num_codes: int = 8192
    code_dim: int = 32
    commitment_weight: float = 1.0
    ema_decay: float = 0.99
    revive_below: float = REVIVE_BELOW
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
        if self.architecture not in ("sub_ln", "beit2"):
            raise ValueError(f"visual_tokenizer.architecture={self.architecture} must be sub_ln or beit2")
        if self.commitment_weight < 0 or not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"visual_tokenizer: commitment_weight={self.commitment_weight} must be 0 or more, and "
                f"ema_decay={self.ema_decay} lie in [0, 1)"
            )
        check_teacher_name(self.teacher)

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
    """Patches -> blocks -> nearest code -> blocks -> the teacher's feature of every patch.

    It holds no teacher: whoever trains it gives the targets.

    Raises:
        ValueError: teacher_dim is missing, which only normalised pixels can do without.
    """

    def __init__(self, config: VisualTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        vision, dim, beit2 = config.vision, config.dim, config.architecture == "beit2"
        teacher_dim = PixelTeacher(vision.patch_size).dim if config.teacher == "pixels" else config.teacher_dim
        if teacher_dim is None:
            raise ValueError(f"visual_tokenizer.teacher={config.teacher} needs teacher_dim, the width of its features")
        blocks, norm_eps = (BEiT2Blocks, 1e-6) if beit2 else (SubLNBlocks, 1e-5)
        self.patch = PatchEmbedding(vision.patch_size, dim, mean=vision.pixel_mean, std=vision.pixel_std)
        self.positions_ND = nn.Parameter(torch.empty(vision.num_patches, dim))
        self.encoder_blocks = blocks(dim, config.num_heads, config.encoder_depth)
        self.to_code = nn.Sequential(
            nn.LayerNorm(dim, eps=norm_eps), nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, config.code_dim)
        )
        self.quantizer = VectorQuantizer(
            config.num_codes, config.code_dim, decay=config.ema_decay, revive_below=config.revive_below
        )
        self.from_code = nn.Linear(config.code_dim, dim)
        self.decoder_positions_ND = nn.Parameter(torch.empty(vision.num_patches, dim))
        self.decoder_blocks = blocks(dim, config.num_heads, config.decoder_depth)
        self.to_teacher = nn.Sequential(
            nn.LayerNorm(dim, eps=norm_eps), nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, teacher_dim)
        )
        if beit2:
            initialize_as_beit2(self.encoder_blocks, self.to_code, self.decoder_blocks, self.to_teacher)
        else:
            initialize(self, depth=config.encoder_depth + config.decoder_depth, sub_ln=True)
        nn.init.trunc_normal_(self.positions_ND, std=0.02)
        nn.init.trunc_normal_(self.decoder_positions_ND, std=0.02)

    def vectors(self, pixels_BCHW: Tensor) -> Tensor:
        """The vectors that the codebook quantises: (B, N, C). The layer that makes them is never under autocast."""
        size = (self.config.vision.image_size,) * 2
        if pixels_BCHW.shape[2:] != size:
            raise ValueError(
                f"visual tokenizer: a picture of {tuple(pixels_BCHW.shape[2:])} pixels, but its positions are for "
                f"{size}; resize it"
            )
        states_BND = self.encoder_blocks(self.patch(pixels_BCHW) + self.positions_ND)
        with torch.autocast(states_BND.device.type, enabled=False):
            return self.to_code(states_BND.to(self.from_code.weight.dtype))

    @torch.no_grad()
    def codes(self, pixels_BCHW: Tensor) -> Tensor:
        """One code a patch: uint8 or float pictures -> int64 (B, N)."""
        vectors_BNC = unit(self.vectors(pixels_BCHW))
        return self.quantizer.assign(vectors_BNC.flatten(0, 1)).unflatten(0, vectors_BNC.shape[:2])

    def decode(self, vectors_BNC: Tensor) -> Tensor:
        """The teacher's features that these code vectors stand for: (B, N, C) -> (B, N, P)."""
        return self.to_teacher(self.decoder_blocks(self.from_code(vectors_BNC) + self.decoder_positions_ND))

    def loss(self, pixels_BCHW: Tensor, target_BNP: Tensor, *, quantized: bool = True) -> TokenizerLoss:
        """Loss of a batch. Without `quantized` the vectors reach the decoder as they are: no commitment.

        Args:
            target_BNP: the teacher's features of these pictures.
        """
        vectors_BNC = self.vectors(pixels_BCHW)
        found = self.quantizer(vectors_BNC.flatten(0, 1))
        passed_BNC = found.vectors_NC.unflatten(0, vectors_BNC.shape[:2]) if quantized else unit(vectors_BNC)
        predicted_BNP = self.decode(passed_BNC)
        distance = 1.0 - F.cosine_similarity(predicted_BNP.float(), target_BNP.float(), dim=-1).mean()
        commitment = self.config.commitment_weight * found.commitment if quantized else torch.zeros_like(distance)
        return TokenizerLoss(
            distance + commitment, distance, commitment, vectors_BNC.detach().flatten(0, 1), found.codes_N
        )

    @torch.no_grad()
    def reconstruct(self, codes_BN: Tensor) -> Tensor:
        """The pictures that codes stand for, as floats in [-1, 1]: (B, N) -> (B, 3, H, W).

        Raises:
            ValueError: the teacher was not pixels, so that codes stand for features.
        """
        if self.config.teacher != "pixels":
            raise ValueError(
                f"a visual tokenizer with teacher={self.config.teacher} predicts features, not pictures; look at it "
                "with mm-mhmoe vqkd-view"
            )
        patch_size = self.config.vision.patch_size
        target_BNP = self.decode(self.quantizer.codebook_KC[codes_BN]).float()
        return unpatchify(PixelTeacher(patch_size).pixels(target_BNP), patch_size)
