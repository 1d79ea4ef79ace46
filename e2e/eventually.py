"""Polls a condition, with a timeout."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def eventually(poll: Callable[[], T | None], what: str, *, seconds: float = 120) -> T:
    """The result of `poll` once it is neither None nor False; fails with `what` on timeout."""
    deadline = time.monotonic() + seconds
    while True:
        result = poll()
        if result is not None and result is not False:
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)
