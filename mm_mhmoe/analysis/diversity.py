"""What the number of different experts of a token would be by chance. Legend: H sub-tokens a token, E experts."""

from __future__ import annotations

from torch import Tensor


def uniform_diversity(num_experts: int, picks: int, *, per_pick: int = 1) -> float:
    """Different experts on average when `picks` sub-tokens each take `per_pick` different experts at random.

    An expert is missed by one sub-token with probability 1 - k/E, and by all of them with its power.
    """
    if not 1 <= per_pick <= num_experts:
        raise ValueError(f"per_pick={per_pick} must lie between 1 and num_experts={num_experts}")
    return num_experts * (1.0 - (1.0 - per_pick / num_experts) ** picks)


def independent_diversity(first_HE: Tensor) -> float:
    """Different first choices on average if every head chose as often as it does, but without regard to the others.

    The uniform value ignores that heads have favourites: heads with one favourite each reach H experts at every token,
    whatever the token is. What lies above or below this value is what sub-tokens of one token do together.

    Args:
        first_HE: first choices of every head, counted.
    """
    share_HE = first_HE.double() / first_HE.sum(dim=1, keepdim=True).double()
    return (1.0 - (1.0 - share_HE).prod(dim=0)).sum().item()
