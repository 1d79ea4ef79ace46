"""An image as an OCI layout: a folder with index.json and blobs, named by their digests.

    layout.py save IMAGE FOLDER     writes an image of the Docker daemon there
    layout.py digest FOLDER         prints the digest by which a registry will know the image
    layout.py load FOLDER IMAGE     gives the image to the Docker daemon under that name

The layout is what is scanned, kept and pushed. https://github.com/opencontainers/image-spec/blob/main/image-layout.md
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
        sys.exit(f"{file} is not there: this is not an OCI layout. Make one: make layout")


def only_image(folder: Path) -> Any:
    """The descriptor of the layout's one image: with attestations it is an index of image and attestations."""
    manifests = read_json(folder / "index.json")["manifests"]
    if len(manifests) != 1:
        sys.exit(f"{folder} holds {len(manifests)} images, and one is pushed. Make it again: make layout")
    return manifests[0]


def blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def manifest(folder: Path) -> Any:
    """The manifest of the image itself, which has layers. Attestations beside it are of the platform unknown."""
    descriptor = only_image(folder)
    while descriptor["mediaType"] in INDEX_TYPES:
        below = read_json(blob(folder, descriptor["digest"]))["manifests"]
        images = [m for m in below if m.get("platform", {}).get("os") != "unknown"]
        if len(images) != 1:
            sys.exit(f"{folder} holds an image for {len(images)} platforms; Docker can be given one.")
        descriptor = images[0]
    return read_json(blob(folder, descriptor["digest"]))


def save(image: str, folder: Path) -> None:
    if folder.exists():
        sys.exit(f"{folder} is there already. Remove it, or name another folder.")
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        docker("image", "save", "--output", archive.name, image)
        with tarfile.open(archive.name) as tar:
            # An old Docker writes an archive without a layout: said before anything is laid out.
            if "index.json" not in tar.getnames():
                sys.exit("This Docker's archives have no OCI layout. Docker 25 or newer is needed.")
            tar.extractall(folder, filter="data")


def load(folder: Path, image: str) -> None:
    """By an archive of the blobs and Docker's own manifest.json, which every store of Docker reads. Without oci-layout
    and index.json: where they are, a store of containerd goes by them, and knows no name for the image."""
    found = manifest(folder)
    entry = {
        "Config": str(blob(Path(), found["config"]["digest"])),
        "RepoTags": [image],
        "Layers": [str(blob(Path(), layer["digest"])) for layer in found["layers"]],
    }
    with tempfile.TemporaryDirectory() as made:
        archive, docker_manifest = Path(made, "image.tar"), Path(made, "manifest.json")
        docker_manifest.write_text(json.dumps([entry]))
        with tarfile.open(archive, "w") as tar:
            tar.add(folder / "blobs", arcname="blobs")
            tar.add(docker_manifest, arcname="manifest.json")
        docker("image", "load", "--quiet", "--input", str(archive))
    # Not by the id: a store of containerd makes a manifest of its own, and goes by that.
    config = read_json(blob(folder, found["config"]["digest"]))
    wanted = [config["rootfs"]["diff_ids"], config["config"].get("Env")]
    loaded = docker("image", "inspect", "--format", "[{{json .RootFS.Layers}}, {{json .Config.Env}}]", image)
    if json.loads(loaded) != wanted:
        sys.exit(f"{image} in Docker is {loaded}, and in {folder} it is {wanted}. Remove {image}, then try again.")
    print(f"Loaded {image} ({found['config']['digest']})")


def docker(*arguments: str) -> str:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit("docker is needed and was not found. Get it: https://docs.docker.com/get-docker/")
    if done.returncode != 0:
        sys.exit(f"docker {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
    return done.stdout.strip()


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
