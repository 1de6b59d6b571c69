"""Class names as a classifier (CLIP, arXiv 2103.00020, section 3.1.4). Legend: C classes, E embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mm_mhmoe_data.collate import collate_texts
from torch import Tensor

from mm_mhmoe_eval.protocol import EmbedsPairs

PLACE = "{c}"


def class_embeddings(
    model: EmbedsPairs,
    tokenizer: Any,
    classes: Sequence[str],
    templates: Sequence[str],
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(C, E): of each class the normalised mean of the embeddings of its name in every template.

    Raises ValueError for a template without `{c}`, where the name goes.
    """
    for template in templates:
        if PLACE not in template:
            raise ValueError(f"template {template!r} has no {PLACE}, where the name of the class goes")
    texts = [template.replace(PLACE, name) for name in classes for template in templates]
    embedded = []
    for start in range(0, len(texts), batch_size):
        ids = [tokenizer.encode(text, model.text.max_length) for text in texts[start : start + batch_size]]
        batch = collate_texts(ids, model.text.pad_id, model.text.max_length)
        embedded.append(model.embed_texts(batch.to(device)).float().cpu())
    mean_CE = torch.cat(embedded).unflatten(0, (len(classes), len(templates))).mean(dim=1)
    return F.normalize(mean_CE, dim=1)
