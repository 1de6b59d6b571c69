"""Text from JSON that UTF-8 can hold."""

from __future__ import annotations


def encodable(text: str) -> str:
    """`text` with a question mark for each lone surrogate, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
