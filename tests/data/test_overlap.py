"""Truth: comparisons of all pairs, and pictures of which is known what was done to them.

Pictures are made up here (coarse random patterns) or are the demo's drawings.
"""

from __future__ import annotations

import io
import itertools
import json
import pickle
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.overlap import find_overlap
from mm_mhmoe_data.overlap.bands import BandIndex, _cut, _equal, differing_bits
from mm_mhmoe_data.overlap.find import _Searched, near_twins
from mm_mhmoe_data.overlap.prints import joined, load, save, shard_prints
from mm_mhmoe_data.overlap.sheet import draw_pairs
from mm_mhmoe_data.recipes.fingerprints import TwinRule, fingerprint, stack, twin_pairs
from mm_mhmoe_data.shards import Sample, iter_samples, write_shards
from PIL import Image

DEMO = Path(str(files("mm_mhmoe_data"))) / "demo"


def pattern(seed: int, size: int = 64) -> Image.Image:
    """A drawing of 6 x 6 coloured fields, smoothly scaled up."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def write(folder: Path, parts: dict[str, dict[str, bytes]], per_shard: int = 5) -> list[Path]:
    samples = [Sample(key=key, parts=content) for key, content in parts.items()]
    return [path for path, _ in write_shards(samples, folder, 0, per_shard)]


def test_bits_that_differ_are_counted() -> None:
    one, other = np.random.default_rng(0).integers(0, 1 << 64, (2, 500), dtype=np.uint64)
    assert differing_bits(one, other).tolist() == [
        bin(a ^ b).count("1") for a, b in zip(one.tolist(), other.tolist(), strict=True)
    ]


# Few bands have too many probes at large distances, and are never chosen there.
@pytest.mark.parametrize(
    ("distance", "bands"),
    [(d, b) for d in (0, 1, 3, 8, 12, 20, 31) for b in (0, 3, 4, 7, 16) if d <= 12 or b not in (3, 4)],
)
def test_the_bands_find_all_pairs(distance: int, bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes near one another at every distance, by a loop over all pairs."""
    monkeypatch.setattr("mm_mhmoe_data.overlap.bands._cut", lambda *_: _equal(bands) if bands else [])
    rng = np.random.default_rng(distance)
    hash_M = rng.integers(0, 1 << 64, 150, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, size=k % 34, replace=False)) for k in range(300)]
    hash_N = hash_M[rng.integers(0, 150, 300)] ^ np.array(flips, np.uint64)
    hash_M[40:60] = hash_M[40]  # equal ones
    expected = [
        (n, m)
        for n, m in itertools.product(range(300), range(150))
        if bin(int(hash_N[n]) ^ int(hash_M[m])).count("1") <= distance
    ]
    found = [pair for n, m in BandIndex(hash_M, distance).pairs(hash_N) for pair in zip(n, m, strict=True)]
    assert sum(width for _, width in _equal(bands or 3)) == 64
    assert found == expected and len(expected) > distance


def test_bands_are_used_where_they_pay() -> None:
    assert len(_cut(1_000_000, 4)) == 3 and len(_cut(1_000_000, 12)) > 3
    assert _cut(1_000_000, 20) == [] and _cut(10, 4) == []


def test_many_equal_hashes_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_mhmoe_data.overlap import bands

    monkeypatch.setattr(bands, "_CANDIDATES", 10)
    monkeypatch.setattr(bands, "_cut", lambda *_: _equal(5))
    same = np.full(37, 5, np.uint64)
    [(n, m)] = BandIndex(same, 2).pairs(same)
    assert list(zip(n, m, strict=True)) == list(itertools.product(range(37), range(37)))


def test_nothing_is_found_among_nothing() -> None:
    nothing = np.zeros(0, np.uint64)
    assert list(BandIndex(nothing, 12).pairs(np.zeros(3, np.uint64))) == []
    assert list(BandIndex(np.zeros(3, np.uint64), 12).pairs(nothing)) == []


@pytest.mark.parametrize("distance", [-1, 32])
def test_a_distance_out_of_range_is_refused(distance: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 31"):
        BandIndex(np.zeros(3, np.uint64), distance)


@pytest.mark.parametrize("distance", [12, 20])
def test_twins_are_those_of_all_pairs(distance: int) -> None:
    """`recipes.fingerprints.twin_pairs` compares every picture of one set with every one of the other."""
    mine, other = DEMO / "test" / "00009.tar", DEMO / "val" / "00007.tar"
    prints = [shard_prints(mine), shard_prints(other)]
    rule = TwinRule(phash_bits=distance, dhash_bits=distance + 2, changed=0.10)
    left, right = (stack([fingerprint(s.parts["webp"]) for s in iter_samples(path)]) for path in (mine, other))
    for one, two, a, b in ((prints[0], prints[1], left, right), (prints[1], prints[1], right, right)):
        expected: dict[int, set[int]] = {}
        for i, j in twin_pairs(a, b, rule):
            expected.setdefault(i, set()).add(j)
        assert {i: set(places.tolist()) for i, places in near_twins(one, _Searched(two, distance))} == expected
    assert len(expected) >= 250


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """The first has other pictures, and copies of some of the second's, each changed in another way."""
    sources = [pattern(seed) for seed in range(8)]
    second = {f"b{i}": {"png": encoded(image, "PNG"), "json": b'{"url": "u%d"}' % i} for i, image in enumerate(sources)}
    first = {f"a{i}": {"png": encoded(pattern(100 + i), "PNG"), "txt": b"x"} for i in range(4)}
    first["same"] = {"png": second["b0"]["png"]}
    first["repacked"] = {"png": encoded(sources[1], "PNG", compress_level=1)}
    first["jpeg"] = {"jpg": encoded(sources[2], "JPEG", quality=40)}
    first["small"] = {"webp": encoded(sources[3].resize((40, 40)), "WEBP", quality=50)}
    first["renamed"] = {"png": encoded(pattern(200), "PNG"), "json": b'{"url": "u6"}'}
    first["broken"] = {"png": b"?"}
    return write(tmp_path / "first", first), write(tmp_path / "second", second)


def test_each_way_a_picture_comes_back(two_sets: tuple[list[Path], list[Path]]) -> None:
    overlap = find_overlap(*two_sets, id_fields=["url"])
    assert {m.key: (m.other_key, m.kinds) for m in overlap.matches} == {
        "same": ("b0", ("bytes",)),
        "repacked": ("b1", ("pixels",)),
        "jpeg": ("b2", ("near",)),
        "small": ("b3", ("near",)),
        "renamed": ("b6", ("url",)),
    }
    assert (overlap.pictures, overlap.others, overlap.unreadable, overlap.others_hit) == (9, 8, 1, 5)
    assert overlap.counts == {"bytes": 1, "pixels": 1, "near": 2, "url": 1, "samples": 5}
    for match in overlap.matches:
        where = {s.key: path for path in [*two_sets[0], *two_sets[1]] for s in iter_samples(path)}
        assert (match.shard, match.other_shard) == (str(where[match.key]), str(where[match.other_key]))


def test_prints_come_back_from_files_and_processes(two_sets: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    prints = joined([shard_prints(path, ["url"]) for path in two_sets[1]])
    save(prints, tmp_path)
    for again in (load(tmp_path), pickle.loads(pickle.dumps(prints))):
        for name, value in vars(prints).items():
            theirs = getattr(again, name)
            assert np.array_equal(value, theirs) if isinstance(value, np.ndarray) else value == theirs, name


def test_a_sheet_shows_pairs(two_sets: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    overlap = find_overlap(*two_sets)
    assert draw_pairs(overlap.matches, tmp_path / "pairs.png", count=3) == 3
    with Image.open(tmp_path / "pairs.png") as sheet:
        colours = sheet.convert("RGB").getcolors(1 << 20)
    assert colours is not None and len(colours) > 1000
    assert draw_pairs([], tmp_path / "none.png") == 0


def test_the_command_writes_what_it_found(
    two_sets: tuple[list[Path], list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mm_mhmoe.commands.overlap import overlap

    out, exclude = tmp_path / "out.json", tmp_path / "exclude.txt"
    overlap(str(two_sets[0][0].parent), str(two_sets[1][0].parent), out=out, exclude=exclude)
    first, second = two_sets[0][:2]
    expected = [(first, "same"), (second, "repacked"), (second, "jpeg"), (second, "small")]
    assert exclude.read_text().splitlines() == [f"{shard.resolve()}\t{key}" for shard, key in expected]
    content = json.loads(out.read_text())
    assert [match["key"] for match in content["matches"]] == ["same", "repacked", "jpeg", "small"]
    assert "4 of 9 samples occur in" in " ".join(capsys.readouterr().out.split())
