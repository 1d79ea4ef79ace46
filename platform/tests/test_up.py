"""`make up` and `make down` where something is wrong: the scripts as they are, with fakes of the tools they call."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import pytest
from documentation import blocks
from machine import Machine
from manifests import CHART, REPOSITORY

HEALTHY = {
    "kind get clusters": "echo task-platform; echo other",
    "kind get nodes --name task-platform": "echo task-platform-control-plane task-platform-worker",
    "docker port task-platform-control-plane 443/tcp": "echo 127.0.0.1:8443",
    "docker ps --all *": "echo task-platform-control-plane running; echo task-platform-worker running",
    "docker exec * ctr *": "echo docker.io/library/task-api",
    "docker container inspect --format *": "exit 1",
    "kubectl * get nodes --no-headers": "for node in 1 2 3; do echo task-platform-$node Ready 1m; done",
    "kubectl * get hpa --no-headers": "echo task-api Deployment/task-api cpu: 3%/70% 3 10 3 1m",
}
"""What each tool says where all is well; of what else they are asked, nothing."""


class Loop(Machine):
    """A copy of the scripts, on a machine with a cluster that is played."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        super().__init__(folder / "bin", 18080)
        self.lacks("git")
        self.borrows("basename", "git", "mkdir", "mktemp", "rm", "sleep", "tail", "wc")
        self.repository = folder / "copy"
        for path in ("scripts", "platform/cluster"):
            shutil.copytree(REPOSITORY / path, self.repository / path)
        for path in ("versions.env", "kind-config.yaml"):
            shutil.copy(REPOSITORY / path, self.repository / path)
        # With one service, task-api, whichever the repository has.
        for path in ("platform/helm/task-api", "services/task-api"):
            (self.repository / path).mkdir(parents=True)
        shutil.copy(CHART / "Chart.yaml", self.repository / "platform/helm/task-api")
        (self.repository / "services/task-api/pyproject.toml").touch()
        (self.repository / "scripts/doctor.sh").write_text("#!/bin/sh\n")
        (self.repository / "scripts/image-tag.sh").write_text("#!/bin/sh\necho content-1\n")
        (self.repository / ".kube/log").mkdir(parents=True)
        self.calls = folder / "calls"
        self.says({})
        self.variables |= {"NODES_TIMEOUT": "0", "REGISTRY": "0"}

    def says(self, answers: dict[str, str]) -> None:
        """The tools answer so, and else as where all is well."""
        cases = answers | {asked: said for asked, said in HEALTHY.items() if asked not in answers}
        lines = "\n".join(f"  {asked.replace(' ', chr(92) + ' ')}) {said} ;;" for asked, said in cases.items())
        for tool in ("docker", "kind", "kubectl", "helm", "curl"):
            self.has(tool, f'asked="{tool} $*"\necho "$asked" >> {self.calls}\ncase $asked in\n{lines}\nesac')

    def called(self, start: str) -> list[str]:
        return [call for call in self.calls.read_text().splitlines() if call.startswith(start)]


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


NOT_READY = {"kubectl * get nodes --no-headers": "echo task-platform-control-plane NotReady 1m"}


# --- the cluster ----------------------------------------------------------------------


def test_a_cluster_that_is_there_and_whole_is_kept(loop: Loop) -> None:
    code, output = loop.run("scripts/up.sh", "cluster")
    assert code == 0, output
    assert not loop.called("kind create")
    assert not loop.called("kind delete")


def test_nodes_that_stopped_are_started(loop: Loop) -> None:
    assert loop.run("scripts/up.sh", "cluster")[0] == 0
    assert loop.called("docker start") == ["docker start task-platform-control-plane task-platform-worker"]


def test_what_an_interrupted_start_left_is_made_again(loop: Loop) -> None:
    loop.says(NOT_READY | {"docker cp *": "exit 1"})
    code, output = loop.run("scripts/up.sh", "cluster")
    assert "never healthy, as after an interrupted start" in output
    assert loop.called("kind delete")
    assert code == 1


@pytest.mark.parametrize(
    "broken",
    [
        NOT_READY,
        {"kubectl * get nodes --no-headers": "exit 1"},
        {"kind export kubeconfig *": "exit 1"},
        {"docker start *": "exit 1"},
    ],
)
def test_a_cluster_that_was_whole_is_never_removed(loop: Loop, broken: dict[str, str]) -> None:
    loop.says(broken)
    code, output = loop.run("scripts/up.sh", "cluster")
    assert code == 1
    assert "it may hold data and is not deleted" in output
    assert output.splitlines()[-1].endswith("To recreate it without its data: make down up")
    assert not loop.called("kind delete")


def test_a_kind_that_does_not_answer_is_not_taken_for_no_cluster(loop: Loop) -> None:
    loop.says({"kind get clusters": "exit 1"})
    for script in (("scripts/up.sh", "cluster"), ("scripts/down.sh",), ("scripts/status.sh",)):
        code, output = loop.run(*script)
        assert code == 1
        assert output.splitlines()[-1] == "kind cannot list its clusters. See why: kind get clusters"
    assert not loop.called("kind create")


def test_a_cluster_of_a_longer_name_is_another(loop: Loop) -> None:
    loop.says({"kind get clusters": "echo task-platform-2"})
    loop.run("scripts/up.sh", "cluster")
    assert loop.called("kind create")


# --- the release ----------------------------------------------------------------------


def test_a_revision_that_a_killed_helm_left_goes_before_the_next(loop: Loop) -> None:
    loop.variables["SERVICE"] = "task-api"
    code, output = loop.run("scripts/up.sh", "release")
    assert code == 0, output
    calls = loop.calls.read_text()
    (recovery,) = loop.called("kubectl --context kind-task-platform delete")
    assert "owner=helm,name=task-api,status in (pending-install,pending-upgrade,pending-rollback)" in recovery
    assert calls.index(recovery) < calls.index("helm upgrade --install")


def test_what_tilt_deployed_alone_is_given_to_helm(loop: Loop) -> None:
    loop.says(
        {"helm * status *": "exit 1", "kubectl * get --filename *": "echo deployment/task-api; echo service/task-api"}
    )
    assert loop.run("scripts/up.sh", "release")[0] == 0
    objects = "deployment/task-api service/task-api"
    assert loop.called("kubectl --context kind-task-platform label") == [
        f"kubectl --context kind-task-platform label --overwrite {objects} app.kubernetes.io/managed-by=Helm"
    ]
    (annotate,) = loop.called("kubectl --context kind-task-platform annotate")
    assert "meta.helm.sh/release-name=task-api meta.helm.sh/release-namespace=default" in annotate


def test_fields_that_make_dev_changed_are_the_releases_again_and_it_says_so(loop: Loop) -> None:
    conflict = 'Apply failed with 1 conflict: conflict with "tilt" using apps/v1: .spec.template'
    changed = {
        "helm get manifest task-api": r"printf '%s\n' --- 'kind: Deployment' 'metadata:' '  name: task-api'",
        "kubectl --context=kind-task-platform apply --server-side *": f"echo '{conflict}' >&2; exit 1",
    }
    loop.variables |= {"HTTP_PORT": "8080", "HTTPS_PORT": "8443"}
    loop.says(WHOLE_RUN | changed)
    code, output = loop.run("scripts/up.sh")
    assert code == 0, output
    assert "reverted changes made by make dev or by hand; fields are listed in .kube/log/release.log" in output
    log = (loop.repository / ".kube/log/release.log").read_text()
    assert "reverted: Deployment task-api .spec.template (tilt)\n" in log


def test_what_helm_has_is_left_to_it(loop: Loop) -> None:
    assert loop.run("scripts/up.sh", "release")[0] == 0
    assert not loop.called("kubectl --context kind-task-platform label")


def test_replicas_that_nobody_counts_yet_are_none(loop: Loop) -> None:
    loop.lacks("sleep")
    loop.has("sleep", f"echo 'kubectl: 3' > {loop.calls}.ready")
    loop.says(
        {
            "kubectl * get hpa task-api *": "echo 3",
            "kubectl * get deployment task-api *": f"[ -f {loop.calls}.ready ] && echo 3 || true",
        }
    )
    code, output = loop.run("scripts/up.sh", "replicas")
    assert (code, output) == (0, "")


# --- the registry ---------------------------------------------------------------------


def test_a_registry_that_does_not_start_is_made_again(loop: Loop) -> None:
    """As after a start while its port was taken, which leaves a container that has the name and cannot start."""
    loop.says({"docker start task-platform-registry": "exit 1", "docker port *-registry *": "echo 127.0.0.1:5001"})
    code, output = loop.run("platform/cluster/registry.sh")
    assert code == 0, output
    calls = loop.calls.read_text()
    assert 0 < calls.index("docker rm --force --volumes task-platform-registry") < calls.index("docker run --detach")


def test_a_registry_that_is_there_keeps_its_images(loop: Loop) -> None:
    loop.says({"docker port *-registry *": "echo 127.0.0.1:5001"})
    assert loop.run("platform/cluster/registry.sh")[0] == 0
    assert not loop.called("docker rm")
    assert not loop.called("docker run")


def can_use_registry(loop: Loop, answers: dict[str, str], **variables: str) -> tuple[bool, str]:
    del loop.variables["REGISTRY"]
    with socket.create_server(("127.0.0.1", 0)) as unused:
        loop.variables["REGISTRY_PORT"] = str(unused.getsockname()[1])
    loop.variables |= variables
    loop.says(answers)
    code, output = loop.run("scripts/up.sh", "can_use_registry")
    return code == 0, output


@pytest.mark.parametrize(
    ("there", "pulls"),
    [("true", []), ("exit 1", ["docker pull --quiet registry:3"])],
    ids=["the image is there", "the image is pulled"],
)
def test_a_registry_is_made_where_it_can_be_had(loop: Loop, there: str, pulls: list[str]) -> None:
    assert can_use_registry(loop, {"docker image inspect registry:3": there}) == (True, "")
    assert loop.called("docker pull") == pulls


THERE = {"docker container inspect --format {{ .State.Running }} task-platform-registry": "echo true"}
OFFLINE = {"docker image inspect *": "exit 1", "docker pull *": "echo offline; exit 1"}


def test_without_its_image_there_is_no_registry_and_that_is_said(loop: Loop) -> None:
    wanted, output = can_use_registry(loop, OFFLINE)
    assert not wanted
    assert output.startswith("Skipped the local registry: registry:3 cannot be pulled")


def test_without_its_port_there_is_no_registry_and_another_port_is_named(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        wanted, output = can_use_registry(loop, {}, REGISTRY_PORT=str(port))
    assert not wanted
    assert f"port {port} of 127.0.0.1 is in use" in output
    assert output.endswith(f"make up REGISTRY_PORT={port + 1}\n")


def test_the_registry_that_is_there_is_taken_whatever_else_there_is(loop: Loop) -> None:
    assert can_use_registry(loop, THERE | OFFLINE, REGISTRY="0") == (True, "")


@pytest.mark.parametrize(("registry", "wanted"), [("1", True), ("0", False)])
def test_whether_there_is_one_can_be_said(loop: Loop, registry: str, wanted: bool) -> None:
    assert can_use_registry(loop, {} if registry == "0" else OFFLINE, REGISTRY=registry) == (wanted, "")


# --- the steps ------------------------------------------------------------------------

WHOLE_RUN = {
    "kubectl * get hpa task-api *": "echo 3",
    "kubectl * get deployment task-api *": "echo 3",
    "docker port task-platform-control-plane 80/tcp": "echo 127.0.0.1:8080",
    "kubectl * rollout status *": "echo done",
    "kubectl * get secret *": "echo secret/there",
}


def test_each_step_has_a_line_with_its_time_and_nothing_is_released_before_what_it_needs(loop: Loop) -> None:
    loop.variables |= {"HTTP_PORT": "8080", "HTTPS_PORT": "8443"}
    loop.says(WHOLE_RUN)
    code, output = loop.run("scripts/up.sh")
    assert code == 0, output
    steps = [re.split("  +", line) for line in output.split("\n\n")[0].splitlines()]
    assert [title for title, *_ in steps] == [
        "Cluster task-platform",
        "Certificate and password",
        "Images",
        "Image task-api into the cluster",
        "Add-ons metrics-server, ingress-nginx",
        "Release task-api",
        "Replicas task-api",
    ]
    assert all(re.fullmatch(r"ok +\d+ s", " ".join(how)) for _, *how in steps)
    calls = loop.calls.read_text()
    released = calls.index("helm upgrade")
    for needed in (
        "docker tag task-api:content-1",
        "rollout status --namespace ingress-nginx",
        "get secret task-api-tls",
    ):
        assert calls.index(needed) < released


def test_the_readme_shows_what_it_prints(loop: Loop) -> None:
    """But for the seconds, which stand in the same column."""
    del loop.variables["REGISTRY"]
    loop.variables |= {"HTTP_PORT": "8080", "HTTPS_PORT": "8443"}
    loop.says(WHOLE_RUN | THERE | {"docker port *-registry *": "echo 127.0.0.1:5001"})
    printed = loop.run("scripts/up.sh")[1].splitlines()
    (shown,) = (block.text.splitlines() for block in blocks("README.md") if block.text.startswith("$ make up\n"))
    assert without_seconds(shown[1:]) == without_seconds(printed[: len(shown) - 1])


def without_seconds(lines: list[str]) -> list[str]:
    return [re.sub(r" in \d+ s", " in _ s", re.sub(r"[ \d]{3}\d s$", "   _ s", line)) for line in lines]


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ({"docker tag *": "echo no space left; exit 1"}, "Images"),
        ({"kubectl * rollout status --namespace ingress-nginx *": "echo too late; exit 1"}, "Add-ons"),
    ],
)
def test_a_step_that_went_on_beside_others_and_failed_ends_the_run(
    loop: Loop, broken: dict[str, str], step: str
) -> None:
    loop.says(broken | WHOLE_RUN)
    code, output = loop.run("scripts/up.sh")
    assert code == 1
    (failed,) = (line for line in output.splitlines() if "FAILED after" in line)
    assert failed.startswith(step)
    assert next(iter(broken.values())).split("; ")[0].removeprefix("echo ") in output
    assert "Possible causes" in output
    assert not loop.called("helm upgrade")


# --- what is said ---------------------------------------------------------------------


def test_after_a_step_that_failed_its_end_the_reasons_and_the_way_on_are_shown(loop: Loop) -> None:
    loop.says(NOT_READY)
    code, output = loop.run("scripts/up.sh")
    assert code == 1
    assert "FAILED after" in output
    assert "Possible causes" in output
    assert "3  FAIL   task-platform-control-plane is NotReady" in output
    assert "run the same command again" in output
    assert output.splitlines()[-1] == "To start from scratch, without the data in the cluster: make down up"


def test_where_nothing_is_wrong_each_check_says_so(loop: Loop) -> None:
    code, output = loop.run("scripts/diagnose.sh")
    assert code == 0
    lines = [line for line in output.splitlines() if line[:3].strip().isdigit()]
    assert [line.split()[1] for line in lines] == ["ok"] * 10, output
    assert [int(line.split()[0]) for line in lines] == list(range(1, 11))


@pytest.mark.parametrize(
    ("answers", "wrong", "command"),
    [
        ({"docker version": "exit 1"}, "The Docker daemon is not responding", "make doctor"),
        ({"docker ps --all *": "true"}, "There is no cluster", "make up"),
        (
            {"docker ps --all *": "echo task-platform-control-plane running; echo task-platform-worker exited"},
            "task-platform-worker is exited",
            "docker start task-platform-worker",
        ),
        (
            {"kubectl * get nodes --no-headers": "exit 1"},
            "The API server is not responding",
            "docker logs --tail 20 task-platform-control-plane",
        ),
        (
            {"kubectl * get nodes --no-headers": "echo task-platform-worker NotReady 1m"},
            "task-platform-worker is NotReady",
            "kubectl describe node task-platform-worker",
        ),
        (
            {"kubectl * get nodes --output *": "echo task-platform-worker has DiskPressure"},
            "task-platform-worker has DiskPressure",
            "docker system df",
        ),
        (
            {"docker exec task-platform-worker ctr *": "true"},
            "task-platform-worker does not have the image task-api:content-1",
            "kind load docker-image task-api:content-1 --name task-platform",
        ),
        (
            {"kubectl * get pods *": "echo task-api-1 is ImagePullBackOff"},
            "task-api-1 is ImagePullBackOff",
            "kubectl describe pod task-api-1",
        ),
        (
            {"kubectl * get pods *": "echo task-api-1 is CrashLoopBackOff"},
            "task-api-1 is CrashLoopBackOff",
            "kubectl logs task-api-1 --previous",
        ),
        (
            {"kubectl * get hpa --no-headers": "echo 'task-api Deployment/task-api <unknown>/70% 3 10 3 1m'"},
            "task-api (HPA) has no CPU metrics",
            "kubectl logs --namespace kube-system deployment/metrics-server",
        ),
        (
            {"kubectl * get secrets *": "echo task-api has a revision in pending-install"},
            "task-api has a revision in pending-install",
            "make up",
        ),
        (
            {"curl *": "exit 7"},
            "The ingress controller is not responding on port 8443",
            "kubectl logs --namespace ingress-nginx deployment/ingress-nginx-controller",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_command(loop: Loop, answers: dict[str, str], wrong: str, command: str) -> None:
    loop.says(answers)
    code, output = loop.run("scripts/diagnose.sh")
    assert code == 0
    lines = output.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "  FAIL  " in line)
    assert wrong in lines[at]
    assert lines[at + 1].strip().startswith(command)


# --- status and open ------------------------------------------------------------------


def test_status_asks_for_columns_that_fit_a_terminal(loop: Loop) -> None:
    """A long name of a pod and of two hosts, in kubectl's columns, which three spaces part."""
    loop.says({"curl *": "echo '{}'"})
    assert loop.run("scripts/status.sh")[0] == 0
    columns = {
        call.split(" get ")[1].split()[0]: call.partition("custom-columns=")[2]
        for call in loop.called("kubectl --context kind-task-platform get")
    }
    rows = {"hpa": ["task-api", "100", "100", "10", "10", "10"], "ingress": ["task-api", "nginx", "x" * 36]}
    for kind, row in rows.items():
        headers = [re.split(r":\.", column)[0] for column in re.split(r",(?=[A-Z])", columns[kind])]
        widths = [max(len(header), len(cell)) for header, cell in zip(headers, row, strict=True)]
        assert sum(widths) + 3 * len(widths) <= 80
    assert columns["pods"] == ""


def test_open_prints_lines_that_fit_a_terminal(loop: Loop) -> None:
    code, output = loop.run("scripts/open.sh")
    assert code == 0, output
    assert output.splitlines()[0] == "https://task-api.localhost:8443/docs"
    assert max(map(len, output.splitlines())) <= 80


# --- down -----------------------------------------------------------------------------


def test_down_says_what_it_removed(loop: Loop) -> None:
    loop.says({"docker container inspect *": "echo", "docker image ls *": "echo task-api:content-1"})
    code, output = loop.run("scripts/down.sh")
    assert code == 0
    assert output.splitlines() == [
        "Removed the cluster task-platform with all its data",
        "Removed the registry task-platform-registry with its images",
        "Removed .kube (kubeconfig and logs)",
        "Removed the image task-api:content-1",
    ]
    (listed,) = loop.called("docker image ls")
    assert re.findall(r"--filter reference=(\S+)", listed) == [
        "task-api:content-*",
        "localhost:*/task-api:content-*",
        "task-api:tilt-*",
        "localhost:*/task-api:tilt-*",
    ]
    assert not (loop.repository / ".kube").exists()


def test_down_does_not_say_that_it_removed_what_was_not_there(loop: Loop) -> None:
    loop.says({"kind get clusters": "true", "docker container inspect *": "exit 1"})
    shutil.rmtree(loop.repository / ".kube")
    assert loop.run("scripts/down.sh") == (0, "There is no cluster task-platform\n")
    assert not loop.called("kind delete")
