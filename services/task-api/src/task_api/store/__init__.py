"""Where tasks are kept: one protocol, three kinds of storage, chosen by a URL."""

from task_api.store.postgres import Limits
from task_api.store.protocol import (
    ANSWER_HOURS,
    Answer,
    ChangesPurged,
    KeyInUse,
    Store,
    StoreBusy,
    StoredChange,
    StoreUnavailable,
    VersionConflict,
    Write,
    WrongPosition,
)
from task_api.store.url import check_url, from_url

__all__ = [
    "ANSWER_HOURS",
    "Answer",
    "ChangesPurged",
    "KeyInUse",
    "Limits",
    "Store",
    "StoreBusy",
    "StoreUnavailable",
    "StoredChange",
    "VersionConflict",
    "Write",
    "WrongPosition",
    "check_url",
    "from_url",
]
