"""Purges expired data: deleted tasks and changes after UNDELETE_DAYS, idempotency records after IDEMPOTENCY_HOURS."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from random import SystemRandom

from task_api.store import IDEMPOTENCY_HOURS, Store, StoreUnavailable
from task_api.tasks import rules
from task_api.tasks.models import UNDELETE_DAYS

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0


async def purge(store: Store, *, now: datetime) -> int:
    """Purges once; returns the number of tasks removed. Safe to run concurrently in several pods."""
    return await store.purge(
        deleted_before=rules.purge_cutoff(now), records_before=now - timedelta(hours=IDEMPOTENCY_HOURS)
    )


async def purge_periodically(store: Store) -> None:
    """Purges about hourly until cancelled, at a random minute in each pod."""
    while True:
        await asyncio.sleep(EVERY_SECONDS * SystemRandom().uniform(0.5, 1.0))
        try:
            removed = await purge(store, now=datetime.now(UTC))
        except StoreUnavailable as error:
            log.warning("Purge failed, next attempt within an hour: %s", error)
        except Exception:
            log.exception("Purge failed, next attempt within an hour")
        else:
            log.info("Purged %d tasks deleted more than %d days ago", removed, UNDELETE_DAYS)
