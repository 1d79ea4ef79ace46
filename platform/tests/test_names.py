"""Names of a release's objects: they are unique, and invalid ones are rejected."""

from __future__ import annotations

import itertools
import re

import pytest
from manifests import helm_error, render, sets, with_json
from under_test import SERVICE

LONGEST = 53  # Helm's limit of a release name


def names(release: str, *arguments: str) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in render(*arguments, release=release)}


def rejection_message(release: str, *arguments: str) -> str:
    return helm_error(*arguments, release=release)


def test_short_release_name_is_used_unchanged() -> None:
    for release, name in (
        (SERVICE, SERVICE),
        (f"{SERVICE}-two", f"{SERVICE}-two"),
        ("shop", f"shop-{SERVICE}"),
        ("r" * (40 - len(SERVICE)), f"{'r' * (40 - len(SERVICE))}-{SERVICE}"),
        (f"{SERVICE}-{'r' * (40 - len(SERVICE))}", f"{SERVICE}-{'r' * (40 - len(SERVICE))}"),
    ):
        assert len(name) <= 41
        assert name in names(release)


def test_long_names_with_a_common_prefix_stay_distinct() -> None:
    releases = [f"{'r' * (LONGEST - 1)}{last}" for last in "ab"] + [f"{SERVICE}-{'r' * 40}{last}" for last in "ab"]
    for first, second in itertools.combinations(releases, 2):
        assert not names(first) & names(second)
        assert max(len(name) for name in names(first)) <= 52


def test_fullname_override_applies_to_every_object() -> None:
    assert {re.sub("-(postgres|database)$", "", name) for name in names("shop", *sets("fullnameOverride=mine"))} == {
        "mine"
    }
    assert names("shop", *sets("fullnameOverride=mine")) == names("other", *sets("fullnameOverride=mine"))


def test_name_override_applies_to_names_and_labels() -> None:
    rendered = render(*sets("nameOverride=mine"), release="shop")
    (deployment,) = (m for m in rendered if m["kind"] == "Deployment")
    assert deployment["metadata"]["name"] == "shop-mine"
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert (labels["app"], labels["app.kubernetes.io/name"]) == ("mine", "mine")
    assert labels == deployment["spec"]["template"]["metadata"]["labels"]
    assert "shop" in names("shop", *sets("nameOverride=shop"))


def test_numeric_looking_labels_stay_strings() -> None:
    (deployment,) = (m for m in render("--set-string", "nameOverride=123", release="shop") if m["kind"] == "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"]["app"] == "123"


@pytest.mark.parametrize("release_name", ["7", "a.b", "1-shop"])
def test_release_name_invalid_for_a_service_is_rejected_before_anything_is_created(release_name: str) -> None:
    message = rejection_message(release_name)
    assert f"after the release {release_name} and the chart {SERVICE}" in message
    assert "rename the release, or set fullnameOverride" in message
    assert "mine" in names(release_name, *sets("fullnameOverride=mine"))


@pytest.mark.parametrize("name", ["Mine", "1a", "a_b", "a.b", "-a", "a-", "a" * 42])
def test_invalid_fullname_override_is_rejected_with_a_message(name: str) -> None:
    message = rejection_message("shop", *sets(f"fullnameOverride={name}"))
    assert f'fullnameOverride is "{name}".' in message
    assert message.count("\n- ") == 1


@pytest.mark.parametrize("name", ["yes", "true", "null", "off"])
def test_name_that_yaml_reads_as_another_type_is_rejected(name: str) -> None:
    assert f"named {name}, which YAML does not parse as a string" in rejection_message(
        "shop", "--set-string", f"fullnameOverride={name}"
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"nameOverride": "a/b", "fullnameOverride": "a"}, 'The chart is named "a/b"'),
        ({"commonLabels": {"a b": "c"}}, 'commonLabels has the key "a b".'),
        ({"commonLabels": {"a": "c d"}}, 'commonLabels.a is "c d". A label value'),
        ({"podLabels": {"a": "b" * 64}}, "podLabels.a is"),
        ({"podLabels": {"k" * 64: "b"}}, "podLabels has the key"),
        ({"nodeSelector": {"Example.com/a": "b"}}, 'nodeSelector has the key "Example.com/a".'),
        ({"pods": {"database": {"podLabels": {"a": "c d"}}}}, 'pods.database.podLabels.a is "c d".'),
        ({"pods": {"test": {"nodeSelector": {"-a": "b"}}}}, 'pods.test.nodeSelector has the key "-a".'),
        ({"pods": {"api": {"podAnnotations": {"a_": "b"}}}}, 'pods.api.podAnnotations has the key "a_".'),
        ({"podAnnotations": {"a/b/c": "anything goes here"}}, 'podAnnotations has the key "a/b/c".'),
        ({"service": {"annotations": {"": "a"}}}, 'service.annotations has the key "".'),
        ({"ingress": {"annotations": {"-a": "a"}}}, 'ingress.annotations has the key "-a".'),
        ({"serviceAccount": {"annotations": {"a_": "a"}}}, 'serviceAccount.annotations has the key "a_".'),
        ({"extraEnv": [{"name": "1A"}]}, 'extraEnv has a variable named "1A".'),
        (
            {"extraEnv": [{"name": "A", "value": "a", "valueFrom": {"b": "c"}}]},
            "extraEnv has both value and valueFrom for A.",
        ),
        (
            {"resources": {"requests": {"memory": "1Gi"}}},
            "resources.requests.memory is 1Gi, and resources.limits.memory is 512Mi.",
        ),
        (
            {"resources": {"requests": {"cpu": "0.6"}}},
            "resources.requests.cpu is 0.6, and resources.limits.cpu is 500m.",
        ),
        ({"resources": {"requests": {"cpu": 1}}}, "resources.requests.cpu is 1, and"),
        ({"helmTest": {"resources": {"requests": {"cpu": 1}}}}, "helmTest.resources.requests.cpu is 1, and"),
        ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "podDisruptionBudget.maxUnavailable is 0."),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget.maxUnavailable is 0."),
    ],
    ids=str,
)
def test_values_that_the_server_would_reject_midway_are_rejected_with_a_message(
    values: dict[str, object], expected: str
) -> None:
    message = helm_error(*with_json(**values))
    assert expected in message
    assert message.count("\n- ") == 1


@pytest.mark.parametrize(
    "value",
    ["rollingUpdate.maxUnavailable=101%", "podDisruptionBudget.maxUnavailable=200%", "resources.limits.ram=1Gi"],
)
def test_invalid_percentage_or_quantity_is_rejected_by_name(value: str) -> None:
    message = helm_error(*sets(value))
    assert "values don't meet the specifications of the schema" in message
    assert re.search(r"maxUnavailable|ram", message)


def test_equivalent_quantities_are_equal() -> None:
    for request in ("0.5", "500m", "0.50"):
        assert render("--set-string", f"resources.requests.cpu={request}")
    assert render(*sets("resources.requests.memory=512Mi", "resources.limits.memory=0.5Gi"))
