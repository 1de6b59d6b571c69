"""A sample of paragraphs in which small languages have a larger share, for training tokenizers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mm_mhmoe_data.language.documents import read_documents
from mm_mhmoe_data.language.mixing import language_shares
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.sampling import permutation


def balanced_paragraphs(
    dataset: ShardDataset, exponent: float, *, languages: Sequence[str] | None = None, most: int = 1_000_000
) -> dict[str, list[str]]:
    """Paragraphs by language: of each as many as `language_shares` gives it of their number, or of `most`.

    The same every time. A language that has fewer paragraphs than its share has some several times.
    """
    there: defaultdict[str, list[str]] = defaultdict(list)
    for document in read_documents(dataset, languages):
        there[document.language] += document.paragraphs
    total = min(most, sum(map(len, there.values())))
    shares = language_shares([len(texts) for texts in there.values()], exponent)
    found = {}
    for (language, texts), share in zip(there.items(), shares, strict=True):
        order = permutation(len(texts), 0).tolist()
        found[language] = [texts[order[i % len(texts)]] for i in range(max(1, round(share * total)))]
    return found
