"""One page with what each fault cost: reports/faults.md."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from acknowledged.row import COLUMNS, Row
from e2e.cluster import CONTEXT, REPOSITORY

HEAD = """# What each fault cost

{when}, {versions}. Tests: {selection}.

Eight clients ask all the time, those of the cluster through the ingress: four create tasks, each under an
Idempotency-Key of its own, two change three shared tasks under If-Match, two read what was acknowledged. Whatever is
not answered as it should be is counted as it went over the wire, before anybody asked again.

- **promise**: kept, broken, or the trial did not end, so that nobody judged it.
- **requests**: all that were sent. **failed**: answered with another status than the API has for such a request, or not
  at all; a connection that is refused, too.
- **unknown**: writes of which an answer did not say whether they were done; each was settled by asking again.
- **lost**, **duplicated**: writes that were acknowledged and are not there, or more than once. **done though refused**:
  writes that are there, and their client was told that they are not. **wrong versions**: tasks whose versions are not
  1, 2, 3, …. All read back after the fault, from the lists and from the change feed.
- **longest gap**: the longest time without an acknowledged write. **recovery**: from a fault to the end of the last
  request that failed by it.

"""


class Report:
    """Collects the rows of a run, and what else was counted."""

    def __init__(self, image: str, selection: str) -> None:
        self.rows: list[Row] = []
        self.remarks: list[str] = []
        self._image = image
        self._selection = selection

    def write(self, file: Path) -> None:
        """Writes the page, unless no fault was tried."""
        if not self.rows and not self.remarks:
            return
        kubectl = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT]
        server = json.loads(_said(*kubectl, "version", "--output", "json"))["serverVersion"]["gitVersion"]
        docker = _said("docker", "version", "--format", "{{.Server.Version}}").strip()
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        versions = f"{self._image}, Kubernetes {server} in kind, Docker {docker}"
        page = HEAD.format(when=when, versions=versions, selection=self._selection)
        page += f"| {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * (len(COLUMNS) - 2)}\n"
        page += "".join(f"| {' | '.join(row.cells)} |\n" for row in self.rows)
        page += "".join(f"\n{remark}\n" for remark in self.remarks)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
