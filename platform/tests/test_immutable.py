"""What an upgrade would change and cannot is refused before anything is made; without a cluster nothing is compared."""

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
    """The chart of orders. `helm template` asks no cluster: a value is asked instead, by the kind of the object."""
    folder = tmp_path_factory.mktemp("helm")
    copy(SKELETONS["postgresql"] / "chart", folder / "linked", LIBRARY.parent / "orders", forms("orders"))
    (folder / "linked/charts/library").unlink()
    (folder / "linked/values.schema.json").unlink()
    shutil.copytree(LIBRARY, folder / "linked/charts/library")
    validate = folder / "linked/charts/library/templates/_validate.tpl"
    asked = r'lookup "\S+" "(\w+)" \.Release\.Namespace (\(.*?\)(?= \}\})|\(include "\S+" \.\)|\$\w+)'
    text, count = re.subn(asked, r'(dig "\1" \2 dict $.Values.global)', validate.read_text())
    assert count == 5
    validate.write_text(text)
    return folder / "linked"


def refusal(chart: Path, there: Object, *arguments: str, release: str = "orders") -> str:
    """What is said to an upgrade of what is there; nothing where it is accepted."""
    done = helm_template(*with_json(**{"global": there}), *arguments, chart=chart, release=release)
    return done.stderr if done.returncode else ""


def stateful_set(storage: str, storage_class: str = "", **labels: str) -> Object:
    claim: Object = {"resources": {"requests": {"storage": storage}}}
    if storage_class:
        claim["storageClassName"] = storage_class
    (own,) = (m for m in render(chart=SKELETONS["postgresql"] / "chart") if m["kind"] == "StatefulSet")
    selector = own["spec"]["selector"]["matchLabels"] | {"app.kubernetes.io/instance": "orders"} | labels
    return {"spec": {"selector": {"matchLabels": selector}, "volumeClaimTemplates": [{"spec": claim}]}}


@pytest.mark.parametrize(
    ("there", "wanted"),
    [("1Gi", "2Gi"), ("2Gi", "1Gi"), ("1Gi", "1G"), ("1Gi", "1025Mi"), ("1Ti", "999Gi")],
)
def test_another_size_of_the_databases_volume_is_refused_with_the_way_to_it(
    chart: Path, there: str, wanted: str
) -> None:
    made = {"StatefulSet": {"orders-postgres": stateful_set(there)}}
    said = refusal(chart, made, *sets(f"database.bundled.storage={wanted}"))
    assert f"database.bundled.storage is {wanted}, but the database volume was created with {there}." in said
    assert (
        said.rstrip()
        .split("\n- ")[-1]
        .partition("\n")[0]
        .endswith(f"docs/operate.md#grow-the-volume-of-the-database. Or set database.bundled.storage back to {there}.")
    )


@pytest.mark.parametrize(
    ("there", "wanted"),
    [("1Gi", "1Gi"), ("1024Mi", "1Gi"), ("1Gi", "1073741824"), ("1073741824", "1Gi"), ("2G", "2000M")],
)
def test_the_same_size_written_otherwise_is_none(chart: Path, there: str, wanted: str) -> None:
    arguments = sets(f"database.bundled.storage={wanted}")
    assert refusal(chart, {"StatefulSet": {"orders-postgres": stateful_set(there)}}, *arguments) == ""


def test_another_storage_class_is_refused(chart: Path) -> None:
    there = {"StatefulSet": {"orders-postgres": stateful_set("1Gi", "slow")}}
    assert 'storageClassName is "fast", but the database volume was created with "slow"' in refusal(
        chart, there, *sets("database.bundled.storageClassName=fast")
    )
    assert refusal(chart, there, *sets("database.bundled.storageClassName=slow")) == ""


def claim(storage: str, storage_class: str = "standard") -> Object:
    return {"spec": {"resources": {"requests": {"storage": storage}}, "storageClassName": storage_class}}


def test_a_volume_that_was_kept_and_is_smaller_is_not_taken_silently(chart: Path) -> None:
    there = {"PersistentVolumeClaim": {"data-orders-postgres-0": claim("1Gi")}}
    arguments = sets("database.bundled.storage=2Gi")
    assert "the existing volume, data-orders-postgres-0, has 1Gi and would not be resized" in refusal(
        chart, there, *arguments
    )
    # One that was grown by hand is as good; so is a StatefulSet that was accepted before.
    assert refusal(chart, {"PersistentVolumeClaim": {"data-orders-postgres-0": claim("5Gi")}}, *arguments) == ""
    assert refusal(chart, there | {"StatefulSet": {"orders-postgres": stateful_set("2Gi")}}, *arguments) == ""


def test_the_backups_volume_may_grow_and_neither_shrink_nor_move(chart: Path) -> None:
    there = {"PersistentVolumeClaim": {"orders-backup": claim("5Gi")}}
    on = sets("database.bundled.backup.enabled=true")
    volume = "database.bundled.backup.volume"
    assert refusal(chart, there, *on) == ""
    assert refusal(chart, there, *on, *sets(f"{volume}.size=6Gi")) == ""
    assert f"{volume}.size is 4Gi, but the backup volume has 5Gi." in refusal(
        chart, there, *on, *sets(f"{volume}.size=4Gi")
    )
    assert f'{volume}.storageClassName is "fast", but that of the backup volume is "standard".' in refusal(
        chart, there, *on, *sets(f"{volume}.storageClassName=fast")
    )
    assert refusal(chart, there, *on, *sets(f"{volume}.existingClaim=mine", f"{volume}.size=4Gi")) == ""


def test_a_selector_that_would_change_is_refused_with_the_command_that_makes_way(chart: Path) -> None:
    (own,) = (m for m in render(chart=SKELETONS["postgresql"] / "chart") if m["kind"] == "Deployment")
    labels = own["spec"]["selector"]["matchLabels"] | {"app.kubernetes.io/instance": "orders"}
    ours = labels | {"app": "orders", "app.kubernetes.io/name": "orders"}
    there = {"Deployment": {"orders": {"spec": {"selector": {"matchLabels": ours}}}}}
    assert refusal(chart, there) == ""
    said = refusal(chart, there, *sets("nameOverride=order"))
    assert "The Deployment orders selects its pods by other labels, from an earlier nameOverride" in said
    assert "kubectl --namespace default delete deployment orders" in said
    other = {"StatefulSet": {"orders-postgres": stateful_set("1Gi", app="orders-postgres")}}
    said = refusal(chart, other)
    assert "kubectl --namespace default delete statefulset orders-postgres" in said


def test_a_release_whose_long_name_was_cut_keeps_it_on_request(chart: Path) -> None:
    release = "orders-" + "r" * 40
    before = release[:41]

    def there(owner: str) -> Object:
        annotations = {"meta.helm.sh/release-name": owner}
        return {"Deployment": {before: {"metadata": {"annotations": annotations}, "spec": {}}}}

    said = refusal(chart, there(release), release=release)
    assert f"The objects of this release are named {before}" in said
    assert f"set fullnameOverride={before}." in said
    assert refusal(chart, there(f"{release}-other"), release=release) == ""


def test_without_a_cluster_nothing_is_compared(chart: Path) -> None:
    assert one("StatefulSet", render(*sets("database.bundled.storage=7Gi"), chart=SKELETONS["postgresql"] / "chart"))
    assert refusal(chart, {}, *sets("database.bundled.storage=7Gi")) == ""
