"""The versions of PostgreSQL and of the backup uploader: copies must agree with versions.env."""

from __future__ import annotations

from manifests import default_values, raw
from test_versions import VERSIONS, only, text


def test_chart_manifests_and_tests_use_the_same_database_version() -> None:
    values = default_values()
    assert values["database"]["bundled"]["image"] == VERSIONS["POSTGRES_IMAGE"]
    assert values["database"]["bundled"]["backup"]["s3"]["image"] == VERSIONS["RCLONE_IMAGE"]
    (stateful_set,) = (m for m in raw() if m["kind"] == "StatefulSet")
    assert stateful_set["spec"]["template"]["spec"]["containers"][0]["image"] == VERSIONS["POSTGRES_IMAGE"]
    tests = text("packages/chassis/testing/databases.py")
    assert only(r'POSTGRES_IMAGE = "(\S+)"', tests) == VERSIONS["POSTGRES_IMAGE"]
