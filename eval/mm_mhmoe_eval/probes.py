"""What frozen features know of classes: nearest neighbours and a linear classifier.

Legend: N training pictures, M test pictures, F features, C classes, K neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

L2_CHOICES = tuple(10.0**power for power in range(-5, 1))


def nearest_neighbours(
    train_NF: Tensor,
    labels_N: Tensor,
    test_MF: Tensor,
    classes: int,
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
    rows: int = 1024,
) -> Tensor:
    """Votes (M, C) of the nearest training pictures by cosine, each weighted by exp(cosine / temperature), as DINO has
    it (arXiv 2104.14294). `rows` test pictures are compared at a time.
    """
    train_NF = F.normalize(train_NF.float(), dim=1)
    votes = []
    for part_MF in F.normalize(test_MF.float(), dim=1).split(rows):
        cosine_MK, near_MK = (part_MF @ train_NF.T).topk(min(neighbours, len(train_NF)), dim=1)
        # Subtracting the nearest one's cosine changes no ranking, and keeps the weights finite.
        weight_MK = ((cosine_MK - cosine_MK[:, :1]) / temperature).exp()
        votes.append(torch.zeros(len(part_MF), classes).scatter_add_(1, labels_N[near_MK], weight_MK))
    return torch.cat(votes)


class Linear(NamedTuple):
    """A linear classifier of features."""

    weight_CF: Tensor
    bias_C: Tensor

    def __call__(self, features_NF: Tensor) -> Tensor:
        return features_NF @ self.weight_CF.T + self.bias_C


def fit_linear(features_NF: Tensor, labels_N: Tensor, classes: int, *, l2: float, iterations: int = 500) -> Linear:
    """Multinomial logistic regression: the minimum of mean cross-entropy + l2 / 2 * the sum of squared weights (the
    bias is free), by L-BFGS on all pictures at once. scikit-learn's C is 1 / (l2 N).
    """
    features_NF = features_NF.double()
    weight_CF = torch.zeros(classes, features_NF.shape[1], dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_CF, bias_C],
        max_iter=iterations,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        entropy = F.cross_entropy(features_NF @ weight_CF.T + bias_C, labels_N)
        total = entropy + 0.5 * l2 * weight_CF.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return Linear(weight_CF.detach().float(), bias_C.detach().float())


class LinearProbe(NamedTuple):
    """Logits of the test pictures, and the l2 that was chosen for them."""

    logits_MC: Tensor
    l2: float


def linear_probe(train_NF: Tensor, labels_N: Tensor, test_MF: Tensor, classes: int) -> LinearProbe:
    """A linear classifier on features of mean 0 and deviation 1 over the training pictures. Of `L2_CHOICES`, the l2 is
    taken that is the most accurate on every fifth training picture when fitted to the others (of equals the largest);
    then all are used. No test picture has a say in it.
    """
    mean_F, deviation_F = train_NF.mean(dim=0), train_NF.std(dim=0).clamp(min=1e-6)
    train_NF, test_MF = (train_NF - mean_F) / deviation_F, (test_MF - mean_F) / deviation_F
    held_N = torch.arange(len(labels_N)) % 5 == 0

    def accuracy(l2: float) -> float:
        fitted = fit_linear(train_NF[~held_N], labels_N[~held_N], classes, l2=l2)
        return (fitted(train_NF[held_N]).argmax(dim=1) == labels_N[held_N]).double().mean().item()

    l2 = max(L2_CHOICES, key=lambda choice: (accuracy(choice), choice))
    return LinearProbe(fit_linear(train_NF, labels_N, classes, l2=l2)(test_MF), l2)
