"""The maximum size of a page.

200 tasks of the maximum size are 8 MB: with a hundred slow readers that is more memory than a pod has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

MAX_PAGE_BYTES = 1024 * 1024

Item = TypeVar("Item")


def fit_page(items: Sequence[Item], write: Callable[[Sequence[Item]], bytes]) -> bytes:
    """A page with as many of the items as fit, at least one.

    write: serializes a page of the given items, which are the first ones or all.
    """
    while len(content := write(items)) > MAX_PAGE_BYTES and len(items) > 1:
        items = items[: max(1, len(items) * MAX_PAGE_BYTES // len(content))]
    return content
