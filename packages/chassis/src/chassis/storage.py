"""Errors that every storage backend raises."""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The storage cannot be reached or opened; the message says which, why, and what to do."""


class StoreBusy(StoreUnavailable):
    """Other requests keep the storage from serving this one in time. Nothing was changed."""
