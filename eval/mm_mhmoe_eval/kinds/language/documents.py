"""The documents that a task scores."""

from __future__ import annotations

from mm_mhmoe_data.language import Document, read_documents
from mm_mhmoe_data.language.tokens import check_languages
from mm_mhmoe_data.pipeline import ShardDataset

from mm_mhmoe_eval.kinds.scored import ScoredData


def held_out_documents(data: ScoredData) -> list[Document]:
    """Those of the task's languages, in the order of the shards. Raises ValueError where one is missing."""
    wanted = [name.strip() for name in str(data.options["languages"]).split(",") if name.strip()] or None
    found = list(read_documents(ShardDataset(str(data.paths["test"]), "texts"), wanted))
    check_languages(wanted, {document.language for document in found})
    return found
