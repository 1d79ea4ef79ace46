"""Checks everything that can be checked by reading it, several at a time: `make lint`, by scripts/lint.sh.

    python -m scripts.lint SERVICE...

A check that passed is not run again until something changes that it reads: a file, by its content, or a version.
What is left out for want of a tool is said at the end; with REQUIRE_ALL=1 that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.lint.charts import Charts
from scripts.lint.check import Check, Failed, our_files
from scripts.lint.checks import checks

PASSED = Path(".tools/lint.json")
"""The fingerprint with which each check was last green."""

INSTALL = {
    "go": "needs Go, https://go.dev/dl/",
    "helm": "needs Go or Helm, https://helm.sh/docs/intro/install/",
}


def main() -> int:
    missing = {} if shutil.which("go") else {"go": INSTALL["go"]}
    failed = []
    if not missing and subprocess.run(["scripts/go-tools.sh"], check=False).returncode:
        failed = ["Go tools"]
        missing = {"go": "needs the Go tools, which were not built"}
    if not shutil.which("helm"):
        missing["helm"] = missing.get("go", INSTALL["helm"]) if failed else INSTALL["helm"]

    with TemporaryDirectory() as work:
        contents = our_files()
        wanted = list(checks(sys.argv[1:], contents, Charts(Path(work), Path())))
        left_out = [f"{check.title}: {missing[check.needs]}" for check in wanted if check.needs in missing]
        if "helm" in missing:
            left_out.append(f"The rendered charts in the checks of manifests: {missing['helm']}")
        runnable = {check: check.fingerprint(contents) for check in wanted if check.needs not in missing}
        failed += failures(runnable)

    print(f"\n{len(runnable) - len(failed)} checks passed, {len(failed)} failed, {len(left_out)} left out")
    for what in left_out:
        print(f"Left out: {what}")
    if failed:
        print(*(f"Failed: {title}" for title in failed), sep="\n", file=sys.stderr)
        print("Next: mend them; the format of Python is mended by: make fmt", file=sys.stderr)
        return 1
    if left_out and os.environ.get("REQUIRE_ALL") == "1":
        print("REQUIRE_ALL=1: nothing may be left out", file=sys.stderr)
        return 1
    return 0


def failures(wanted: dict[Check, str]) -> list[str]:
    """Runs the checks whose fingerprints are not those of the last green run; returns the titles of those that fail."""
    last = read_passed()
    passed = {check.title: mark for check, mark in wanted.items() if last.get(check.title) == mark}
    for title in passed:
        print(f"{title:<60}ok, unchanged")
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(seconds, check): check for check in wanted if check.title not in passed}
        for done in as_completed(running):
            check = running[done]
            try:
                print(f"{check.title:<60}ok {done.result():4.0f} s", flush=True)
            except Failed as error:
                print(f"{check.title:<60}FAILED\n{textwrap.indent(str(error), '    ')}", flush=True)
                failed.append(check.title)
            else:
                passed[check.title] = wanted[check]
                write_passed(passed)
    return failed


def seconds(check: Check) -> float:
    start = time.monotonic()
    check()
    return time.monotonic() - start


def read_passed() -> dict[str, str]:
    with suppress(OSError, ValueError):  # the first run, or one that was cut short
        return dict(json.loads(PASSED.read_text()))
    return {}


def write_passed(passed: dict[str, str]) -> None:
    new = PASSED.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(passed, indent=2))
    new.replace(PASSED)


if __name__ == "__main__":
    sys.exit(main())
