"""Image-text retrieval: recall, median rank and what chance would give, without the full score matrix.

Legend: M images, N texts, E embedding, Q queries, C candidates, K kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TIE = 1e-6
"""Scores closer than this are a tie. (Float32 cosines of equal pictures may differ by less.)"""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Ranks from 1 (best).

    image_N: of the picture that belongs to text n, among all pictures.
    text_M:  of the best caption of picture m, among all texts but its other captions; 0 where it has no
        caption.
    """

    image_N: Tensor
    text_M: Tensor


def retrieval_ranks(image_ME: Tensor, text_NE: Tensor, text_image_N: Tensor, *, chunk: int = 1024) -> Ranks:
    """The rank of every query's right candidate.

    Ties count against the model: a wrong candidate that scores as much as the right one (within `TIE`) stands
    before it. So the rank is deterministic, and an encoder that maps everything to one point gets the worst
    rank, not the best. When a picture has several captions, its rank is one plus the number of foreign
    captions at or above its best own caption; as usual in COCO and Flickr30k evaluation, any of its captions
    counts as a hit.

    Args:
        image_ME, text_NE: embeddings, compared by dot product (cosine when rows have length 1).
        text_image_N: for each text, the row of its picture in image_ME.
        chunk: queries at a time; no more than chunk rows of the score matrix exist at once.

    Raises ValueError for shapes that do not fit, an index out of range, or embeddings that are not finite.
    """
    image_ME, text_NE, text_image_N = _checked(image_ME, text_NE, text_image_N)
    images, texts = image_ME.shape[0], text_NE.shape[0]

    image_N = torch.zeros(texts, dtype=torch.long)
    for start, score_QM in _score_chunks(text_NE, image_ME, chunk):
        own_Q = text_image_N[start : start + len(score_QM)]
        right_Q1 = score_QM.gather(1, own_Q[:, None])
        # The right picture itself passes the comparison: it is the one in "one plus the number before it".
        image_N[start : start + len(score_QM)] = (score_QM >= right_Q1 - TIE).sum(1)

    text_M = torch.zeros(images, dtype=torch.long)
    for start, score_QN in _score_chunks(image_ME, text_NE, chunk):
        rows_Q = torch.arange(start, start + len(score_QN))
        own_QN = rows_Q[:, None] == text_image_N[None, :]
        best_Q1 = score_QN.masked_fill(~own_QN, -torch.inf).amax(1, keepdim=True)
        before_Q = ((score_QN >= best_Q1 - TIE) & ~own_QN).sum(1)
        text_M[start : start + len(score_QN)] = torch.where(own_QN.any(1), before_Q + 1, 0)
    return Ranks(image_N=image_N, text_M=text_M)


def retrieval_scores(
    image_ME: Tensor,
    text_NE: Tensor,
    text_image_N: Tensor,
    ks: Sequence[int] = (1, 5, 10),
    *,
    chunk: int = 1024,
) -> dict[str, float]:
    """Recall at each k in both directions, median ranks, sizes and chance. See `retrieval_ranks` for ties.

    Keys, for `image_retrieval` (a text looks for its picture) and `text_retrieval` (a picture looks for any
    of its captions): `*_recall@k` and `*_chance@k` as fractions, `*_median_rank`, `*_queries`,
    `*_candidates`. Pictures without a caption are candidates but no queries.
    """
    ranks = retrieval_ranks(image_ME, text_NE, text_image_N, chunk=chunk)
    return scores_from_ranks(ranks, torch.as_tensor(text_image_N), ks)


def scores_from_ranks(ranks: Ranks, text_image_N: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """`retrieval_scores` from ranks that are known already."""
    captions_M = torch.bincount(text_image_N.cpu(), minlength=len(ranks.text_M))
    sides = (
        ("image_retrieval", ranks.image_N, len(ranks.text_M), torch.ones_like(ranks.image_N)),
        ("text_retrieval", ranks.text_M[captions_M > 0], len(ranks.image_N), captions_M[captions_M > 0]),
    )
    scores: dict[str, float] = {}
    for name, rank_Q, candidates, right_Q in sides:
        for k in ks:
            scores[f"{name}_recall@{k}"] = (rank_Q <= k).double().mean().item()
            scores[f"{name}_chance@{k}"] = chance_recall(right_Q, candidates, k)
        scores[f"{name}_median_rank"] = rank_Q.double().quantile(0.5).item()
        scores[f"{name}_queries"] = float(len(rank_Q))
        scores[f"{name}_candidates"] = float(candidates)
    return scores


def chance_recall(right_Q: Tensor, candidates: int, k: int) -> float:
    """Expected recall@k of a random ranking when query q has right_Q[q] right ones among the candidates.

    Exact: 1 - C(candidates - right, k) / C(candidates, k), averaged over queries.
    """
    miss_Q = torch.ones(len(right_Q), dtype=torch.float64)
    for drawn in range(min(k, candidates)):
        miss_Q *= (candidates - right_Q.double() - drawn).clamp(min=0) / (candidates - drawn)
    return (1 - miss_Q).mean().item()


def new_ranks(rank_Q: Tensor, score_QK: Tensor, own_QK: Tensor) -> Tensor:
    """Ranks (Q,) after each query's K best candidates got new scores.

    A query with no own candidate among them keeps its rank. The others' is one plus the number of foreign candidates,
    among the K, that score as much as the best own one (within `TIE`) or more.

    Args:
        rank_Q: ranks before.
        score_QK: new scores.
        own_QK: which candidates belong to the query.
    """
    best_Q1 = score_QK.masked_fill(~own_QK, -torch.inf).amax(1, keepdim=True)
    before_Q = ((score_QK >= best_Q1 - TIE) & ~own_QK).sum(1)
    return torch.where(own_QK.any(1), before_Q + 1, rank_Q)


def top_k(query_QE: Tensor, candidate_CE: Tensor, k: int, *, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Indices (Q, K) and scores (Q, K) of the k best candidates, best first, equal scores by index."""
    k = min(k, len(candidate_CE))
    indices, scores = [], []
    for _, score_QC in _score_chunks(query_QE.detach().float().cpu(), candidate_CE.detach().float().cpu(), chunk):
        score_QK, index_QK = _largest(score_QC, k)
        scores.append(score_QK)
        indices.append(index_QK)
    if not scores:
        return torch.zeros(0, k, dtype=torch.long), torch.zeros(0, k)
    return torch.cat(indices), torch.cat(scores)


def _largest(score_QC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their places, largest first, equal ones by place."""
    score_QK, index_QK = score_QC.topk(k, dim=1)
    index_QK = index_QK.sort(dim=1).values
    order_QK = score_QC.gather(1, index_QK).sort(dim=1, descending=True, stable=True).indices
    index_QK = index_QK.gather(1, order_QK)
    # Where some that equal the last one did not get in, topk may have taken any of them: sort these rows as a whole.
    last_Q1 = score_QK[:, -1:]
    unclear_Q = (score_QC == last_Q1).sum(1) > (score_QK == last_Q1).sum(1)
    if unclear_Q.any():
        index_QK[unclear_Q] = score_QC[unclear_Q].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return score_QK, index_QK


def _score_chunks(query_QE: Tensor, candidate_CE: Tensor, chunk: int) -> Iterator[tuple[int, Tensor]]:
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be 1 or more")
    for start in range(0, len(query_QE), chunk):
        yield start, query_QE[start : start + chunk] @ candidate_CE.T


def _checked(image_ME: Tensor, text_NE: Tensor, text_image_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    image_ME, text_NE = (torch.as_tensor(part).detach().float().cpu() for part in (image_ME, text_NE))
    text_image_N = torch.as_tensor(text_image_N).long().cpu()
    if image_ME.dim() != 2 or text_NE.dim() != 2 or image_ME.shape[1] != text_NE.shape[1]:
        raise ValueError(f"embeddings must be (M, E) and (N, E), got {(*image_ME.shape,)} and {(*text_NE.shape,)}")
    if len(image_ME) == 0 or len(text_NE) == 0:
        raise ValueError(f"retrieval needs pictures and texts, got {len(image_ME)} and {len(text_NE)}")
    if text_image_N.shape != (len(text_NE),):
        raise ValueError(
            f"text_image_N has shape {(*text_image_N.shape,)}, but there are {len(text_NE)} texts; give one index each"
        )
    if text_image_N.min() < 0 or text_image_N.max() >= len(image_ME):
        raise ValueError(f"text_image_N points outside the {len(image_ME)} pictures")
    for name, part in (("image", image_ME), ("text", text_NE)):
        if not part.isfinite().all():
            raise ValueError(f"{name} embeddings hold values that are not finite; the model has diverged")
    return image_ME, text_NE, text_image_N
