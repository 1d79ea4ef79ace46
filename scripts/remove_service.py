"""Removes a service and everything that belongs to it: its code, its chart, and their tests.

    python -m scripts.remove_service NAME        (or: make remove-service NAME=task-api)

A service's files are in folders of its name: those are removed. With the first service, which comes with the kit, other
files about tasks are removed, too (OF_THE_FIRST), and files that need one service's name get another one's (NAMING).

Nothing is lost: files that are not in Git are not removed.
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
    "platform/k8s",  # its raw manifests
    "bench",  # its benchmarks
    "scripts/bench.sh",
    "scripts/bench-loop.sh",
    ".tools/bench",
    ".tools/bench-before",
    ".tools/bench-go",
)
"""Files that are only about tasks, outside of the service's folders."""

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
"""Files that have to name one service, or do so in an example."""

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
"""Text about files in OF_THE_FIRST, by file, as regular expressions."""


class Refused(Exception):
    """Nothing was changed, for the reason in the message."""


def services() -> list[str]:
    return sorted(file.parent.name for file in ROOT.glob("services/*/pyproject.toml"))


def package_of(name: str) -> str:
    return name.replace("-", "_")


def exists(path: str) -> bool:
    return (ROOT / path).exists()


def owned(name: str) -> list[str]:
    """The existing files and folders that belong to a service."""
    package = package_of(name)
    paths = [f"services/{name}", f"platform/helm/{name}", f"e2e/{package}", f"platform/tests/{package}"]
    return list(filter(exists, (*paths, *(OF_THE_FIRST if name == FIRST else ()))))


def check(name: str) -> None:
    """Raises Refused unless the service can be removed, and all of its files are committed."""
    names = services()
    if name not in names:
        raise Refused(f"There is no service {name}. Choose from: {' '.join(names)}")
    if len(names) == 1:
        raise Refused(f"{name} is the only service. Create another one first: make new-service NAME=orders")
    status = ["git", "status", "--porcelain", "--untracked-files=all", "--", *owned(name)]
    result = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Refused(
            "Removed files must be recoverable from Git, but this is not a repository: git init && git add --all && "
            "git commit"
        )
    if result.stdout:
        raise Refused(f"Uncommitted files would be lost:\n{result.stdout}Commit them first, or remove them.")


def updated_files(name: str, replacement: str) -> dict[str, str]:
    """The new contents of files that have to change when the first service is replaced by another."""
    texts: dict[str, str] = {}
    for path in filter(exists, NAMING):
        text = (ROOT / path).read_text()
        texts[path] = text.replace(name, replacement).replace(package_of(name), package_of(replacement))
    for path in filter(exists, CUT):
        text = (ROOT / path).read_text()
        for pattern in CUT[path]:
            text, times = re.subn(pattern, "", text, flags=re.MULTILINE)
            if not times:
                raise Refused(f"{path} no longer matches a pattern in scripts/remove_service.py: {pattern}")
        texts[path] = text
    return texts


def remove_broken_links(page: str, text: str) -> str:
    """The page with each link to a missing file replaced by its text."""

    def keep_or_unlink(link: re.Match[str]) -> str:
        path = link[2].partition("#")[0]
        external = not path or "://" in path or path.startswith("mailto:")
        return link[0] if external or ((ROOT / page).parent / path).exists() else link[1]

    return re.sub(r"\[([^\[\]]*)\]\(([^()\s]+)\)", keep_or_unlink, text)


def pages() -> Iterator[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", "*.md"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return (page for page in result.stdout.splitlines() if (ROOT / page).is_file())


def remove(name: str) -> None:
    """Removes the service. Raises Refused, with nothing changed, if that is not possible."""
    check(name)
    paths = owned(name)
    (other, *_) = (service for service in services() if service != name)
    for path, text in (updated_files(name, other) if name == FIRST else {}).items():
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
        after = remove_broken_links(page, before)
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

  Review             git status && git diff
  Check              make lint test test-platform
  If it was deployed helm uninstall {name}, and its remaining data: kubectl get pvc,secrets
  Commit             git add --all && git commit
""")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
