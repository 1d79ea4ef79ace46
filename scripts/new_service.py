"""Makes a second service out of the first: its skeleton as it is today, without what tasks are about, and a chart.

    python -m scripts.new_service NAME        (or: make new-service NAME=orders)

There are no templates that could grow old. Every file of the first service is copied and its names are replaced; left
out are what it is for (service.py, settings.py, tasks/, store/ and most tests), and what other files hold
between the markers `[domain]` and `[/domain]`. In their place comes a service that says hello and keeps nothing
(hello_service.py): it needs no database. Its chart (new_chart.py) has a line for each object of the library
platform/helm/service. Everything else of the kit finds services by their folders.

The raw manifests of platform/k8s/ are the first service's alone: they are written for reading, and one set is enough.
"""

from __future__ import annotations

import keyword
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.hello_service import HELLO_PY, LOCAL_ENV, SERVICE_PY, SETTINGS_PY, TEST_PY
from scripts.new_chart import LINKS, chart

ROOT = Path(__file__).resolve().parent.parent
FIRST, FIRST_PACKAGE = "task-api", "task_api"
PYTHON = ROOT / f"services/{FIRST}/.venv/bin/python"
LONGEST = 20  # with longer names lines of code and YAML would be longer than lint allows

DOMAIN = ("service.py", "settings.py", "store", "tasks")
TESTS = ("running.py", "test_openapi.py")
"""The tests that hold for any service. What the others say of the skeleton, they say while the first service has it."""

START, END, ALL = "[domain]", "[/domain]", "[domain: all of this file]"


class Refused(Exception):
    """Nothing was made, for the reason that the message gives."""


# --- names ----------------------------------------------------------------------------


def check(name: str) -> None:
    """Raises Refused unless the name can be that of folders, a Python package, a Service and a release."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > LONGEST or "--" in name:
        raise Refused(
            f"NAME={name} cannot be the name of a Service: take at most {LONGEST} small letters, digits and single "
            "hyphens, a letter first and no hyphen last, as in orders or order-items."
        )
    package = package_of(name)
    locked = {
        entry.split("==")[0] for entry in lock_entries((ROOT / f"services/{FIRST}/requirements-dev.txt").read_text())
    }
    ours = {Path(test).stem for test in (*TESTS, "conftest.py", "preloaded.py", "programs.py")} | {
        path.name for path in ROOT.glob("packages/*/src/*")
    }
    if package in sys.stdlib_module_names | ours or keyword.iskeyword(package) or name in locked or is_module(package):
        raise Refused(f"NAME={name} is the name of a Python module that the service would hide. Take another.")
    if name == "kubernetes":
        raise Refused(f"NAME={name} is the name of a Service that every cluster has. Take another.")
    for folder in (f"services/{name}", f"platform/helm/{name}"):
        if (ROOT / folder).exists():
            raise Refused(f"NAME={name} is taken: there is {folder}. Take another, or remove that one first.")


def is_module(package: str) -> bool:
    """Whether the first service's environment has one of this name: distributions are often called otherwise."""
    ask = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return subprocess.run([PYTHON, "-I", "-c", ask, package], check=False).returncode == 0


def package_of(name: str) -> str:
    return name.replace("-", "_")


def title_of(name: str) -> str:
    return " ".join(word.capitalize() for word in name.split("-"))


def replaced(text: str, names: dict[str, str]) -> str:
    """In one pass: a new name may contain an old one."""
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], text)


def renamed(text: str, name: str) -> str:
    """The text with the new service's names in the place of the first one's."""
    return replaced(
        text,
        {
            "Task Management API": f"{title_of(name)} API",
            "Task API": f"{title_of(name)} API",
            "TaskApi": title_of(name).replace(" ", ""),
            "TASKS_": package_of(name).upper() + "_",
            "TASK_API_": package_of(name).upper() + "_",
            FIRST: name,
            FIRST_PACKAGE: package_of(name),
            "/tasks": f"/{name}",
        },
    )


def without_domain(text: str) -> str:
    """The text without the lines from a marker to its end, the markers' own lines too; empty where all is marked."""
    kept: list[str] = []
    within = after = False
    for line in text.splitlines(keepends=True):
        if ALL in line:
            return ""
        if START in line:
            within = True
        elif END in line:
            within, after = False, True
        elif not within:
            if not (after and not line.strip() and not "".join(kept[-1:]).strip()):  # of two empty lines one is left
                kept.append(line)
            after = False
    if within:
        raise Refused(f"Nothing was made: a file of the first service has a {START} without {END}.")
    return "".join(kept).rstrip("\n") + "\n" if after else "".join(kept)


# --- the service ----------------------------------------------------------------------


def lock_entries(lock: str) -> list[str]:
    """What stands in a lock for each package."""
    return re.findall(r"^[a-z0-9].*\n(?:    .*\n)*", lock, re.MULTILINE)


def lock_packages(lock: str) -> set[str]:
    return {re.split(r"[=\[]", entry)[0] for entry in lock_entries(lock)}


def pruned(lock: str, left_out: set[str], constraints: set[str]) -> str:
    """The lock as `make lock` would write it without these packages, and without what they alone need.

    constraints: the packages of the lock that constrains this one, which notes it beside each that is in both.
    """
    entries = {}
    for entry in lock_entries(lock):
        package, needed_by = re.split(r"[=\[]", entry)[0], re.findall(r"^    #(?: via|  ) (\S.*)$", entry, re.MULTILINE)
        if package in left_out:
            needed_by = [by for by in needed_by if not by.startswith(f"{FIRST} (")]
        entries[package] = (entry.partition("    # via")[0], needed_by)
    gone: set[str] = set()
    while True:
        going = {
            package
            for package, (_, needed_by) in entries.items()
            if package not in gone and not [by for by in needed_by if by not in gone and not by.startswith("-c ")]
        }
        if not going:
            break
        gone |= going
    lines = [lock[: lock.index("==")].rpartition("\n")[0], "\n"]
    for package, (head, needed_by) in entries.items():
        left = [by for by in needed_by if by not in gone and (package in constraints or not by.startswith("-c "))]
        if package not in gone:
            via = f" {left[0]}" if len(left) == 1 else "".join(f"\n    #   {by}" for by in left)
            lines.append(f"{head}    # via{via}\n")
    return "".join(lines)


def domain_packages(pyproject: str) -> set[str]:
    marked = re.findall(rf"{re.escape(START)}\n(.*?){re.escape(END)}", pyproject, re.DOTALL)
    return {package for block in marked for package in re.findall(r'^  "([a-z0-9-]+)', block, re.MULTILINE)}


def service(name: str) -> Iterator[tuple[str, str]]:
    """The files of the new service, by their paths in its folder."""
    folder = ROOT / "services" / FIRST
    left_out = domain_packages((folder / "pyproject.toml").read_text())
    constraints = lock_packages(pruned((folder / "requirements.txt").read_text(), left_out, set()))
    for path, text in files(folder):
        parts = Path(path).parts
        if parts[:2] == ("src", FIRST_PACKAGE) and parts[2] in DOMAIN:
            continue
        if (parts[0] == "tests" and parts[1] not in TESTS) or path == "openapi.json":
            continue
        if path.startswith("requirements"):
            yield path, renamed(pruned(text, left_out, constraints), name)
        else:
            new = renamed(without_domain(text), name)
            if new:
                yield renamed(path, name), new
    for path, text in {
        "src/PACKAGE/service.py": SERVICE_PY,
        "src/PACKAGE/settings.py": SETTINGS_PY,
        "src/PACKAGE/hello.py": HELLO_PY,
        "tests/test_hello.py": TEST_PY,
        "local.env": LOCAL_ENV,
    }.items():
        names = {
            "PACKAGE": package_of(name),
            "PREFIX": package_of(name).upper(),
            "TITLE_": title_of(name),
            "CLASS_": title_of(name).replace(" ", ""),
            "NAME_": name,
        }
        yield replaced(path, names), replaced(text, names)


# --- both -----------------------------------------------------------------------------


def files(folder: Path) -> list[tuple[str, str]]:
    """Path and text of each file that git knows or would know."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [(path, (folder / path).read_text()) for path in sorted(set(listed)) if path and (folder / path).is_file()]


def make(name: str) -> None:
    """Makes both folders, or nothing."""
    check(name)
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".new-service-") as folder:
        made = {f"services/{name}": service(name), f"platform/helm/{name}": chart(name)}
        for target, contents in made.items():
            for path, text in contents:
                file = Path(folder, target, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        for link, leads_to in LINKS.items():
            file = Path(folder, f"platform/helm/{name}", link)
            file.parent.mkdir(exist_ok=True)
            file.symlink_to(leads_to)
        source = f"{folder}/services/{name}/src"
        environment = {"PYTHONPATH": f"{source}:{ROOT}/packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"}
        document = run(PYTHON, "-m", package_of(name), "openapi", environment=environment)
        Path(folder, f"services/{name}/openapi.json").write_text(document)
        try:
            for target in made:
                shutil.move(f"{folder}/{target}", ROOT / target)
            # Names of another length, and at another place in the alphabet, change how lines are broken and sorted.
            for arguments in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
                run(ROOT / ".venv/bin/ruff", *arguments, f"services/{name}")
        except BaseException:
            for target in made:  # neither was there before
                shutil.rmtree(ROOT / target, ignore_errors=True)
            raise


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """What the command prints; raises Refused with the last line of its errors."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Refused(f"Nothing was made: {' '.join(map(str, command))} failed: {last}")
    return done.stdout


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    name = sys.argv[1]
    try:
        make(name)
    except Refused as reason:
        print(reason, file=sys.stderr)
        return 1
    package = package_of(name)
    print(f"""Made services/{name}/ and platform/helm/{name}/. It says hello; put what it is for in the place of that:

  services/{name}/src/{package}/service.py  what the service is, and all that the chassis knows of it
  services/{name}/src/{package}/hello.py    the example route, and its tests in tests/test_hello.py

  Serve it        make run SERVICE={name}, then: curl '127.0.0.1:8000/v1/hello?name=you'
  Test it         make test lint
  Deploy it       make up: https://{name}.localhost:8443/docs
  After a change  of its API: make openapi; of its packages: make lock
  Remove it       rm -r services/{name} platform/helm/{name}, and where it was deployed: helm uninstall {name}""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
