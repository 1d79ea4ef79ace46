"""Moves the tag `latest` to a commit's image, but never to an older one.

    python3 -m scripts.latest REPOSITORY COMMIT DIGEST

The digest is that of the scanned and pushed image: the commit's tag may point elsewhere by now. Runs can complete in a
different order than their commits. An image's commit is in its label org.opencontainers.image.revision; if it is older
than that of `latest`, the tag is not moved.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from scripts.commits import is_older

ROOT = Path(__file__).parent.parent


def crane(*arguments: str) -> str:
    result = subprocess.run([ROOT / ".tools/crane", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"crane {arguments[0]} failed: {result.stderr.strip()}\nAre you logged in? (docker login)")
    return result.stdout.strip()


def main() -> None:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    repository, commit, digest = sys.argv[1:]
    subprocess.run([ROOT / "scripts/go-tools.sh", "crane"], check=True)
    if "latest" in crane("ls", repository).split():
        labels = json.loads(crane("config", f"{repository}:latest"))["config"].get("Labels") or {}
        current = labels.get("org.opencontainers.image.revision", "")
        if current and is_older(commit, than=current):
            print(f"latest stays at {current}, which is newer than {commit}")
            return
    crane("tag", f"{repository}@{digest}", "latest")
    new_digest = crane("digest", f"{repository}:latest")
    if new_digest != digest:
        sys.exit(f"{repository}:latest is {new_digest}, but {commit} is {digest}. Find out who else pushes there.")
    print(f"latest is now {commit} ({digest})")


if __name__ == "__main__":
    main()
