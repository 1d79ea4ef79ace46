"""The service as of this tree, or as of an earlier commit to compare it with."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.machine import ROOT, SERVICE_PATH, SERVICE_PYTHON, BenchmarkError, run

REQUIREMENTS = "services/task-api/requirements.txt"
ENVIRONMENT = ".tools/bench-before"


@dataclass(frozen=True)
class Build:
    """A runnable service. path: its PYTHONPATH."""

    python: Path
    path: str

    def command(self, port: str) -> tuple[str | Path, ...]:
        """Starts it as the image does."""
        return self.python, "-m", "task_api", "serve", "--port", port


CURRENT = Build(SERVICE_PYTHON, SERVICE_PATH)


@contextlib.contextmanager
def earlier(revision: str) -> Iterator[tuple[str, Build]]:
    """That commit and its service, for the duration of the block. It has its own environment if its locked packages
    differ from this tree's."""
    try:
        commit = run("git", "describe", "--always", revision).strip()
    except BenchmarkError as error:
        raise BenchmarkError(
            f"{revision} is not in this clone: git fetch --unshallow, or choose another with BEFORE=\n{error}"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        sources = [f"{folder}/{source}" for source in SERVICE_PATH.split(":")]
        run("sh", "-c", f"git archive {commit} {SERVICE_PATH.replace(':', ' ')} {REQUIREMENTS} | tar -x -C {folder}")
        python = SERVICE_PYTHON
        requirements = Path(folder) / REQUIREMENTS
        if requirements.read_bytes() != (ROOT / REQUIREMENTS).read_bytes():
            run("scripts/install.sh", ENVIRONMENT, requirements, f"{ENVIRONMENT}/bench.stamp")
            python = ROOT / ENVIRONMENT / "bin/python"
        yield commit, Build(python, ":".join(sources))
