"""The default service for tests that need one: that of scripts/default-service.sh."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]

SERVICE = subprocess.run(
    [REPOSITORY / "scripts/default-service.sh"], capture_output=True, text=True, check=True
).stdout.strip()
PACKAGE = SERVICE.replace("-", "_")

CHART = REPOSITORY / "platform/helm" / SERVICE
SELF = yaml.safe_load((CHART / "files/service.yaml").read_text()) or {}
"""The service's entry in the chart."""
PREFIX: str = SELF.get("environmentPrefix", f"{PACKAGE.upper()}_")
"""The prefix of its settings."""

HAS_DATABASE = bool(SELF.get("keeps"))
