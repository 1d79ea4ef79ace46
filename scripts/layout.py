"""An image as an OCI layout: a folder with index.json and blobs, named by their digests.

    layout.py save IMAGE FOLDER     saves an image of the Docker daemon there
    layout.py digest FOLDER         prints the image's digest in a registry
    layout.py load FOLDER IMAGE     loads the image into the Docker daemon under that name

The layout is what is scanned, stored and pushed. https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        sys.exit(f"{file} does not exist: this is not an OCI layout. Create one: make layout")


def only_image(folder: Path) -> Any:
    """The descriptor of the layout's only image: with attestations it is an index of image and attestations."""
    manifests = read_json(folder / "index.json")["manifests"]
    if len(manifests) != 1:
        sys.exit(f"{folder} contains {len(manifests)} images instead of one. Recreate it: make layout")
    return manifests[0]


def blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def manifest(folder: Path) -> Any:
    """The manifest of the image itself, which has layers. Attestations have the platform `unknown`."""
    descriptor = only_image(folder)
    while descriptor["mediaType"] in INDEX_TYPES:
        children = read_json(blob(folder, descriptor["digest"]))["manifests"]
        images = [m for m in children if m.get("platform", {}).get("os") != "unknown"]
        if len(images) != 1:
            sys.exit(f"{folder} contains an image for {len(images)} platforms; Docker can load only one.")
        descriptor = images[0]
    return read_json(blob(folder, descriptor["digest"]))


def save(image: str, folder: Path) -> None:
    if folder.exists():
        sys.exit(f"{folder} already exists. Remove it, or use another folder.")
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        docker("image", "save", "--output", archive.name, image)
        with tarfile.open(archive.name) as tar:
            # Old Docker versions write an archive without a layout: checked before anything is extracted.
            if "index.json" not in tar.getnames():
                sys.exit("This Docker does not save OCI layouts. Docker 25 or later is required.")
            tar.extractall(folder, filter="data")


def load(folder: Path, image: str) -> None:
    """Loads an archive of the blobs and Docker's own manifest.json, which every image store of Docker reads. Without
    oci-layout and index.json: the containerd image store prefers them if they exist, and then knows no name for the
    image."""
    found = manifest(folder)
    entry = {
        "Config": str(blob(Path(), found["config"]["digest"])),
        "RepoTags": [image],
        "Layers": [str(blob(Path(), layer["digest"])) for layer in found["layers"]],
    }
    with tempfile.TemporaryDirectory() as temporary:
        archive, docker_manifest = Path(temporary, "image.tar"), Path(temporary, "manifest.json")
        docker_manifest.write_text(json.dumps([entry]))
        with tarfile.open(archive, "w") as tar:
            tar.add(folder / "blobs", arcname="blobs")
            tar.add(docker_manifest, arcname="manifest.json")
        docker("image", "load", "--quiet", "--input", str(archive))
    # Not by id: the containerd image store generates its own manifest and uses that.
    config = read_json(blob(folder, found["config"]["digest"]))
    expected = [config["rootfs"]["diff_ids"], config["config"].get("Env")]
    loaded = docker("image", "inspect", "--format", "[{{json .RootFS.Layers}}, {{json .Config.Env}}]", image)
    if json.loads(loaded) != expected:
        sys.exit(f"{image} in Docker is {loaded}, but in {folder} it is {expected}. Remove {image}, then retry.")
    print(f"Loaded {image} ({found['config']['digest']})")


def docker(*arguments: str) -> str:
    try:
        result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit("docker is required but was not found. Install it: https://docs.docker.com/get-docker/")
    if result.returncode != 0:
        sys.exit(f"docker {' '.join(arguments[:2])} failed: {result.stderr.strip()}")
    return result.stdout.strip()


def main() -> None:
    match sys.argv[1:]:
        case ["save", image, folder]:
            save(image, Path(folder))
        case ["digest", folder]:
            print(only_image(Path(folder))["digest"])
        case ["load", folder, image]:
            load(Path(folder), image)
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
