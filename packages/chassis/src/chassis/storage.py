"""How any kind of storage says that it cannot do what it was asked for."""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The storage cannot be reached or opened; the message says which one, why, and what to do."""


class StoreBusy(StoreUnavailable):
    """So many requests wait for the storage that one more would not be served in time. Nothing was changed."""
