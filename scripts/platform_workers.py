"""How scripts/test-platform.sh distributes tests to the workers of pytest-xdist.

A plugin rather than a conftest.py: pytest would import that as platform.tests.conftest, which hides the standard module
platform from xdist.
"""

from __future__ import annotations

import hashlib
import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class BySharedFixtures(LoadScopeScheduling):
    """Schedules each test on the next free worker, but all tests of a file with shared fixtures on the same one.

    Those fixtures copy the repository or start PostgreSQL, and each worker would set them up again.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if 'scope="module"' in (self.config.rootpath / file).read_text() else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> BySharedFixtures:
    return BySharedFixtures(config, log)


@pytest.hookimpl(tryfirst=True)  # xdist, which is loaded after this, has its own
def pytest_xdist_auto_num_workers() -> int:
    """Three more than processors, since the deployer's tests wait: on two processors that took a third off the time."""
    return (os.cpu_count() or 1) + 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffles the tests, in the same way in all workers: otherwise those that wait would run at the same time."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: hashlib.sha256(item.nodeid.encode()).digest())
