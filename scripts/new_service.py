"""Creates a service and its chart from a skeleton.

    python -m scripts.new_service NAME [--database postgresql]
    (or: make new-service NAME=orders DATABASE=postgresql)

The skeletons, in skeletons/, are working services that are linted and tested in place. A copy is only renamed:
`your-service` in its five forms, and relative paths out of the folder. Everything else in the kit discovers services by
their folders.
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
"""By database."""
CHASSIS = ROOT / "packages/chassis"
LONGEST = 20  # longer names would exceed the line length allowed by lint

LEFT_BEHIND = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", ".DS_Store", ".*.swp", "*~")
"""Files that tools and editors leave in a skeleton's folder."""


class Refused(Exception):
    """Nothing was created, for the reason in the message."""


# --- names ----------------------------------------------------------------------------


def check(name: str) -> None:
    """Raises Refused unless the name is valid for folders, a Python package, a Service and a release."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > LONGEST or "--" in name:
        raise Refused(
            f"NAME={name} is not a valid Service name: use at most {LONGEST} lowercase letters, digits and single "
            "hyphens, starting with a letter and not ending with a hyphen, as in orders or order-items."
        )
    package = name.replace("-", "_")
    if package in modules() or keyword.iskeyword(package) or name in locked_packages() or is_installed(package):
        raise Refused(f"NAME={name} is the name of a Python module, which the service would shadow. Use another name.")
    if name == "kubernetes":
        raise Refused(f"NAME={name} is the name of a Service that exists in every cluster. Use another name.")
    for folder in (f"services/{name}", f"platform/helm/{name}"):
        if (ROOT / folder).exists():
            raise Refused(f"NAME={name} is in use: {folder} exists. Use another name, or remove that service first.")


def modules() -> set[str]:
    """Names that are already imported: from Python, by the chassis, by a service's tests."""
    tests = [*CHASSIS.glob("testing/*.py"), *ROOT.glob("skeletons/*/service/tests/*.py"), Path("conftest.py")]
    return {*sys.stdlib_module_names, *(path.stem for path in [*tests, *ROOT.glob("packages/*/src/*")])}


def locked_packages() -> set[str]:
    """The Python packages that a service may install, by their index names."""
    locks = [lock.read_text() for lock in ROOT.glob("skeletons/*/service/requirements-dev.txt")]
    return {package for lock in locks for package in re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)}


def is_installed(package: str) -> bool:
    """Whether the chassis' environment, which has all of these packages, has a module of this name."""
    find_module = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    python = CHASSIS / ".venv/bin/python"
    return subprocess.run([python, "-I", "-c", find_module, package], check=False).returncode == 0


def forms(name: str) -> dict[str, str]:
    """The five forms of the skeletons' name, and the replacement of each."""
    words = name.split("-")
    return {
        "your-service": name,
        "your_service": "_".join(words),
        "YOUR_SERVICE": "_".join(words).upper(),
        "YourService": "".join(word.capitalize() for word in words),
        "Your Service": " ".join(word.capitalize() for word in words),
    }


def substitute(text: str, names: dict[str, str]) -> str:
    """In a single pass: a new name may contain an old one."""
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], text)


# --- files ----------------------------------------------------------------------------


def copy(skeleton: Path, folder: Path, target: Path, names: dict[str, str]) -> None:
    """Copies the skeleton to the folder, as it will be at target: with the new names, and correct relative paths."""
    shutil.copytree(skeleton, folder, symlinks=True, ignore=LEFT_BEHIND)
    relative_paths = {
        relative_path(skeleton, path): relative_path(target, path) for path in (CHASSIS.parent, ROOT / "platform/helm")
    }
    for path in sorted(folder.rglob("*"), reverse=True):  # a folder's contents before the folder
        if path.is_symlink():
            link_target = (skeleton / path.relative_to(folder)).resolve()
            path.unlink()
            path.symlink_to(relative_path((target / path.relative_to(folder)).parent, link_target))
        elif path.is_file():
            path.write_text(substitute(path.read_text(), names | relative_paths))
        path.rename(path.with_name(substitute(path.name, names)))


def relative_path(folder: Path, path: Path) -> str:
    return os.path.relpath(path, folder)


def create(name: str, database: str) -> None:
    """Creates both folders, or nothing."""
    if database not in SKELETONS:
        available = " and ".join(filter(None, SKELETONS))
        raise Refused(f"No skeleton for DATABASE={database}: use {available}, or omit DATABASE.")
    check(name)
    parts = {"service": ROOT / "services" / name, "chart": ROOT / "platform/helm" / name}
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".new-service-") as folder:
        for part, target in parts.items():
            copy(SKELETONS[database] / part, Path(folder, part), target, forms(name))
        try:
            for part, target in parts.items():
                target.parent.mkdir(exist_ok=True)
                shutil.move(Path(folder, part), target)
            # Different name lengths and sort positions change line breaks and import order.
            for arguments in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
                run(ROOT / ".venv/bin/ruff", *arguments, parts["service"])
        except BaseException:
            for target in parts.values():  # neither existed before
                shutil.rmtree(target, ignore_errors=True)
            raise


def run(*command: str | Path) -> None:
    """Raises Refused with the last line of the command's errors."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise Refused(f"Nothing was created: {' '.join(map(str, command))} failed: {last}")


EXAMPLES = {
    "": (
        "hello.py",
        "the example route, and its tests in tests/test_hello.py",
        "curl '127.0.0.1:8000/v1/hello?name=you'",
    ),
    "postgresql": (
        "notes.py",
        "the example routes; store.py stores their data, tests/test_notes.py tests both",
        'curl --json \'{"text": "Milk"}\' 127.0.0.1:8000/v1/notes',
    ),
}
"""By database: the file with the routes, its description, and an example request."""


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
        create(name, database)
    except Refused as reason:
        print(reason, file=sys.stderr)
        return 1
    package = name.replace("-", "_")
    file, description, request = EXAMPLES[database]
    print(f"""Created services/{name}/ and platform/helm/{name}/ with example code to replace:

  services/{name}/src/{package}/service.py  the service's definition for the chassis
  services/{name}/src/{package}/{file}  {description}

  Run             make run SERVICE={name}, then: {request}
  Test            make test lint
  Deploy          make up: https://{name}.localhost:8443/docs
  After changes   to its API: make openapi; to its packages: make lock
  Remove          make remove-service NAME={name}, and where it was deployed: helm uninstall {name}""")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
