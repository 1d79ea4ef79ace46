"""How large a page may be.

200 tasks as large as tasks can be are 8 MB: a hundred clients that read them slowly would take more memory than a pod
has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

MAX_PAGE_BYTES = 1024 * 1024

Item = TypeVar("Item")


def fitting(items: Sequence[Item], write: Callable[[Sequence[Item]], bytes]) -> bytes:
    """The page of as many of the items as there is room for, and of one at least.

    write: makes the page of some of them, of the first or of all.
    """
    while len(content := write(items)) > MAX_PAGE_BYTES and len(items) > 1:
        items = items[: max(1, len(items) * MAX_PAGE_BYTES // len(content))]
    return content
