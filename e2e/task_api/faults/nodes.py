"""Signals to a pod's process from its node: a container's PID 1 ignores SIGKILL and SIGSTOP from inside."""

from __future__ import annotations

import json
import subprocess

from e2e.namespace import Namespace


def signal_pod(namespace: Namespace, pod: str, signal: str) -> None:
    """Sends a signal to PID 1 of a pod's container."""
    status = json.loads(namespace.run(f"kubectl get pod {pod} -o json"))
    node: str = status["spec"]["nodeName"]
    container = status["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    tasks = _on(node, "ctr", "--namespace", "k8s.io", "tasks", "list")  # lines of container, PID, status
    pids = [fields[1] for fields in map(str.split, tasks.splitlines()) if fields[0] == container]
    assert len(pids) == 1, f"{pod} has no process on {node}:\n{tasks}"
    _on(node, "kill", "-s", signal, pids[0])


def restarts(namespace: Namespace, selector: str = "app=task-api") -> dict[str, int]:
    """Container restarts per pod."""
    pods = json.loads(namespace.run(f"kubectl get pods -l {selector} -o json"))["items"]
    return {
        pod["metadata"]["name"]: sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))
        for pod in pods
    }


def _on(node: str, *command: str) -> str:
    result = subprocess.run(["docker", "exec", node, *command], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, f"{command} on {node}: {result.stderr}"
    return result.stdout
