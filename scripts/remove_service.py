"""Removes a service with all that is its own: its code, its chart, and the tests of them.

    python -m scripts.remove_service NAME        (or: make remove-service NAME=task-api)

What is a service's own is in folders of its name: that is what goes. With the first one, which the kit came with, goes
what else is about tasks (OF_THE_FIRST), and where one service has to be named, another one is (NAMING).

Nothing is lost: what Git does not have is not removed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST = "task-api"

OF_THE_FIRST = (
    "platform/k8s",  # its manifests without Helm
    "bench",  # how fast it is
    "scripts/bench.sh",
    "scripts/bench-loop.sh",
    ".tools/bench",
    ".tools/bench-go",
)
"""What is about tasks alone beside the folders of the service."""

NAMING = (
    ".github/CODEOWNERS",
    ".github/workflows/ci-cd.yml",
    ".github/workflows/rollback.yml",
    "CONTRIBUTING.md",
    "Dockerfile",
    "Tiltfile",
    "platform/cluster/secrets.sh",
    "platform/deployer/role.yaml",
    "scripts/default-service.sh",
    "scripts/fetch-latest.sh",
    "scripts/image-metadata.sh",
    "scripts/kubeconfig-ci.sh",
    "scripts/push.sh",
    "scripts/run.sh",
)
"""What has to name one service, or does in an example."""

CUT = {
    ".github/dependabot.yml": (r" /bench,", r"^  - package-ecosystem: gomod\n    directory: /bench/.*\n(    .*\n)+"),
    "Makefile": (
        r"(PARTS|LOOPS) \?=\n",
        r"BENCH_ENVIRONMENT := .*\n",
        r"##@ Measure .*\n(.*\n)+?(?=##@ )",
        r"\n\$\(BENCH_ENVIRONMENT\): .*\n\t.*\n",
    ),
    "README.md": (r"\| `bench/` .*\n", r"\|[^|\n]*\| \[bench/.*\n"),
    "pyproject.toml": (
        r'^"services/\*/src/task_api/.*\n',
        r'^"bench/.*\n',
        r'(?<=files = \[)"bench", ',
        r'exclude = \["bench/.*\n',
        r'"services/task-api/tests", ',
        r" # there is the package `acknowledged`",
    ),
    "scripts/audit.sh": (r" bench/requirements\.txt",),
    "scripts/lock.sh": (r"# After the services: .*\n", r"compile bench/.*\n"),
}
"""Lines and words about what is in OF_THE_FIRST, by their files, as regular expressions."""


class Refused(Exception):
    """Nothing was changed, for the reason that the message gives."""


def services() -> list[str]:
    return sorted(file.parent.name for file in ROOT.glob("services/*/pyproject.toml"))


def package_of(name: str) -> str:
    return name.replace("-", "_")


def there(path: str) -> bool:
    return (ROOT / path).exists()


def owned(name: str) -> list[str]:
    """What goes with a service, as paths in the repository; of it what there is."""
    package = package_of(name)
    paths = [f"services/{name}", f"platform/helm/{name}", f"e2e/{package}", f"platform/tests/{package}"]
    return list(filter(there, (*paths, *(OF_THE_FIRST if name == FIRST else ()))))


def check(name: str) -> None:
    """Raises Refused unless the service can go, and Git has all that goes with it."""
    names = services()
    if name not in names:
        raise Refused(f"There is no service named {name}. The services are: {' '.join(names)}")
    if len(names) == 1:
        raise Refused(f"{name} is the only service. Make another one first: make new-service NAME=orders")
    status = ["git", "status", "--porcelain", "--untracked-files=all", "--", *owned(name)]
    result = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Refused("Git keeps what is removed, and this folder is no clone: git init && git add --all && git commit")
    if result.stdout:
        raise Refused(f"This would be lost, since it is in no commit:\n{result.stdout}Commit it first, or remove it.")


def changed(name: str, by: str) -> dict[str, str]:
    """The files that are to be written otherwise once the first service makes room for another, and how."""
    texts: dict[str, str] = {}
    for path in filter(there, NAMING):
        text = (ROOT / path).read_text()
        texts[path] = text.replace(name, by).replace(package_of(name), package_of(by))
    for path in filter(there, CUT):
        text = (ROOT / path).read_text()
        for pattern in CUT[path]:
            text, times = re.subn(pattern, "", text, flags=re.MULTILINE)
            if not times:
                raise Refused(f"{path} has no longer what scripts/remove_service.py cuts there: {pattern}")
        texts[path] = text
    return texts


def unlinked(page: str, text: str) -> str:
    """A page in which each link to what is no longer there is its text alone."""

    def kept(link: re.Match[str]) -> str:
        path = link[2].partition("#")[0]
        elsewhere = not path or "://" in path or path.startswith("mailto:")
        return link[0] if elsewhere or ((ROOT / page).parent / path).exists() else link[1]

    return re.sub(r"\[([^\[\]]*)\]\(([^()\s]+)\)", kept, text)


def pages() -> Iterator[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", "*.md"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return (page for page in result.stdout.splitlines() if (ROOT / page).is_file())


def remove(name: str) -> None:
    """Removes the service. Raises Refused, with nothing changed, where it cannot."""
    check(name)
    paths = owned(name)
    (other, *_) = (service for service in services() if service != name)
    for path, text in (changed(name, other) if name == FIRST else {}).items():
        (ROOT / path).write_text(text)
    print(f"Removing {name}:\n")
    for path in paths:
        print(f"  {path}")
        if (ROOT / path).is_dir():
            shutil.rmtree(ROOT / path)
        else:
            (ROOT / path).unlink()
    for page in pages():
        before = (ROOT / page).read_text()
        after = unlinked(page, before)
        if after != before:
            (ROOT / page).write_text(after)


def main(arguments: list[str]) -> int:
    """Removes one service; returns the command's exit code."""
    (name,) = arguments
    try:
        remove(name)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    print(f"""
Next:

  See what changed   git status && git diff
  Check it           make lint test test-platform
  Where it ran       helm uninstall {name}, and what it kept: kubectl get pvc,secrets
  Keep it so         git add --all && git commit
""")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
