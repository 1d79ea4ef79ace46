"""Makes a service and its chart: a copy of a skeleton under another name.

    python -m scripts.new_service NAME [--database postgresql]
    (or: make new-service NAME=orders DATABASE=postgresql)

The skeletons, in skeletons/, are services that are linted and tested where they stand. What is copied is renamed, and
nothing else: `your-service` in its five forms, and the paths that lead out of the folder. Everything else of the kit
finds services by their folders.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKELETONS = {"": ROOT / "skeletons/plain", "postgresql": ROOT / "skeletons/postgresql"}
"""By the database that a service of it has."""
CHASSIS = ROOT / "packages/chassis"
LONGEST = 20  # with longer names lines of code and YAML would be longer than lint allows

LEFT_BEHIND = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", ".DS_Store", ".*.swp", "*~")
"""What tools and editors put beside a skeleton's files."""


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
    package = name.replace("-", "_")
    if package in modules() or keyword.iskeyword(package) or name in locked_packages() or is_installed(package):
        raise Refused(f"NAME={name} is the name of a Python module that the service would hide. Take another.")
    if name == "kubernetes":
        raise Refused(f"NAME={name} is the name of a Service that every cluster has. Take another.")
    for folder in (f"services/{name}", f"platform/helm/{name}"):
        if (ROOT / folder).exists():
            raise Refused(f"NAME={name} is taken: there is {folder}. Take another, or remove that one first.")


def modules() -> set[str]:
    """What is imported by these names already: by Python, by the chassis, by the tests of a service."""
    tests = [*CHASSIS.glob("testing/*.py"), *ROOT.glob("skeletons/*/service/tests/*.py"), Path("conftest.py")]
    return {*sys.stdlib_module_names, *(path.stem for path in [*tests, *ROOT.glob("packages/*/src/*")])}


def locked_packages() -> set[str]:
    """The Python packages that a service may have, as an index calls them."""
    locks = [lock.read_text() for lock in ROOT.glob("skeletons/*/service/requirements-dev.txt")]
    return {package for lock in locks for package in re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)}


def is_installed(package: str) -> bool:
    """Whether the chassis' environment, which has all of these packages, has a module of this name."""
    ask = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    python = CHASSIS / ".venv/bin/python"
    return subprocess.run([python, "-I", "-c", ask, package], check=False).returncode == 0


def forms(name: str) -> dict[str, str]:
    """The five forms of the skeletons' name, and what stands in the place of each."""
    words = name.split("-")
    return {
        "your-service": name,
        "your_service": "_".join(words),
        "YOUR_SERVICE": "_".join(words).upper(),
        "YourService": "".join(word.capitalize() for word in words),
        "Your Service": " ".join(word.capitalize() for word in words),
    }


def replaced(text: str, names: dict[str, str]) -> str:
    """In one pass: a new name may contain an old one."""
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], text)


# --- files ----------------------------------------------------------------------------


def copy(skeleton: Path, folder: Path, target: Path, names: dict[str, str]) -> None:
    """Copies the skeleton to the folder, as it will be at target: under the new names, and with its ways out right."""
    shutil.copytree(skeleton, folder, symlinks=True, ignore=LEFT_BEHIND)
    ways_out = {way_out(skeleton, path): way_out(target, path) for path in (CHASSIS.parent, ROOT / "platform/helm")}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_symlink():
            leads_to = (skeleton / path.relative_to(folder)).resolve()
            path.unlink()
            path.symlink_to(way_out((target / path.relative_to(folder)).parent, leads_to))
        elif path.is_file():
            path.write_text(replaced(path.read_text(), names | ways_out))
        path.rename(path.with_name(replaced(path.name, names)))


def way_out(folder: Path, path: Path) -> str:
    return os.path.relpath(path, folder)


def make(name: str, database: str) -> None:
    """Makes both folders, or nothing."""
    if database not in SKELETONS:
        known = " and ".join(filter(None, SKELETONS))
        raise Refused(f"DATABASE={database} is none that a skeleton has: take {known}, or leave DATABASE out.")
    check(name)
    parts = {"service": ROOT / "services" / name, "chart": ROOT / "platform/helm" / name}
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".new-service-") as folder:
        for part, target in parts.items():
            copy(SKELETONS[database] / part, Path(folder, part), target, forms(name))
        try:
            for part, target in parts.items():
                target.parent.mkdir(exist_ok=True)
                shutil.move(Path(folder, part), target)
            # Names of another length, and at another place in the alphabet, change how lines are broken and sorted.
            for arguments in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
                run(ROOT / ".venv/bin/ruff", *arguments, parts["service"])
        except BaseException:
            for target in parts.values():  # neither was there before
                shutil.rmtree(target, ignore_errors=True)
            raise


def run(*command: str | Path) -> None:
    """Raises Refused with the last line of the command's errors."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Refused(f"Nothing was made: {' '.join(map(str, command))} failed: {last}")


EXAMPLES = {
    "": (
        "hello.py",
        "the example route, and its tests in tests/test_hello.py",
        "curl '127.0.0.1:8000/v1/hello?name=you'",
    ),
    "postgresql": (
        "notes.py",
        "the example routes; store.py keeps what they take, tests/test_notes.py tests both",
        'curl --json \'{"text": "Milk"}\' 127.0.0.1:8000/v1/notes',
    ),
}
"""By the database: the file with the routes, what it is, and what to ask a service for that runs."""


def main(arguments: list[str]) -> int:
    match arguments:
        case [name]:
            database = ""
        case [name, "--database", database]:
            pass
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    try:
        make(name, database)
    except Refused as reason:
        print(reason, file=sys.stderr)
        return 1
    package = name.replace("-", "_")
    file, what, ask = EXAMPLES[database]
    print(f"""Made services/{name}/ and platform/helm/{name}/, an example. Put what it is for in the place of that:

  services/{name}/src/{package}/service.py  what the service is, and all that the chassis knows of it
  services/{name}/src/{package}/{file}  {what}

  Serve it        make run SERVICE={name}, then: {ask}
  Test it         make test lint
  Deploy it       make up: https://{name}.localhost:8443/docs
  After a change  of its API: make openapi; of its packages: make lock
  Remove it       make remove-service NAME={name}, and where it was deployed: helm uninstall {name}""")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
