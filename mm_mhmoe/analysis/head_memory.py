"""Memory that heads and losses of pretraining and of language models keep for the backward pass, as a formula.

Symbols: D model dim, M masked positions, V classes, P values of a patch's target.
"""

from __future__ import annotations

from mm_mhmoe.analysis.arithmetic import FP32, INDEX, STATISTICS, Arithmetic
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.config import EncoderConfig

FUSED_FROM = 2**24  # objectives.cross_entropy: from so many logits of a loss on, none of them is kept


def head_bytes(
    config: EncoderConfig, workload: Workload, arithmetic: Arithmetic, target: PatchTarget | None, ranks: int
) -> int:
    """What every loss keeps; with cls_loss those of masks once more, and what makes a state from [CLS].

    target: of hidden patches; None: there are none, as in a language model.
    """
    words = config.text.vocab_size
    patches_by_loss, words_by_loss = workload.patches_by_loss(config), workload.words_by_loss(config)
    kept = sum(_patches(config, number, target, arithmetic) for number in patches_by_loss) if target else 0
    kept += sum(_classified(config, number, words, arithmetic) for number in words_by_loss)
    if workload.cls_loss:
        from_cls = config.dim * (5 * arithmetic.width + arithmetic.norm_width) + STATISTICS
        kept = 2 * kept + sum(patches_by_loss + words_by_loss) * from_cls
    kept += _classified(config, workload.next_words(config), words, arithmetic)
    kept += workload.matched * config.dim * arithmetic.width
    return kept + _compared(config, workload, arithmetic, ranks)


def _patches(config: EncoderConfig, positions: int, target: PatchTarget, arithmetic: Arithmetic) -> int:
    """The loss of hidden patches: of classes, or of values, which keeps the differences, or outputs and targets."""
    if target.loss == "cross_entropy":
        return _classified(config, positions, target.outputs, arithmetic)
    values = 1 if target.loss == "mse" else 2
    return positions * (2 * INDEX + config.dim * arithmetic.width + values * FP32 * target.outputs)


def _classified(config: EncoderConfig, positions: int, classes: int, arithmetic: Arithmetic) -> int:
    """A cross-entropy: positions, states and log-probabilities; or the gradients of states and head."""
    if positions * classes < FUSED_FROM:
        return positions * (4 * INDEX + config.dim * arithmetic.width + FP32 * classes)
    return positions * (3 * INDEX + FP32 * config.dim) + FP32 * classes * (config.dim + 1)


def _compared(config: EncoderConfig, workload: Workload, arithmetic: Arithmetic, ranks: int) -> int:
    """[CLS] states; embeddings as projected, of length one, and scaled; log-probabilities of both directions. Over
    several ranks both embeddings are scaled, and the others' are there as well."""
    own, width = workload.compared, FP32 * workload.embed_dim
    kept = own * (2 * config.dim * arithmetic.width + 5 * width) + 2 * FP32 * own * own * ranks
    return kept if ranks == 1 else kept + own * width + 2 * ranks * own * width


def copied_heads(config: EncoderConfig, workload: Workload, target: PatchTarget | None) -> int:
    """Numbers in the matrices of heads that autocast casts: not of those whose logits are never all there; of pairs'
    own heads those that are in use."""
    dim, words = config.dim, config.text.vocab_size
    texts = (*workload.words_by_loss(config), workload.next_words(config))
    copied = dim * words * _at_once(texts, words)
    patches = workload.patches_by_loss(config)
    if target is not None:
        cast = any(patches) if target.loss != "cross_entropy" else _at_once(patches, target.outputs)
        copied += dim * target.outputs * cast
    copied += 4 * dim**2 * workload.cls_loss
    if workload.contrastive_loss:
        copied += 2 * dim * workload.embed_dim
    return copied


def _at_once(positions: tuple[int, ...], classes: int) -> bool:
    """Whether all logits of one of these losses exist at once."""
    return any(0 < number * classes < FUSED_FROM for number in positions)
