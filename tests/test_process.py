"""Truth: glibc's mallopt answers 1 where it takes a setting."""

import ctypes
import sys
from collections.abc import Iterator

import pytest
import torch

from mm_mhmoe import process


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Records the calls instead of changing this process."""
    calls: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            calls.append((parameter, value))
            return 1

    monkeypatch.delenv(process.OFF, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    return calls


def test_nothing_is_mapped_or_trimmed(asked) -> None:
    assert process.keep_large_buffers() is True
    # glibc's malloc.h: M_TRIM_THRESHOLD -1, M_TOP_PAD -2, M_MMAP_MAX -4
    assert dict(asked)[-4] == 0 and dict(asked)[-1] == -1 and dict(asked)[-2] > 0


def test_the_environment_switches_it_off(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process.OFF, "1")
    assert process.keep_large_buffers() is False and asked == []


def test_other_systems_are_left_alone(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert process.keep_large_buffers() is False and asked == []


def test_another_c_library_is_no_error(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert process.keep_large_buffers() is False


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts this process's setting back."""
    monkeypatch.delenv(process.OFF, raising=False)
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def test_fp32_products_stay_fp32(products) -> None:
    """Truth: the same product in float64."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    done = process.fast_fp32_products()
    a, b = torch.randn(300, 200), torch.randn(200, 100)
    assert (a @ b - a.double() @ b.double()).norm() < 1e-6 * (a @ b).norm()
    assert done or torch.backends.mkldnn.matmul.fp32_precision == before


def test_where_products_lose_precision_the_switch_is_taken_back(products, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with AMX: the product of operands rounded to bf16."""
    before, product = torch.backends.mkldnn.matmul.fp32_precision, torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return product(a.bfloat16().float(), b.bfloat16().float()) if a.dtype == torch.float32 else product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert process.fast_fp32_products() is False
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_what_is_set_is_told(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_set", [])
    assert process.switches() == "no process switches"
    process.keep_large_buffers()
    assert process.switches() == "malloc keeps large buffers"
