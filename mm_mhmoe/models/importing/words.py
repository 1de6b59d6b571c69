"""BEiT-3's vocabulary with this project's special ids.

BEiT-3 reads its SentencePiece model as XLM-RoBERTa does: <s>, <pad>, </s> and <unk> are 0 to 3, piece i from 3 on is
i + 1, and <mask> comes last. Here the mask is 4 in every vocabulary, and a SentencePiece model has the ids themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor

_SPECIAL = ("<unk>", "<s>", "</s>")
_BY_WORD = ("beit3.text_embed.weight", "mlm_head.weight", "mlm_head.bias")


def project_tokenizer(path: Path) -> tuple[bytes, int]:
    """BEiT-3's SentencePiece model with this project's ids, as the bytes of a file, and the pieces of the original.

    Raises:
        ValueError: the file is no SentencePiece model, or does not begin as XLM-RoBERTa's do.
    """
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # protobuf makes it when imported
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ValueError(f"sentencepiece={path} cannot be read: {error}") from error
    except Exception as error:  # protobuf's own, which has no public name in every version
        raise ValueError(f"sentencepiece={path} is no SentencePiece model ({error})") from error
    pieces = [type(piece).FromString(piece.SerializeToString()) for piece in model.pieces]
    first = tuple(piece.piece for piece in pieces[: len(_SPECIAL)])
    if first != _SPECIAL:
        raise ValueError(
            f"sentencepiece={path} begins with {', '.join(first) or 'nothing'} instead of {', '.join(_SPECIAL)}; "
            "BEiT-3's beit3.spm is needed"
        )
    unknown, begin, end = pieces[: len(_SPECIAL)]
    kind = type(unknown)
    pad = kind(piece="<pad>", score=0.0, type=kind.CONTROL)
    mask = kind(piece="<mask>", score=0.0, type=kind.USER_DEFINED)
    del model.pieces[:]
    model.pieces.extend([begin, pad, end, unknown, mask, *pieces[len(_SPECIAL) :]])
    spec = model.trainer_spec
    spec.bos_id, spec.pad_id, spec.eos_id, spec.unk_id = 0, 1, 2, 3
    spec.vocab_size = len(model.pieces)
    return model.SerializeToString(), len(pieces)


def project_order(pieces: int, vocab_size: int) -> Tensor:
    """Which row of BEiT-3's tables stands for each id here: (vocab_size,), int64.

    Args:
        pieces: of its SentencePiece model.
        vocab_size: rows of its tables, some of which stand for nothing.

    Raises:
        ValueError: there are more pieces than rows.
    """
    mask = pieces + 1
    if mask >= vocab_size:
        raise ValueError(
            f"the SentencePiece model has {pieces} pieces, for which the checkpoint's {vocab_size} rows of words are "
            "too few; they do not belong together"
        )
    return torch.tensor([0, 1, 2, 3, mask, *range(4, mask), *range(mask + 1, vocab_size)])


def reorder_words(weights: Mapping[str, Tensor], order_V: Tensor) -> dict[str, Tensor]:
    """The weights with the rows of words in another order."""
    return {name: value[order_V] if name in _BY_WORD else value for name, value in weights.items()}
