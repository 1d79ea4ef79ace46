"""Errors that every storage backend raises."""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The storage cannot be reached or opened; the message says which, why, and what to do."""


class StoreBusy(StoreUnavailable):
    """Too many requests are waiting for the storage to serve another one in time. Nothing was changed."""
