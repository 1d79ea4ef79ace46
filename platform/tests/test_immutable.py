"""Upgrades that change immutable fields are rejected before anything changes; without a cluster nothing is compared."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from manifests import LIBRARY, helm_template, one, render, sets, with_json
from scripts.new_service import SKELETONS, copy, forms

Object = dict[str, Any]


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of orders. `helm template` queries no cluster: `lookup` is replaced by a value, by kind of object."""
    folder = tmp_path_factory.mktemp("helm")
    copy(SKELETONS["postgresql"] / "chart", folder / "linked", LIBRARY.parent / "orders", forms("orders"))
    (folder / "linked/charts/library").unlink()
    (folder / "linked/values.schema.json").unlink()
    shutil.copytree(LIBRARY, folder / "linked/charts/library")
    validate = folder / "linked/charts/library/templates/_validate.tpl"
    lookup = r'lookup "\S+" "(\w+)" \.Release\.Namespace (\(.*?\)(?= \}\})|\(include "\S+" \.\)|\$\w+)'
    text, count = re.subn(lookup, r'(dig "\1" \2 dict $.Values.global)', validate.read_text())
    assert count == 5
    validate.write_text(text)
    return folder / "linked"


def upgrade_error(chart: Path, existing: Object, *arguments: str, release: str = "orders") -> str:
    """The error message for an upgrade of an existing object; empty if it is accepted."""
    done = helm_template(*with_json(**{"global": existing}), *arguments, chart=chart, release=release)
    return done.stderr if done.returncode else ""


def stateful_set(storage: str, storage_class: str = "", **labels: str) -> Object:
    claim: Object = {"resources": {"requests": {"storage": storage}}}
    if storage_class:
        claim["storageClassName"] = storage_class
    (manifest,) = (m for m in render(chart=SKELETONS["postgresql"] / "chart") if m["kind"] == "StatefulSet")
    selector = manifest["spec"]["selector"]["matchLabels"] | {"app.kubernetes.io/instance": "orders"} | labels
    return {"spec": {"selector": {"matchLabels": selector}, "volumeClaimTemplates": [{"spec": claim}]}}


@pytest.mark.parametrize(
    ("current", "new"),
    [("1Gi", "2Gi"), ("2Gi", "1Gi"), ("1Gi", "1G"), ("1Gi", "1025Mi"), ("1Ti", "999Gi")],
)
def test_changed_size_of_the_database_volume_is_rejected_with_instructions(chart: Path, current: str, new: str) -> None:
    existing = {"StatefulSet": {"orders-postgres": stateful_set(current)}}
    message = upgrade_error(chart, existing, *sets(f"database.bundled.storage={new}"))
    assert f"database.bundled.storage is {new}, but the database volume was created with {current}." in message
    assert (
        message.rstrip()
        .split("\n- ")[-1]
        .partition("\n")[0]
        .endswith(
            f"docs/operate.md#grow-the-volume-of-the-database. Or set database.bundled.storage back to {current}."
        )
    )


@pytest.mark.parametrize(
    ("current", "new"),
    [("1Gi", "1Gi"), ("1024Mi", "1Gi"), ("1Gi", "1073741824"), ("1073741824", "1Gi"), ("2G", "2000M")],
)
def test_equivalent_size_in_another_notation_is_accepted(chart: Path, current: str, new: str) -> None:
    arguments = sets(f"database.bundled.storage={new}")
    assert upgrade_error(chart, {"StatefulSet": {"orders-postgres": stateful_set(current)}}, *arguments) == ""


def test_changed_storage_class_is_rejected(chart: Path) -> None:
    existing = {"StatefulSet": {"orders-postgres": stateful_set("1Gi", "slow")}}
    assert 'storageClassName is "fast", but the database volume was created with "slow"' in upgrade_error(
        chart, existing, *sets("database.bundled.storageClassName=fast")
    )
    assert upgrade_error(chart, existing, *sets("database.bundled.storageClassName=slow")) == ""


def claim(storage: str, storage_class: str = "standard") -> Object:
    return {"spec": {"resources": {"requests": {"storage": storage}}, "storageClassName": storage_class}}


def test_smaller_existing_volume_is_not_reused_silently(chart: Path) -> None:
    existing = {"PersistentVolumeClaim": {"data-orders-postgres-0": claim("1Gi")}}
    arguments = sets("database.bundled.storage=2Gi")
    assert "the existing volume, data-orders-postgres-0, has 1Gi and would not be resized" in upgrade_error(
        chart, existing, *arguments
    )
    # One that was grown manually is fine; so is a StatefulSet that was accepted before.
    assert upgrade_error(chart, {"PersistentVolumeClaim": {"data-orders-postgres-0": claim("5Gi")}}, *arguments) == ""
    assert upgrade_error(chart, existing | {"StatefulSet": {"orders-postgres": stateful_set("2Gi")}}, *arguments) == ""


def test_backup_volume_may_grow_but_not_shrink_or_change_its_class(chart: Path) -> None:
    existing = {"PersistentVolumeClaim": {"orders-backup": claim("5Gi")}}
    enabled = sets("database.bundled.backup.enabled=true")
    volume = "database.bundled.backup.volume"
    assert upgrade_error(chart, existing, *enabled) == ""
    assert upgrade_error(chart, existing, *enabled, *sets(f"{volume}.size=6Gi")) == ""
    assert f"{volume}.size is 4Gi, but the backup volume has 5Gi." in upgrade_error(
        chart, existing, *enabled, *sets(f"{volume}.size=4Gi")
    )
    assert f'{volume}.storageClassName is "fast", but that of the backup volume is "standard".' in upgrade_error(
        chart, existing, *enabled, *sets(f"{volume}.storageClassName=fast")
    )
    assert upgrade_error(chart, existing, *enabled, *sets(f"{volume}.existingClaim=mine", f"{volume}.size=4Gi")) == ""


def test_changed_selector_is_rejected_with_the_command_to_proceed(chart: Path) -> None:
    (own,) = (m for m in render(chart=SKELETONS["postgresql"] / "chart") if m["kind"] == "Deployment")
    labels = own["spec"]["selector"]["matchLabels"] | {"app.kubernetes.io/instance": "orders"}
    current_labels = labels | {"app": "orders", "app.kubernetes.io/name": "orders"}
    existing = {"Deployment": {"orders": {"spec": {"selector": {"matchLabels": current_labels}}}}}
    assert upgrade_error(chart, existing) == ""
    message = upgrade_error(chart, existing, *sets("nameOverride=order"))
    assert "The Deployment orders selects its pods by other labels, from an earlier nameOverride" in message
    assert "kubectl --namespace default delete deployment orders" in message
    other = {"StatefulSet": {"orders-postgres": stateful_set("1Gi", app="orders-postgres")}}
    message = upgrade_error(chart, other)
    assert "kubectl --namespace default delete statefulset orders-postgres" in message


def test_truncated_release_name_can_be_kept_on_request(chart: Path) -> None:
    release = "orders-" + "r" * 40
    before = release[:41]

    def existing(owner: str) -> Object:
        annotations = {"meta.helm.sh/release-name": owner}
        return {"Deployment": {before: {"metadata": {"annotations": annotations}, "spec": {}}}}

    message = upgrade_error(chart, existing(release), release=release)
    assert f"The objects of this release are named {before}" in message
    assert f"set fullnameOverride={before}." in message
    assert upgrade_error(chart, existing(f"{release}-other"), release=release) == ""


def test_without_a_cluster_nothing_is_compared(chart: Path) -> None:
    assert one("StatefulSet", render(*sets("database.bundled.storage=7Gi"), chart=SKELETONS["postgresql"] / "chart"))
    assert upgrade_error(chart, {}, *sets("database.bundled.storage=7Gi")) == ""
