"""Self-attention over the rows of several streams that lie in one flat list of tokens.

Legend: B batch, L sequence, T tokens, D model dim, H heads, d head dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn.attention_pass import attention_pass
from mm_mhmoe.nn.key_values import KeyValues
from mm_mhmoe.nn.multiway import by_modality, each_modality
from mm_mhmoe.nn.relative_position import additive_mask
from mm_mhmoe.nn.rotary import RotaryPositions
from mm_mhmoe.nn.segments import Segment, causal_text_mask


class SelfAttention(nn.Module):
    """Multi-head attention within each row, with a LayerNorm before the output projection (sub-LN, arXiv 2210.06423).

    The projections run once on all tokens; only the attention itself is cut into segments. No token attends to padding,
    and in a segment with causal_text none to what a later text token says.

    Args:
        dim: width of a token; a multiple of num_heads.
        num_heads: attention heads.
        sub_ln: whether the inner LayerNorm is there.
        multiway: whether pictures and texts have projections and inner LayerNorms of their own.
        bias: whether the projections have biases.
        rotary: what tells queries and keys their places; None: nothing does.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        sub_ln: bool = True,
        norm_eps: float = 1e-5,
        multiway: bool = False,
        bias: bool = True,
        rotary: RotaryPositions | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim={dim} is not a multiple of num_heads={num_heads}")
        self.num_heads = num_heads
        self.qkv = each_modality(lambda: nn.Linear(dim, 3 * dim, bias=bias), multiway)
        self.norm = each_modality(lambda: nn.LayerNorm(dim, eps=norm_eps), multiway) if sub_ln else nn.Identity()
        self.proj = each_modality(lambda: nn.Linear(dim, dim, bias=bias), multiway)
        self.rotary = rotary

    def forward(
        self,
        x_TD: Tensor,
        segments: Sequence[Segment],
        bias_HNN: Tensor | None = None,
        kept: KeyValues | None = None,
    ) -> Tensor:
        """(T, D) -> (T, D).

        Args:
            bias_HNN: addends to the scores between a picture's tokens (`RelativePositions`).
            kept: keys and values of the segment's `past`, to which those of these tokens are added; with it there is
                one segment.

        Raises:
            ValueError: the segments do not add up to T tokens.
        """
        sizes = [segment.batch * segment.length for segment in segments]
        if sum(sizes) != len(x_TD):
            raise ValueError(f"segments of {sizes} tokens do not add up to the {len(x_TD)} tokens given")
        parts = by_modality(self.qkv, x_TD, segments).split(sizes)
        mixed = [self._attend(part, segment, bias_HNN, kept) for part, segment in zip(parts, segments, strict=True)]
        mixed_TD = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        return by_modality(self.proj, by_modality(self.norm, mixed_TD, segments), segments)

    def _attend(self, qkv_T: Tensor, segment: Segment, bias_HNN: Tensor | None, kept: KeyValues | None) -> Tensor:
        mask = _mask(segment, qkv_T.device)
        if bias_HNN is not None and segment.image_length:
            mask = additive_mask(bias_HNN, mask, segment, qkv_T.dtype)
        if self.rotary is not None:
            places = torch.arange(segment.length, device=qkv_T.device).unsqueeze(0)
            qkv_T = self.rotary(qkv_T, places if segment.past is None else segment.past.place_BL)
        if kept is None and _prefers_three_products(qkv_T, segment.length):
            return attention_pass(qkv_T, self.num_heads, segment.batch, mask)
        split = qkv_T.view(segment.batch, segment.length, 3, self.num_heads, -1)
        query_BHLd, key_BHLd, value_BHLd = split.permute(2, 0, 3, 1, 4)
        if kept is not None:
            key_BHLd, value_BHLd = kept.append(key_BHLd, value_BHLd)
        mixed_BHLd = F.scaled_dot_product_attention(query_BHLd, key_BHLd, value_BHLd, attn_mask=mask)
        return mixed_BHLd.transpose(1, 2).reshape(segment.batch * segment.length, -1)


def _mask(segment: Segment, device: torch.device) -> Tensor | None:
    """True where a key may be seen, in a shape that broadcasts to (B, H, L, L), or (B, H, L, P + L) where the segment
    has a past; None: everywhere."""
    mask = None if segment.valid_BL is None else segment.valid_BL[:, None, None, :]
    if segment.document_BL is not None:
        same_B1LL = (segment.document_BL.unsqueeze(2) == segment.document_BL.unsqueeze(1)).unsqueeze(1)
        mask = same_B1LL if mask is None else mask & same_B1LL
    if segment.causal_text:
        causal_LL = causal_text_mask(segment, device)
        mask = causal_LL[None, None] if mask is None else mask & causal_LL
    if segment.past is None:
        return mask
    size = (segment.batch, 1, segment.length, -1)
    own = torch.ones(segment.length, dtype=torch.bool, device=device) if mask is None else mask
    own_B1LL = own.expand(segment.batch, 1, segment.length, segment.length)
    return torch.cat([segment.past.valid_BP[:, None, None, :].expand(size), own_B1LL], dim=3)


def _prefers_three_products(qkv_T: Tensor, length: int) -> bool:
    """On CPUs torch's fused kernel is slower, in bf16 several times; longer rows would keep too large a matrix each."""
    return qkv_T.device.type == "cpu" and length <= 512
