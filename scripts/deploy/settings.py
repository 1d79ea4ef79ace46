"""Settings from the environment: release, image, timeouts."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from scripts.deploy.processes import Refused


def _seconds(name: str, default: int) -> int:
    text = os.environ.get(name) or f"{default}s"
    found = re.fullmatch(r"(\d+)(s|m)", text)
    if found is None:
        raise Refused(f"{name}={text} is not a duration. Use seconds or minutes: 120s, 2m")
    return int(found[1]) * (60 if found[2] == "m" else 1)


@dataclasses.dataclass(frozen=True)
class Settings:
    release: str  # equals the service's name
    repository: str
    tag: str
    digest: str
    values: list[str]
    timeout: int
    settle_age: int
    smoke_timeout: int
    soak_time: int
    lock_timeout: int
    lease_duration: int
    production_url: str

    def __post_init__(self) -> None:
        if self.production_url and not re.match(r"https?://[^/]", self.production_url):
            raise Refused(f"PRODUCTION_URL={self.production_url} is not a URL. It must start with https:// or http://.")

    @classmethod
    def from_env(cls, service: str, digest: str) -> Settings:
        def env(name: str) -> str:
            return os.environ.get(name, "").replace("{0}", service)

        timeout = _seconds("DEPLOY_TIMEOUT", 120)
        return cls(
            release=service,
            repository=env("IMAGE_REPOSITORY"),
            tag=os.environ.get("IMAGE_TAG", ""),
            digest=digest,
            values=env("DEPLOY_VALUES").split(),
            timeout=timeout,
            settle_age=_seconds("SETTLE_AGE", timeout + 30),
            smoke_timeout=_seconds("SMOKE_TIMEOUT", 60),
            soak_time=_seconds("SOAK_TIME", 0),
            lock_timeout=_seconds("LOCK_TIMEOUT", 600),
            lease_duration=_seconds("LEASE_DURATION", 60),
            production_url=env("PRODUCTION_URL").rstrip("/"),
        )

    def check_image(self) -> None:
        """Raises Refused if the image settings are not deployable."""
        if not self.repository:
            raise Refused(
                "IMAGE_REPOSITORY is not set. Set it to the image's repository: "
                f"IMAGE_REPOSITORY=docker.io/you/{self.release}"
            )
        if not self.tag:
            raise Refused("IMAGE_TAG is not set. Set it to the commit to deploy: IMAGE_TAG=$(git rev-parse HEAD)")
        if self.tag == "latest":
            raise Refused(
                "IMAGE_TAG=latest is rejected: deploying the same tag again does not trigger a rollout. Use the commit."
            )
        if self.digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", self.digest):
            raise Refused(f"IMAGE_DIGEST={self.digest} is not a digest. Expected sha256: and 64 hexadecimal digits.")


def settings_per_service() -> list[Settings]:
    """One per file in IMAGE_DIGESTS; without it only that of SERVICE."""
    folder = os.environ.get("IMAGE_DIGESTS")
    if not folder:
        return [Settings.from_env(os.environ["SERVICE"], os.environ.get("IMAGE_DIGEST", ""))]
    files = sorted(Path(folder).glob("*"))
    if not files:
        raise Refused(f"IMAGE_DIGESTS={folder} contains no digest. Was an image pushed?")
    if len(files) > 1 and "{0}" not in os.environ.get("IMAGE_REPOSITORY", ""):
        raise Refused(
            f"IMAGE_REPOSITORY is one repository for {len(files)} services. Use {{0}} as placeholder for the name: "
            "docker.io/you/{0}"
        )
    return [Settings.from_env(file.name, file.read_text().strip()) for file in files]
