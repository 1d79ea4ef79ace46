"""Where tasks are kept: one protocol, three kinds of storage, chosen by a URL."""

from task_api.store.protocol import Store, StoreUnavailable
from task_api.store.url import check_url, from_url

__all__ = ["Store", "StoreUnavailable", "check_url", "from_url"]
