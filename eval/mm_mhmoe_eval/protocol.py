"""What a model must offer to be scored. Any object with these methods will do.

Legend: B batch, E embedding, A answers, C classes, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from mm_mhmoe_data.transforms import Transform
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.models.likelihood import Reading
from mm_mhmoe.objectives.held_out import HiddenPredictions


class HasInputs(Protocol):
    """Says what the model takes: size of pictures, vocabulary and length of texts."""

    @property
    def vision(self) -> VisionConfig: ...

    @property
    def text(self) -> TextConfig: ...


@runtime_checkable
class PreparesInputs(HasInputs, Protocol):
    """Brings its own tokenizer and preparation of pictures. Other models take what the project makes of them."""

    @property
    def tokenizer(self) -> Any:
        """Has `encode(text, max_length)`, ids of which no more than max_length. None: the model takes no texts."""
        ...

    @property
    def transform(self) -> Transform:
        """uint8 (3, H, W) to uint8 (3, S, S), S being the size of `vision`."""
        ...


@runtime_checkable
class EmbedsPairs(HasInputs, Protocol):
    """Puts pictures and texts into one space, for retrieval."""

    def embed_images(self, images: Images) -> Tensor:
        """(B, E), each row of length 1."""
        ...

    def embed_texts(self, texts: Texts) -> Tensor:
        """(B, E), each row of length 1."""
        ...


@runtime_checkable
class RescoresPairs(EmbedsPairs, Protocol):
    """Also reads a picture and a text together, to put the best candidates of a query into a better order."""

    def rescore(self, pairs: ImageTextBatch, cosine_B: Tensor) -> Tensor:
        """Scores (B,), higher for what belongs together, given the cosines of the pairs' embeddings."""
        ...


@runtime_checkable
class AnswersQuestions(HasInputs, Protocol):
    """Answers a question about a picture from a fixed list of answers."""

    @property
    def answers(self) -> Sequence[str]:
        """The A answers, in the order of the logits."""
        ...

    def answer_logits(self, pairs: ImageTextBatch) -> Tensor:
        """(B, A), from pictures and the questions as texts."""
        ...


@runtime_checkable
class ContinuesTexts(HasInputs, Protocol):
    """Says how likely a continuation of a text about a picture is."""

    def continuation_log_likelihood(self, pairs: ImageTextBatch, start_B: Tensor, reading: Reading) -> Tensor:
        """(B,) sums over the tokens from these places on."""
        ...


@runtime_checkable
class JudgesStatements(HasInputs, Protocol):
    """Judges whether a sentence is true of two pictures."""

    def judge(self, left: ImageTextBatch, right: ImageTextBatch) -> Tensor:
        """(B, 2) logits of false and true, from pairs of each picture with the sentence."""
        ...


@runtime_checkable
class Classifies(HasInputs, Protocol):
    """Tells classes of pictures from a fixed list."""

    @property
    def classes(self) -> Sequence[str]:
        """The names of the C classes, in the order of the logits."""
        ...

    def class_logits(self, images: Images) -> Tensor:
        """(B, C)"""
        ...


@runtime_checkable
class GivesFeatures(HasInputs, Protocol):
    """Gives features of pictures, from which others tell classes."""

    def image_features(self, images: Images) -> Tensor:
        """(B, F), of any length."""
        ...


@runtime_checkable
class Captions(HasInputs, Protocol):
    """Writes captions of pictures."""

    def write_captions(self, images: Images) -> Sequence[Sequence[int]]:
        """Token ids of a caption for each picture, which the model's tokenizer turns into text."""
        ...


@runtime_checkable
class PredictsHidden(HasInputs, Protocol):
    """Predicts hidden patches and words."""

    def predict_hidden(self, batch: ImageTextBatch, stream: str) -> Mapping[str, HiddenPredictions]:
        """Of each target of the stream (images, texts, pairs): `images`, `texts`, `pairs_image`, `pairs_text`."""
        ...


@runtime_checkable
class PredictsTokens(HasInputs, Protocol):
    """Predicts every token of a text from those before it."""

    def token_nats(self, texts: Texts) -> Tensor:
        """(B, L - 1): the cross-entropy of every token but the first, in nats; 0 at padding."""
        ...
