"""Truth: what torch and safetensors wrote themselves; a pickle that would run code must not."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mm_mhmoe.models.importing import read_state_dict

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "module"])
def test_state_dicts_alone_and_wrapped(tmp_path: Path, wrapper: str | None) -> None:
    path = tmp_path / "x.pth"
    torch.save(WEIGHTS if wrapper is None else {wrapper: WEIGHTS, "epoch": 3, "optimizer": {}}, path)
    found = read_state_dict(path)
    assert found.keys() == WEIGHTS.keys() and all(torch.equal(found[k], v) for k, v in WEIGHTS.items())


def test_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "x.safetensors")["a.bias"], WEIGHTS["a.bias"])


class Runs:
    def __reduce__(self):
        return (Path.touch, (Path(__file__).parent / "touched",))


def test_nothing_is_run(tmp_path: Path) -> None:
    torch.save({"model": {**WEIGHTS, "x": Runs()}}, tmp_path / "x.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match=r"x.pth cannot be read as weights"):
        read_state_dict(tmp_path / "x.pth")
    assert not (Path(__file__).parent / "touched").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.pth", b"", "cannot be read as weights"),
        ("x.pth", b"<html>404</html>", "cannot be read as weights"),
        ("x.safetensors", b"12345678abc", "cannot be read as weights"),
        ("missing.pth", None, "does not exist"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} {told}"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("value", [[1, 2], {"model": {}}, {"epoch": 3}])
def test_files_without_weights(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x.pth holds no weights by name"):
        read_state_dict(tmp_path / "x.pth")
