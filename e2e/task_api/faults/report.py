"""The report of all faults and their effects: reports/faults.md."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from acknowledged.row import COLUMNS, Row
from e2e.cluster import CONTEXT, REPOSITORY

HEAD = """# Effect of each fault

{when}, {versions}. Tests: {selection}.

Eight clients send requests continuously, in the cluster through the ingress: four create tasks, each with its own
Idempotency-Key, two update three shared tasks with If-Match, two read acknowledged tasks. Every unexpected response
is counted as received, before any retry.

- **guarantee**: held, violated, or incomplete: the trial did not complete and was not evaluated.
- **requests**: all requests sent. **failed**: a status that the API does not define for such a request, or no response,
  including refused connections.
- **unknown**: writes whose response did not tell whether they were applied; each was resolved by a retry.
- **lost**, **duplicated**: acknowledged writes that are missing, or present more than once. **applied though
  rejected**: writes that are present, though their client received an error. **wrong versions**: tasks whose versions
  are not 1, 2, 3, …. All read back after the fault, from the lists and from the change feed.
- **longest gap**: the longest time without an acknowledged write. **recovery**: from a fault to the end of the last
  request that failed because of it.

"""


class Report:
    """Collects the rows and remarks of a run."""

    def __init__(self, image: str, selection: str) -> None:
        self.rows: list[Row] = []
        self.remarks: list[str] = []
        self._image = image
        self._selection = selection

    def write(self, file: Path) -> None:
        """Writes the report, unless no fault was injected."""
        if not self.rows and not self.remarks:
            return
        kubectl = ["kubectl", "--kubeconfig", str(REPOSITORY / ".kube/config"), "--context", CONTEXT]
        server = json.loads(_output(*kubectl, "version", "--output", "json"))["serverVersion"]["gitVersion"]
        docker = _output("docker", "version", "--format", "{{.Server.Version}}").strip()
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        versions = f"{self._image}, Kubernetes {server} in kind, Docker {docker}"
        page = HEAD.format(when=when, versions=versions, selection=self._selection)
        page += f"| {' | '.join(COLUMNS)} |\n|---|---|{'---:|' * (len(COLUMNS) - 2)}\n"
        page += "".join(f"| {' | '.join(row.cells)} |\n" for row in self.rows)
        page += "".join(f"\n{remark}\n" for remark in self.remarks)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
