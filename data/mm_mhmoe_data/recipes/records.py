"""What one picture becomes: a sample of a shard, and what the questions know about it."""

from __future__ import annotations

import json

from ..shards import Sample
from .question_words import Picture
from .source import Candidate

LICENCE = "public domain"


def make_sample(candidate: Candidate, cluster: int, key: str) -> Sample:
    """The members KEY.webp, KEY.txt and KEY.json with the fields of img2dataset and the source."""
    caption, picture = candidate.caption, candidate.picture
    facts = {
        "key": key,
        "caption": caption.text,
        "url": candidate.path,
        "status": "success",
        "width": picture.width,
        "height": picture.height,
        "original_width": picture.original_width,
        "original_height": picture.original_height,
        "title": caption.title,
        "keywords": list(caption.keywords),
        "folder": candidate.path.rpartition("/")[0],
        "category": caption.category,
        "cluster": cluster,
        "series": caption.series.rpartition("/")[2],
        "creator": candidate.metadata.creator[:60],
        "licence": LICENCE,
    }
    return Sample(
        key=key,
        parts={
            "webp": picture.content,
            "txt": caption.text.encode(),
            "json": json.dumps(facts, separators=(",", ":"), ensure_ascii=True).encode(),
        },
    )


def question_picture(candidate: Candidate, image_id: int) -> Picture:
    """The picture as the question makers see it."""
    return Picture(
        image_id=image_id,
        title=candidate.caption.title,
        context=candidate.caption.context,
        category=candidate.caption.category,
        keywords=candidate.caption.keywords,
        folder=candidate.path.rpartition("/")[0],
        content=candidate.picture.content,
    )
