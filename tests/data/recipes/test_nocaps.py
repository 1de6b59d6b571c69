"""NoCaps on a small folder that is laid out like the original; the captions are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from mm_mhmoe_data.recipes.nocaps import TEST, VAL, plan_nocaps
from mm_mhmoe_data.recipes.research_options import BuildOptions

DOMAINS = ["in-domain", "near-domain", "near-domain"]


@pytest.fixture
def root(tmp_path: Path, put, photo) -> Path:
    root = tmp_path / "nocaps"
    images = [
        {"id": i, "file_name": f"{i:016x}.jpg", "open_images_id": f"{i:016x}", "domain": domain}
        for i, domain in enumerate(DOMAINS)
    ]
    captions = [{"id": 10 * i + n, "image_id": i, "caption": f"{i} is {n}"} for n in range(10) for i in range(2)]
    put(root / VAL, {"images": images, "annotations": captions, "info": {}})
    for i in range(3):
        put(root / "val" / f"{i:016x}.jpg", photo(i))
    return root


def test_captions_and_domains(root: Path, build, facts) -> None:
    built = build(plan_nocaps(root, BuildOptions()))
    found = built.by_key("val")
    assert list(found) == ["000000000", "000000001"]
    assert found["000000001"].parts["txt"].decode().split("\n") == [f"1 is {n}" for n in range(10)]
    assert facts(found["000000001"]) | {"domain": "near-domain", "image_id": 1} == facts(found["000000001"])
    assert built.left_out() == [("no caption", f"val/{2:016x}.jpg")]
    assert built.manifest["counts"] == {"val in-domain": 1, "val near-domain": 2}
    assert built.manifest["expected"] == {"val": {"expected": 4_500, "found": 2}}
    assert not (built.out / "test").exists()


def test_the_test_set_has_no_captions(root: Path, put, photo, build) -> None:
    put(root / TEST, {"images": [{"id": 7, "file_name": "aa.jpg", "open_images_id": "aa"}]})
    put(root / "test" / "aa.jpg", photo(5))
    built = build(plan_nocaps(root, BuildOptions()))
    (sample,) = built.by_key("test").values()
    assert sample.parts["txt"] == b"" and sample.parts["jpg"] == photo(5)
    assert built.manifest["expected"]["test"] == {"expected": 10_600, "found": 1}


def test_another_file_is_one_clear_error(root: Path, put) -> None:
    put(root / VAL, {"images": [{"file_name": "x.jpg"}]})
    with pytest.raises(ValueError, match=r"nocaps_val_4500_captions\.json is not a file of NoCaps.*'id'"):
        plan_nocaps(root, BuildOptions())
