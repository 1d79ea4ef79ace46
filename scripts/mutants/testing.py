"""A copy of the repository in which mutants are tested, and a PostgreSQL for its tests."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import count
from pathlib import Path

from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome
from scripts.mutants.projects import ROOT, Module

MARK = "MUTANT_TESTED_BY"
"""Variable in the environment of all processes of a test run."""
ENVIRONMENTS = (".venv", ".tools", "packages/*/.venv", "services/*/.venv")
SERVER = """
import sys, databases
with databases.running_postgres() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


class Outcome(Enum):
    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"


class TestsFailed(Exception):
    """The tests of an unchanged module fail, so they say nothing about its mutants."""


@contextmanager
def repository_copy() -> Iterator[Path]:
    """A copy with uncommitted changes, and links to the environments. A mutant is never in the working tree."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name).resolve()
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        for file in filter(None, files):
            if (ROOT / file).is_file() or (ROOT / file).is_symlink():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file, follow_symlinks=False)
        for pattern in ENVIRONMENTS:
            for environment in ROOT.glob(pattern):
                with suppress(FileExistsError):  # itself a link, which Git lists
                    (folder / environment.relative_to(ROOT)).symlink_to(environment)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        yield folder


@contextmanager
def postgresql(folder: Path, project: Path) -> Iterator[None]:
    """One server for all runs: starting one takes longer than most of them."""
    chassis = folder / "packages/chassis"
    server = subprocess.Popen(
        [folder / project / ".venv/bin/python", "-c", SERVER],
        env={**os.environ, "PYTHONPATH": f"{chassis / 'testing'}:{chassis / 'src'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        if not url:
            raise TestsFailed("PostgreSQL does not start: see above. Is Docker running?")
        os.environ["TEST_POSTGRES_URL"] = url
        yield
    finally:
        os.environ.pop("TEST_POSTGRES_URL", None)
        server.communicate()  # closes its input, which ends it


class Tests:
    """The tests nearest to a module, in a copy of the repository."""

    def __init__(self, folder: Path, module: Module) -> None:
        self._file = folder / module.path
        self._folder = folder / module.project
        # What kills one mutant often kills the next: the last tests that failed come first.
        pytest = ["-m", "pytest", "--quiet", "--exitfirst", "--failed-first"]
        self._command = [str(self._folder / ".venv/bin/python"), *pytest, *module.tests]
        self._times = count(1)
        self.seconds = 0.0

    def check(self) -> None:
        """Runs them without a mutant. Raises TestsFailed."""
        start = time.monotonic()
        done = subprocess.run(self._command, cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TestsFailed(done.stdout + done.stderr)
        self.seconds = time.monotonic() - start

    def run(self, source: str) -> Outcome:
        """Runs them with this source in the module's place."""
        original = self._file.read_bytes()
        mark = f"{MARK}={os.getpid()}-{next(self._times)}"
        self._write(source.encode())
        try:
            os.environ[MARK] = mark.partition("=")[2]
            command = shlex.join(["bash", "-c", 'cd "$0" && exec "$@"', str(self._folder), *self._command])
            outcome, output = run_tests(command, timeout=5 + 3 * self.seconds)
        finally:
            _kill_all(mark)
            self._write(original)
        if outcome is TestOutcome.SURVIVED:
            return Outcome.SURVIVED
        return Outcome.TIMED_OUT if output == "timeout" else Outcome.KILLED

    def _write(self, source: bytes) -> None:
        self._file.write_bytes(source)
        # Bytecode is valid for a file's size and its mtime in seconds, and mutants are written faster.
        os.utime(self._file, (next(self._times),) * 2)


def _kill_all(mark: str) -> None:
    """Kills what a run has left that timed out or was cancelled: services are in process groups of their own. Does
    nothing on macOS, which has no /proc."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
