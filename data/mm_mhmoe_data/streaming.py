"""Samples as they arrive, for shards that can only be read from their beginning (pipes), or that fit on no disk.

Resume is approximate: a stopped run begins again with the shard that it was reading, so it sees samples of that shard
twice, and those that waited to be mixed not at all. `ShardDataset` resumes exactly; take it wherever it can be had.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.pipeline import MAX_CAPTION_BYTES, Parts
from mm_mhmoe_data.shards import Sample, Shard, ShardError, expand_shards
from mm_mhmoe_data.shards.index import IMAGE_EXTENSIONS
from mm_mhmoe_data.shards.indexed import SampleError
from mm_mhmoe_data.shards.stream import stream_shard

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StreamedSample:
    """A sample that arrived.

    picture: uint8 RGB (3, H, W), or None where only texts are asked for. caption: "" where only pictures are.
    shard_number: where its shard stands in this process's order; `start` takes it to go on.
    """

    key: str
    picture: Tensor | None
    caption: str
    shard: str
    shard_number: int


def stream_samples(
    shards: str | Path | Sequence[Shard],
    parts: Parts = "pairs",
    *,
    seed: int = 0,
    epoch: int = 0,
    share: tuple[int, int] = (0, 1),
    start: int = 0,
    buffer: int = 1000,
    allow_pipe: bool = False,
    bad: Callable[[ShardError], None] | None = None,
) -> Iterator[StreamedSample]:
    """One epoch of samples that have the parts asked for; others are passed over.

    Shards come in an order given by (seed, epoch); samples are mixed with those that arrive near them.

    Args:
        shards: what `expand_shards` takes.
        share: (which, of how many): each of several processes and workers reads every so-manieth shard. Shards of
            different sizes give them different numbers of samples.
        start: shards of the share to pass over: the largest `shard_number` that was used before the run was stopped.
        buffer: samples among which the next is drawn, as they lie in their shards; 0: none are mixed.
        allow_pipe: also take `pipe:` shards, which run shell commands.
        bad: told about samples and shards that cannot be used, before reading goes on behind them. None: they raise.

    Raises:
        ShardError: see `bad`.
        RemoteError: a shard cannot be opened.
        ValueError: there are fewer shards than shares.
    """
    found = expand_shards(shards, allow_pipe=allow_pipe) if isinstance(shards, (str, Path)) else list(shards)
    if any(shard.is_pipe for shard in found) and not allow_pipe:
        raise ValueError("a shard would run a shell command (pipe:); allow_pipe=True allows that")
    number, of = share
    if not 0 <= number < of <= len(found):
        raise ValueError(
            f"share={share} of {len(found)} shards: each process and worker needs a shard of its own; take fewer"
        )
    _log.warning("streaming %d shards: approximate resume, samples near a stop may repeat or be left out", len(found))
    return _samples(found, parts, random.Random(f"{seed}:{epoch}"), share, start, buffer, bad or _raise)


def _samples(
    shards: list[Shard],
    parts: Parts,
    rng: random.Random,
    share: tuple[int, int],
    start: int,
    buffer: int,
    bad: Callable[[ShardError], None],
) -> Iterator[StreamedSample]:
    from webdataset.filters import shuffle  # takes a second

    rng.shuffle(shards)
    arriving = _arriving(list(enumerate(shards[share[0] :: share[1]]))[start:], bad)
    mixed = shuffle(buffer, initial=buffer, rng=rng)(arriving) if buffer else arriving
    for shard_number, shard, sample in mixed:
        content = next((sample.parts[name] for name in IMAGE_EXTENSIONS if name in sample.parts), None)
        text = sample.parts.get("txt", b"")
        if (content is None and parts != "texts") or (not text and parts != "images"):
            continue
        try:
            caption = "" if parts == "images" else _caption(shard, sample.key, text)
            picture = None if content is None or parts == "texts" else _picture(shard, sample.key, content)
        except SampleError as error:
            bad(error)
            continue
        yield StreamedSample(
            key=sample.key, picture=picture, caption=caption, shard=str(shard), shard_number=shard_number
        )


def _arriving(
    shards: Sequence[tuple[int, Shard]], bad: Callable[[ShardError], None]
) -> Iterator[tuple[int, Shard, Sample]]:
    for number, shard in shards:
        try:
            for sample in stream_shard(shard):
                yield number, shard, sample
        except ShardError as error:
            bad(error)


def _caption(shard: Shard, key: str, content: bytes) -> str:
    if len(content) > MAX_CAPTION_BYTES:
        raise _error(shard, key, f"has a .txt of {len(content)} bytes; at most {MAX_CAPTION_BYTES} are read", "read")
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise _error(shard, key, f"has a caption that is not UTF-8 ({error.reason})", "text") from error


def _picture(shard: Shard, key: str, content: bytes) -> Tensor:
    try:
        return decode_picture(content)
    except ValueError as error:
        raise _error(shard, key, f"cannot be used: {error}", "decode") from error


def _error(shard: Shard, key: str, problem: str, stage: str) -> SampleError:
    return SampleError(f"shard {shard}: sample {key} {problem}", stage=stage)


def _raise(error: ShardError) -> None:
    raise error
