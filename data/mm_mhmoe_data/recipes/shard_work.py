"""What a worker does: one shard, written as its samples come, and told about in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..parallel import Stopped, raise_if_stopped
from ..shards import Sample, split_name, write_shard
from .files import edges, sha256
from .plan import Dropped, ShardJob
from .state import Finished


def make_shard(job: ShardJob, out: Path) -> Finished:
    """Write the shard of `job` below `out`. It appears when it is complete, or not at all if it has no samples.

    Raises `ValueError`, naming the shard and where in it, whatever goes wrong in the source; `Stopped` when
    the build ends meanwhile.
    """
    path, dropped = out / job.path, list[Dropped]()
    place = _Place()
    try:
        samples = write_shard(_checked(job.make(), dropped, place), path)
    except Stopped:
        raise
    except OSError as error:
        named = f" ({error.filename})" if error.filename and str(error.filename) not in str(error) else ""
        raise ValueError(f"{job.path}: {error}{named}") from error
    except ValueError as error:
        raise ValueError(f"{job.path}, {place}: {error}") from error
    except Exception as error:
        raise ValueError(
            f"{job.path}, {place}: the source is not as the recipe expects ({type(error).__name__}: {error})."
        ) from error
    if not samples:
        path.unlink(missing_ok=True)
        return Finished(path=job.path, samples=0, bytes=0, sha256="", edges="", dropped=tuple(dropped))
    return Finished(
        path=job.path,
        samples=samples,
        bytes=path.stat().st_size,
        sha256=sha256(path),
        edges=edges(path),
        dropped=tuple(dropped),
    )


class _Place:
    """Where in a shard the work is, for errors."""

    last = ""

    def __str__(self) -> str:
        return f"after sample {self.last}" if self.last else "at its first sample"


def _checked(samples: Iterable[Sample | Dropped], dropped: list[Dropped], place: _Place) -> Iterator[Sample]:
    seen: set[str] = set()
    for sample in samples:
        raise_if_stopped()
        if isinstance(sample, Dropped):
            dropped.append(sample)
            continue
        if sample.key in seen:
            raise ValueError(f"the key {sample.key!r} comes twice.")
        for extension in sample.parts:
            if split_name(f"{sample.key}.{extension}") != (sample.key, extension):
                raise ValueError(f"{sample.key!r} with {extension!r} is no key that shards can hold.")
        seen.add(sample.key)
        place.last = sample.key
        yield sample
