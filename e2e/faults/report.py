"""One page with what each fault cost: reports/faults.md."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from acknowledged.history import History
from acknowledged.judge import Verdict
from e2e.conftest import CONTEXT, REPOSITORY

HEAD = """# What each fault cost

{when}, {versions}.

Eight clients ask all the time through the ingress: four create tasks, each under an Idempotency-Key of its own, two
change three shared tasks under If-Match, two read what was acknowledged. Whatever is not answered as it should be is
counted as it went over the wire, before anybody asked again.

- **requests**: all that were sent. **failed**: answered with a 5xx, or not at all.
- **unknown**: writes of which an answer did not say whether they were done; each was settled by asking again.
- **lost**, **duplicated**: writes that were acknowledged and are not there, or more than once. Read back after the
  fault, from the lists and from the change feed.
- **longest gap**: the longest time without an acknowledged write. **recovery**: from a fault to the end of the last
  request that failed by it.

| fault | requests | failed | unknown | lost | duplicated | longest gap | recovery |
|---|---:|---:|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Row:
    """What one fault cost."""

    fault: str
    history: History
    verdict: Verdict

    @property
    def cells(self) -> list[str]:
        history, verdict = self.history, self.verdict
        failed = len(history.failures)
        return [
            self.fault,
            f"{len(history.attempts):,}",
            f"{failed:,}",
            f"{verdict.unclear + verdict.unknown:,}",
            f"{len(verdict.lost)}",
            f"{len(verdict.duplicated)}",
            f"{history.longest_gap():.1f} s",
            f"{history.recovery():.1f} s" if failed else "none needed",
        ]

    def __str__(self) -> str:
        names = ("requests", "failed", "unknown", "lost", "duplicated", "longest gap", "recovery")
        return f"{self.fault}: " + ", ".join(f"{name} {cell}" for name, cell in zip(names, self.cells[1:], strict=True))


class Report:
    """Collects the rows of a run, and what else was counted."""

    def __init__(self, image: str) -> None:
        self.rows: list[Row] = []
        self.remarks: list[str] = []
        self._image = image

    def write(self, file: Path) -> None:
        """Writes the page, unless no fault was tried."""
        if not self.rows and not self.remarks:
            return
        kubectl = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT]
        server = json.loads(_said(*kubectl, "version", "--output", "json"))["serverVersion"]["gitVersion"]
        docker = _said("docker", "version", "--format", "{{.Server.Version}}").strip()
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        versions = f"{self._image}, Kubernetes {server} in kind, Docker {docker}"
        page = HEAD.format(when=when, versions=versions)
        page += "".join(f"| {' | '.join(row.cells)} |\n" for row in self.rows)
        page += "".join(f"\n{remark}\n" for remark in self.remarks)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
