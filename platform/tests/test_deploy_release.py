"""Which revision a failed deploy rolls back to, and when a pending one counts as stale (scripts/deploy/release.py)."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from scripts.deploy import release
from scripts.deploy.release import Revision, last_good, stale_pending_revision
from scripts.deploy.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def revision(number: int, status: str, *, held: bool = False, verified: bool = True) -> Revision:
    return Revision(number, status, NOW, "", f"commit-{number}", held, verified)


@pytest.mark.parametrize(
    ("revisions", "number"),
    [
        # The newest one that ran.
        ([revision(1, "superseded"), revision(2, "superseded"), revision(3, "failed")], 2),
        # The one that Helm says serves, even if it is older than others that ran.
        ([revision(1, "deployed"), revision(2, "superseded"), revision(3, "failed")], 1),
        # A verified one, even if it is older.
        ([revision(1, "superseded"), revision(2, "deployed", verified=False)], 1),
        # One that is not held, even if it is not verified.
        ([revision(1, "superseded", verified=False), revision(2, "deployed", held=True)], 1),
        # A held or unverified one is better than none.
        ([revision(1, "deployed", held=True), revision(2, "failed")], 1),
        ([revision(1, "deployed", verified=False), revision(2, "failed")], 1),
        ([revision(1, "failed"), revision(2, "pending-upgrade")], None),
        ([], None),
    ],
)
def test_target_of_a_rollback_after_a_failure(revisions: list[Revision], number: int | None) -> None:
    good = last_good(revisions)
    assert (good.number if good else None) == number


class Waiting:
    """A pending revision in simulated time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
        """ahead: seconds by which the clock that wrote the revision is ahead."""
        self.now = 1000.0
        self.reads: list[float] = []
        self.revisions = [dataclasses.replace(revision(2, "pending-upgrade"), updated=NOW + timedelta(seconds=ahead))]
        self.ends_after = float("inf")

        class Clock(datetime):
            @classmethod
            def now(cls, *_: object) -> Clock:
                moment = NOW + timedelta(seconds=waiting.now - 1000)
                return cls.fromtimestamp(moment.timestamp(), UTC)

        class Time:
            monotonic = staticmethod(lambda: self.now)

        waiting = self
        monkeypatch.setattr(release, "datetime", Clock)
        monkeypatch.setattr(release, "time", Time)
        monkeypatch.setattr(release, "wait", self._wait)
        monkeypatch.setattr(release, "history", self._history)

    def _wait(self, seconds: float) -> None:
        self.now += seconds

    def _history(self, _: Settings) -> list[Revision]:
        self.reads.append(self.now - 1000)
        assert len(self.reads) < 1000, "it does not wait between two reads"
        if self.now - 1000 >= self.ends_after:
            return [revision(2, "failed")]
        return self.revisions


def settings(settle_age: int) -> Settings:
    return dataclasses.replace(Settings.from_env("task-api", ""), settle_age=settle_age)


@pytest.mark.parametrize(("ahead", "stale_after"), [(0, 25), (-10, 15), (-25, 0), (3600, 25)])
def test_pending_revision_is_stale_at_the_age_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, ahead: float, stale_after: float
) -> None:
    """By the writer's clock, but not later than by this machine's: the writer's may be ahead."""
    waiting = Waiting(monkeypatch, ahead)
    assert stale_pending_revision(settings(25)) == waiting.revisions[0]
    assert waiting.reads == list(range(int(stale_after) + 1))  # once per second


def test_waiting_for_another_deploy_is_reported_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Waiting(monkeypatch, ahead=0).ends_after = 25
    assert stale_pending_revision(settings(600)) is None
    assert capsys.readouterr().out.splitlines() == [
        f"Revision 2 has been pending-upgrade for {seconds} s: another deploy may be running. "
        "After 600 s it counts as stale."
        for seconds in (0, 10, 20)
    ]
