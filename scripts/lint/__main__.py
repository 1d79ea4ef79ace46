"""Runs all static checks, several at a time: `make lint`, by scripts/lint.sh.

    python -m scripts.lint SERVICE...

A check that passed is not repeated until one of its inputs changes: a file's content, or a version. Checks skipped for
lack of a tool are listed at the end; with REQUIRE_ALL=1 that is a failure.
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
from scripts.lint.check import Check, Failed, repository_files
from scripts.lint.checks import checks

PASSED = Path(".tools/lint.json")
"""The fingerprint of each check's last successful run."""

INSTALL = {
    "go": "needs Go, https://go.dev/dl/",
    "helm": "needs Go or Helm, https://helm.sh/docs/intro/install/",
}


def main() -> int:
    missing = {} if shutil.which("go") else {"go": INSTALL["go"]}
    failed = []
    if not missing and subprocess.run(["scripts/go-tools.sh"], check=False).returncode:
        failed = ["Go tools"]
        missing = {"go": "needs the Go tools, which failed to build"}
    if not shutil.which("helm"):
        missing["helm"] = missing.get("go", INSTALL["helm"]) if failed else INSTALL["helm"]

    with TemporaryDirectory() as work:
        contents = repository_files()
        selected = list(checks(sys.argv[1:], contents, Charts(Path(work), Path())))
        skipped = [f"{check.title}: {missing[check.needs]}" for check in selected if check.needs in missing]
        if "helm" in missing:
            skipped.append(f"Rendered charts in the manifest checks: {missing['helm']}")
        runnable = {check: check.fingerprint(contents) for check in selected if check.needs not in missing}
        failed += failures(runnable)

    print(f"\n{len(runnable) - len(failed)} checks passed, {len(failed)} failed, {len(skipped)} skipped")
    for reason in skipped:
        print(f"Skipped: {reason}")
    if failed:
        print(*(f"Failed: {title}" for title in failed), sep="\n", file=sys.stderr)
        print("Fix the errors above; `make fmt` fixes the formatting of Python", file=sys.stderr)
        return 1
    if skipped and os.environ.get("REQUIRE_ALL") == "1":
        print("REQUIRE_ALL=1: skipping is a failure", file=sys.stderr)
        return 1
    return 0


def failures(fingerprints: dict[Check, str]) -> list[str]:
    """Runs the checks whose fingerprints differ from those of their last successful run; returns the titles of those
    that fail."""
    last = read_passed()
    passed = {
        check.title: fingerprint for check, fingerprint in fingerprints.items() if last.get(check.title) == fingerprint
    }
    for title in passed:
        print(f"{title:<60}ok, unchanged")
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(seconds, check): check for check in fingerprints if check.title not in passed}
        for future in as_completed(running):
            check = running[future]
            try:
                print(f"{check.title:<60}ok {future.result():4.0f} s", flush=True)
            except Failed as error:
                print(f"{check.title:<60}FAILED\n{textwrap.indent(str(error), '    ')}", flush=True)
                failed.append(check.title)
            else:
                passed[check.title] = fingerprints[check]
                write_passed(passed)
    return failed


def seconds(check: Check) -> float:
    start = time.monotonic()
    check()
    return time.monotonic() - start


def read_passed() -> dict[str, str]:
    with suppress(OSError, ValueError):  # first run, or a truncated file
        return dict(json.loads(PASSED.read_text()))
    return {}


def write_passed(passed: dict[str, str]) -> None:
    new = PASSED.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(passed, indent=2))
    new.replace(PASSED)


if __name__ == "__main__":
    sys.exit(main())
