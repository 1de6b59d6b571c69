"""Exit codes and files of `data validate`; what is found is tested beside the findings. Shards are made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mm_mhmoe_data.shards import Sample, check_shard, write_shards

from mm_mhmoe.commands.validate import validate


@pytest.fixture
def own(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MM_MHMOE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(shards, tmp_path / "shards")
    return tmp_path / "shards"


def code(**options: object) -> int:
    """The exit code; none is 0."""
    try:
        validate(**options)  # type: ignore[arg-type]
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


def test_sound_shards(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(shards=str(own), strict=True) == 0
    assert capsys.readouterr().out == "data validate: 3 shards, 24 samples, 24 intact; 0 errors, 0 warnings\n"


def test_warnings_alone_fail_only_if_strict(own: Path) -> None:
    write_shards([Sample(key="x", parts={"txt": b"no picture"})], own, 3, 1)
    assert code(shards=str(own)) == 0
    assert code(shards=str(own), strict=True) == 1


def test_errors_are_written_shown_and_mended(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = own / "00001.tar"
    broken.write_bytes(broken.read_bytes()[:9000])
    out, saved = tmp_path / "found.json", tmp_path / "saved"
    assert code(shards=str(own), json=out, salvage=saved) == 1
    shown = " ".join(capsys.readouterr().out.split())
    content = json.loads(out.read_text())
    assert content["errors"] == 1 and content["kinds"]["cut"]["count"] == 1
    intact = check_shard(saved / "00001.tar")
    assert content["by_shard"][1]["salvaged"] == intact > 0
    assert f"salvage: {intact} samples of 1 shards with errors" in shown and "00001.tar" in shown
    assert [path.name for path in saved.iterdir()] == ["00001.tar"]
    assert code(shards=str(saved)) == 0


def test_a_folder_that_is_not_empty_is_not_salvaged_to(own: Path) -> None:
    with pytest.raises(ValueError, match="must be an empty folder"):
        validate(shards=str(own), salvage=own)
