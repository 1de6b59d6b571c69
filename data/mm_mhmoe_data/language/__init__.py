"""Texts for language models: shards to documents, documents to tokens, tokens to sequences of one length."""

from mm_mhmoe_data.language.documents import Document, read_documents
from mm_mhmoe_data.language.mixing import language_shares
from mm_mhmoe_data.language.packing import PackedTexts
from mm_mhmoe_data.language.sample import balanced_paragraphs
from mm_mhmoe_data.language.tokens import TokenizedTexts, tokenized

__all__ = [
    "Document",
    "PackedTexts",
    "TokenizedTexts",
    "balanced_paragraphs",
    "language_shares",
    "read_documents",
    "tokenized",
]
