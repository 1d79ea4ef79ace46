"""The number of replicas while autoscaling is enabled and disabled: running pods are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.namespace import HELMS, MakeNamespace
from under_test import HAS_DATABASE, SERVICE

CHART = f"platform/helm/{SERVICE}"


@pytest.mark.full
@pytest.mark.parametrize("helm", HELMS)
def test_pods_are_kept_while_autoscaling_is_enabled_and_disabled(
    make_namespace: MakeNamespace, tmp_path: Path, helm: str
) -> None:
    namespace = make_namespace(f"e2e-replicas-{HELMS.index(helm)}")
    namespace.use_helm(helm)
    # Pods need not run: the Deployment's replica counts show whether any would be deleted.
    unschedulable = "--set nodeSelector.e2e=nowhere" + " --set database.existingSecret=nowhere" * HAS_DATABASE
    values = f"{namespace.values} {unschedulable}"
    get_replicas = f"kubectl get deployment {SERVICE} -o jsonpath='{{.spec.replicas}}'"

    def upgrade(settings: str) -> str:
        namespace.run(f"scripts/helm.sh upgrade --install {SERVICE} {CHART} {values} {settings}")
        return namespace.run(get_replicas)

    off, on = "--set autoscaling.enabled=false", "--set autoscaling.enabled=true"
    assert upgrade(f"{off} --set replicaCount=5") == "5"
    # Every state of the Deployment, starting with the first.
    history = tmp_path / "seen"
    columns = "-o custom-columns=replicas:.spec.replicas --no-headers"
    watch = namespace.start(f"kubectl get deployment {SERVICE} --watch {columns}", history)
    try:
        assert upgrade(f"{on} --set replicaCount=2") == "5"
        assert upgrade(f"{on} --set replicaCount=2 --set pods.api.podLabels.change=second") == "5"
        namespace.run(f"kubectl scale deployment {SERVICE} --replicas=7")  # like the autoscaler under load
        assert upgrade(f"{on} --set replicaCount=2 --set pods.api.podLabels.change=third") == "7"
        assert upgrade(f"{off} --set replicaCount=2") == "7"
        assert set(history.read_text().split()) == {"5", "7"}
    finally:
        watch.terminate()
        watch.wait(timeout=10)
    assert upgrade(f"{off} --set replicaCount=2") == "2"  # as requested

    namespace.run(f"kubectl scale deployment {SERVICE} --replicas=4")
    unset = "--set autoscaling.enabled=false --set replicaCount=null"
    assert upgrade(unset) == "4"
    namespace.run(f"kubectl scale deployment {SERVICE} --replicas=6")
    assert upgrade(f"{unset} --set pods.api.podLabels.change=fourth") == "6"

    namespace.run(f"helm uninstall {SERVICE} --wait")
    assert upgrade(unset) == "1"  # no other number was requested
    assert "replicas:" not in namespace.run(f"helm get manifest {SERVICE} | grep -v '#' | grep replicas: || true")
