"""The text behind the token ids of BEiT-3's index files."""

from __future__ import annotations

from pathlib import Path

import sentencepiece

from .beit3_index import Segment

UNKNOWN = 3
_SHIFT = 1  # from SentencePiece's ids to the tokenizer's


class SegmentText:
    """Turns text segments into texts, with BEiT-3's SentencePiece model.

    BEiT-3 tokenizes with transformers' XLMRobertaTokenizer: ids 0 to 3 are begin, padding, end and unknown, and
    every other piece has its SentencePiece id and one more.

    Args:
        model: beit3.spm; None is enough for segments that are texts already.

    Raises:
        ValueError: the file is not a model, or one of another layout, which would give other words.
    """

    def __init__(self, model: Path | None) -> None:
        self.path = model
        self._pieces: sentencepiece.SentencePieceProcessor | None = None
        if model is None:
            return
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{model} is not a SentencePiece model ({error}). Give beit3.spm as --tokenizer."
            ) from error
        layout = (self._pieces.unk_id(), self._pieces.bos_id(), self._pieces.eos_id())
        if layout != (0, 1, 2):
            raise ValueError(
                f"{model} has unknown, begin and end at {layout}, but BEiT-3's model at (0, 1, 2): ids would become "
                "other words. Give beit3.spm as --tokenizer."
            )

    def __call__(self, segment: Segment | None) -> str:
        """The text of a segment; empty for None. A piece that the model did not know becomes " ⁇ ".

        Raises ValueError for ids without a model, and for ids that the model does not have.
        """
        if segment is None:
            return ""
        if isinstance(segment, str):
            return segment
        if self._pieces is None:
            raise ValueError(
                "text_segment holds token ids. Give the SentencePiece model that made them as --tokenizer beit3.spm."
            )
        last = self._pieces.get_piece_size() - 1 + _SHIFT
        for number in segment:
            if number != UNKNOWN and not UNKNOWN < number <= last:
                raise ValueError(
                    f"text_segment holds the id {number}, but {self.path} has pieces from {UNKNOWN} to {last}. "
                    "Give the model that made the index files as --tokenizer."
                )
        return self._pieces.decode([0 if number == UNKNOWN else number - _SHIFT for number in segment])
