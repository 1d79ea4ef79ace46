"""Moves the tag `latest` to a commit's image, but never back.

    latest.py REPOSITORY COMMIT

Runs can end in another order than their commits were made. The commit of an image is in its label
org.opencontainers.image.revision; an older one than that of `latest` leaves `latest` where it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def crane(*arguments: str) -> str:
    done = subprocess.run([ROOT / ".tools/crane", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"crane {arguments[0]} failed: {done.stderr.strip()}\nAre you logged in there? (docker login)")
    return done.stdout.strip()


def is_older(commit: str, than: str) -> bool:
    done = subprocess.run(
        ["git", "merge-base", "--is-ancestor", commit, than], capture_output=True, text=True, check=False
    )
    # 128: this clone does not know one of them, as after a history that was written anew. Then the order says nothing.
    if done.returncode not in (0, 1):
        print(f"git cannot tell {commit} from {than} ({done.stderr.strip()}); taken for newer.")
    return done.returncode == 0 and commit != than


def main() -> None:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    repository, commit = sys.argv[1:]
    subprocess.run([ROOT / "scripts/go-tools.sh", "crane"], check=True)
    if "latest" in crane("ls", repository).split():
        labels = json.loads(crane("config", f"{repository}:latest"))["config"].get("Labels") or {}
        current = labels.get("org.opencontainers.image.revision", "")
        if current and is_older(commit, current):
            print(f"latest stays at {current}, which is newer than {commit}")
            return
    crane("tag", f"{repository}:{commit}", "latest")
    print(f"latest is {commit} now ({crane('digest', f'{repository}:latest')})")


if __name__ == "__main__":
    main()
