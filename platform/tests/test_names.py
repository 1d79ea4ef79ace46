"""What the objects of a release are called: names that stay apart, and those that the server would refuse."""

from __future__ import annotations

import itertools
import re

import pytest
from manifests import refusal, render, sets, with_json
from under_test import SERVICE

LONGEST = 53  # of a release's name, to Helm


def names(release: str, *arguments: str) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in render(*arguments, release=release)}


def refused(release: str, *arguments: str) -> str:
    return refusal(*arguments, release=release)


def test_a_release_has_the_name_that_it_always_had_where_that_is_short_enough() -> None:
    for release, name in (
        (SERVICE, SERVICE),
        (f"{SERVICE}-two", f"{SERVICE}-two"),
        ("shop", f"shop-{SERVICE}"),
        ("r" * (40 - len(SERVICE)), f"{'r' * (40 - len(SERVICE))}-{SERVICE}"),
        (f"{SERVICE}-{'r' * (40 - len(SERVICE))}", f"{SERVICE}-{'r' * (40 - len(SERVICE))}"),
    ):
        assert len(name) <= 41
        assert name in names(release)


def test_long_names_that_begin_alike_stay_apart() -> None:
    releases = [f"{'r' * (LONGEST - 1)}{last}" for last in "ab"] + [f"{SERVICE}-{'r' * 40}{last}" for last in "ab"]
    for one, two in itertools.combinations(releases, 2):
        assert not names(one) & names(two)
        assert max(len(name) for name in names(one)) <= 52


def test_a_name_of_ones_own_is_that_of_every_object() -> None:
    assert {re.sub("-(postgres|database)$", "", name) for name in names("shop", *sets("fullnameOverride=mine"))} == {
        "mine"
    }
    assert names("shop", *sets("fullnameOverride=mine")) == names("other", *sets("fullnameOverride=mine"))


def test_another_name_for_the_chart_is_in_names_and_labels() -> None:
    rendered = render(*sets("nameOverride=mine"), release="shop")
    (deployment,) = (m for m in rendered if m["kind"] == "Deployment")
    assert deployment["metadata"]["name"] == "shop-mine"
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert (labels["app"], labels["app.kubernetes.io/name"]) == ("mine", "mine")
    assert labels == deployment["spec"]["template"]["metadata"]["labels"]
    assert "shop" in names("shop", *sets("nameOverride=shop"))


def test_labels_that_look_like_numbers_stay_texts() -> None:
    (deployment,) = (m for m in render("--set-string", "nameOverride=123", release="shop") if m["kind"] == "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"]["app"] == "123"


@pytest.mark.parametrize("called", ["7", "a.b", "1-shop"])
def test_a_release_that_no_service_can_be_called_after_is_refused_before_anything_is_made(called: str) -> None:
    said = refused(called)
    assert f"after the release {called} and the chart {SERVICE}" in said
    assert "rename the release, or set fullnameOverride" in said
    assert "mine" in names(called, *sets("fullnameOverride=mine"))


@pytest.mark.parametrize("name", ["Mine", "1a", "a_b", "a.b", "-a", "a-", "a" * 42])
def test_a_name_of_ones_own_that_cannot_be_is_refused_in_a_sentence(name: str) -> None:
    said = refused("shop", *sets(f"fullnameOverride={name}"))
    assert f'fullnameOverride is "{name}".' in said
    assert said.count("\n- ") == 1


@pytest.mark.parametrize("name", ["yes", "true", "null", "off"])
def test_a_name_that_yaml_reads_otherwise_is_refused(name: str) -> None:
    assert f"named {name}, which YAML does not parse as a string" in refused(
        "shop", "--set-string", f"fullnameOverride={name}"
    )


@pytest.mark.parametrize(
    ("values", "said"),
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
def test_what_the_server_would_refuse_half_way_is_refused_in_a_sentence(values: dict[str, object], said: str) -> None:
    message = refusal(*with_json(**values))
    assert said in message
    assert message.count("\n- ") == 1


@pytest.mark.parametrize(
    "value",
    ["rollingUpdate.maxUnavailable=101%", "podDisruptionBudget.maxUnavailable=200%", "resources.limits.ram=1Gi"],
)
def test_what_is_no_share_and_no_resource_is_refused_by_its_name(value: str) -> None:
    said = refusal(*sets(value))
    assert "values don't meet the specifications of the schema" in said
    assert re.search(r"maxUnavailable|ram", said)


def test_quantities_that_mean_the_same_are_the_same() -> None:
    for request in ("0.5", "500m", "0.50"):
        assert render("--set-string", f"resources.requests.cpu={request}")
    assert render(*sets("resources.requests.memory=512Mi", "resources.limits.memory=0.5Gi"))
