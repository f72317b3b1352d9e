"""Real services that only some machines have: a test skips where one cannot be had, and fails in CI, which can have them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import pytest

from benchmarks.services import ServiceMissing

T = TypeVar("T")


@contextmanager
def or_skip(service: AbstractContextManager[T]) -> Iterator[T]:
    """Give what *service* gives, or skip the test with the reason why it is missing."""
    try:
        given = service.__enter__()
    except ServiceMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    try:
        yield given
    finally:
        service.__exit__(None, None, None)
