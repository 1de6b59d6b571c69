"""Changes of a trained model's FFNs without training: from (configuration, weights) to (configuration, weights).

docs/UPCYCLING.md says what each of them preserves.
"""

from mm_mhmoe.models.upcycling.dense import to_dense
from mm_mhmoe.models.upcycling.resize import resize, to_single_head
from mm_mhmoe.models.upcycling.sparse import preserves_function, to_sparse

__all__ = ["preserves_function", "resize", "to_dense", "to_single_head", "to_sparse"]
