"""The language model: the encoder's blocks on texts, in which every token sees those before it only.

Shapes: B batch, L text length, D model dim, V vocabulary, M places of tokens that are predicted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.tasks.base import TaskModel

_ROWS = 1024


class LanguageModel(TaskModel):
    """A decoder whose token table serves as its head, too (arXiv 1608.05859).

    Raises:
        ValueError: the configuration is one of pictures, or its router lets tokens see later ones.
    """

    kind = "language"

    def __init__(self, config: EncoderConfig) -> None:
        _check(config)
        super().__init__(config)
        table = self.encoder.text.tokens.weight
        nn.init.trunc_normal_(table, std=config.dim**-0.5)  # logits of about 1 from states of about 1

    def describe_head(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> LanguageModel:
        return cls(EncoderConfig.from_dict(description["encoder"]))

    @property
    def head(self) -> nn.Linear:
        """Logits over tokens, without weights of its own."""
        weight_VD = self.encoder.text.tokens.weight
        vocab_size, dim = weight_VD.shape
        head = nn.Linear(dim, vocab_size, bias=False, device="meta")
        head.weight = weight_VD
        return head

    def forward(self, texts: Texts) -> tuple[Tensor, EncoderOutput]:
        """The last states (B, L, D), of which `head` makes the logits of the next tokens, and the encoder's output."""
        output = self.encoder(ImageTextBatch(texts=texts, causal_text=True))
        states_BLD = output.streams[0].text_BLD
        assert states_BLD is not None
        return states_BLD, output

    @torch.no_grad()
    def token_nats(self, texts: Texts) -> Tensor:
        """Cross-entropy of every token but the first from those before it, in nats: (B, L - 1), 0 at padding."""
        nats = [F.cross_entropy(logits, targets, reduction="none") for logits, targets in self._logits(texts)]
        return _in_place(torch.cat(nats), texts)

    @torch.no_grad()
    def token_predictions(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """`token_nats`, and whether each token is the likeliest at its place: (B, L - 1) both; false at padding."""
        found = [
            (F.cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=1) == targets)
            for logits, targets in self._logits(texts)
        ]
        nats, likeliest = zip(*found, strict=True)
        return _in_place(torch.cat(nats), texts), _in_place(torch.cat(likeliest), texts)

    def _logits(self, texts: Texts) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (M, V) in fp32 and the tokens (M,) that they are about: all but first tokens and padding, in parts."""
        states_BLD, _ = self(texts)
        head, wanted_BL = self.head, texts.valid_BL[:, 1:]
        states_MD, targets_M = states_BLD[:, :-1][wanted_BL], texts.ids_BL[:, 1:][wanted_BL]
        for states, targets in zip(states_MD.split(_ROWS), targets_M.split(_ROWS), strict=True):
            yield head(states).float(), targets


def _in_place(values_M: Tensor, texts: Texts) -> Tensor:
    wanted_BL = texts.valid_BL[:, 1:]
    return values_M.new_zeros(wanted_BL.shape).masked_scatter(wanted_BL, values_M)


def _check(config: EncoderConfig) -> None:
    if config.pictures:
        raise ValueError("encoder.pictures=true is for models of pictures; a language model takes false")
    if config.ffn == "dense":
        return
    moe = config.moe
    if moe.router == "expert_choice":
        raise ValueError(
            "moe.router=expert_choice compares each token with all others of the batch, also those that come after it "
            "and are to be predicted, so a language model could not be trusted; use top_k, xmoe or sigmoid_bias"
        )
    if moe.capacity_factor is not None and (moe.drop_policy == "priority" or moe.top_k > 1):
        warnings.warn(
            f"moe.capacity_factor={moe.capacity_factor} with moe.drop_policy={moe.drop_policy} and moe.top_k="
            f"{moe.top_k}: which choices of a token are dropped depends on later tokens, too, which tells a little of "
            "them; without a capacity, or with position and top_k=1, it does not",
            stacklevel=3,
        )
