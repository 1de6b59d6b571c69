"""Truth: glibc's mallopt answers 1 where it takes a setting."""

import ctypes
import sys

import pytest

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
