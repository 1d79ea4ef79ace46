"""`make doctor` on machines with problems: the real scripts/doctor.sh, with fakes of every tool."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import CAT, DOCKER, GIT, Machine, kubectl
from manifests import REPOSITORY


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nothing listens, nor on the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
        yield port
        return


@pytest.fixture
def machine(tmp_path: Path, free_port: int) -> Machine:
    return Machine(tmp_path, free_port)


def only_problem(output: str) -> tuple[str, str]:
    """The only problem, and the line below it with the command that fixes it."""
    lines = output.splitlines()
    (index,) = (number for number, line in enumerate(lines) if line.startswith(("FAIL", "warn")))
    return lines[index], lines[index + 1].strip()


def test_without_problems_each_check_prints_ok_and_the_next_step_is_printed(machine: Machine) -> None:
    code, output = machine.doctor()
    assert code == 0, output
    lines = output.splitlines()
    assert [line for line in lines if line and not line.startswith("ok ")] == [lines[-1]]
    assert len(lines) > 15
    assert lines[-1].startswith("0 failed, 0 warnings. Next: make up")


@pytest.mark.parametrize(
    ("tool", "printed", "problem", "fix"),
    [
        ("git", "git version 2.29.2", "Git is 2.29.2; 2.30 or later", "apt-get install --yes git"),
        (
            "kind",
            "kind version 0.31.0",
            "kind is 0.31.0; 0.32 or later",
            "kind.sigs.k8s.io/dl/v0.32.0/kind-linux-amd64",
        ),
        ("helm", "v3.11.3+g32", "Helm is 3.11.3; 3.12 or later", "get.helm.sh/helm-v3.22.0-linux-amd64.tar.gz"),
        ("docker", "Docker version 19.03.8", "Docker is 19.03.8; 20.10 or later", "apt-get install --yes docker.io"),
    ],
)
def test_outdated_tool_fails(machine: Machine, tool: str, printed: str, problem: str, fix: str) -> None:
    machine.add_tool(tool, f"echo '{printed}'")
    code, output = machine.doctor(tool)
    assert code == 1
    assert problem in only_problem(output)[0]
    assert fix in only_problem(output)[1]


@pytest.mark.parametrize(("version", "code"), [("v1.24.17", 1), ("v1.25.16", 1), ("v1.26.15", 0), ("v1.27.16", 0)])
def test_kubectl_version_is_not_confused_with_kustomizes(machine: Machine, version: str, code: int) -> None:
    machine.add_tool("kubectl", kubectl(version))
    actual, output = machine.doctor("kubectl")
    assert actual == code
    if code:
        problem, fix = only_problem(output)
        assert f"kubectl is {version[1:]}; 1.26 or later" in problem
        assert "bin/linux/amd64/kubectl" in fix


@pytest.fixture
def kit_kubeconfig(machine: Machine, tmp_path: Path) -> Path:
    """The kit's kubeconfig, in a copy of its scripts: a cluster exists."""
    copy = tmp_path / "copy"
    shutil.copytree(REPOSITORY / "scripts", copy / "scripts")
    shutil.copy(REPOSITORY / "versions.env", copy)
    machine.repository = copy
    (copy / ".kube").mkdir()
    (copy / ".kube/config").touch()
    return copy / ".kube/config"


def test_version_of_a_running_cluster_is_checked(machine: Machine, kit_kubeconfig: Path) -> None:
    assert kit_kubeconfig.exists()
    machine.add_tool("kubectl", kubectl("v1.27.16", server="v1.27.3"))
    assert "ok    Kubernetes v1.27.3 is running in task-platform" in machine.doctor()[1]
    machine.add_tool("kubectl", kubectl("v1.27.16", server="v1.25.3"))
    code, output = machine.doctor("kubernetes")
    assert code == 1
    problem, fix = only_problem(output)
    assert "runs Kubernetes v1.25.3; 1.26 or later is required. Recreate it, without its data:" in problem
    assert fix == "make down up"
    machine.add_tool("kubectl", kubectl("v1.27.16"))  # no response
    assert "is the version that `make up` installs" in machine.doctor()[1]


def test_kubeconfig_without_the_context_is_a_warning_if_kubectl_is_installed(
    machine: Machine, kit_kubeconfig: Path
) -> None:
    assert kit_kubeconfig.exists()
    machine.add_tool("kubectl", kubectl().replace("config get-contexts", "config get-nothing"))
    problem = "warn  .kube/config has no context kind-task-platform. Recreate it:"
    assert only_problem(machine.doctor()[1]) == (problem, "make up")
    machine.remove_tool("kubectl")
    assert "kubectl was not found" in only_problem(machine.doctor()[1])[0]


def test_unreadable_kernel_limits_are_ignored(machine: Machine) -> None:
    machine.add_tool("cat", "exit 1")
    assert machine.doctor("inotify") == (0, "")


def test_versions_are_compared_numerically(machine: Machine) -> None:
    machine.add_tool("git", "echo 'git version 2.4.11'")
    assert machine.doctor("git")[0] == 1
    machine.add_tool("git", "echo 'git version 10.0'")
    assert machine.doctor("git") == (0, "")


def test_missing_tool_fails_with_an_install_command(machine: Machine) -> None:
    machine.remove_tool("helm")
    code, output = machine.doctor()
    assert code == 1
    problem, fix = only_problem(output)
    assert problem.startswith("FAIL  Helm was not found; 3.12 or later is required")
    assert fix.startswith("curl -fsSL https://get.helm.sh/")
    assert "1 failed" in output


@pytest.mark.parametrize("tool", ["kind", "kubectl", "helm", "tilt"])
def test_tools_in_mise_toml_are_installed_with_mise_if_available(machine: Machine, tool: str) -> None:
    machine.remove_tool(tool)
    machine.add_tool("mise", "")
    code, output = machine.doctor(tool)
    assert code == 1
    assert only_problem(output)[1] == 'mise install && eval "$(mise activate bash)"'


def test_tool_that_cannot_run_fails(machine: Machine) -> None:
    machine.add_tool("kind", "echo 'cannot execute binary file' >&2; exit 126")
    code, output = machine.doctor()
    assert code == 1
    problem, fix = only_problem(output)
    assert problem.startswith("FAIL  kind prints no version: ")
    assert fix == "kind --version"


def test_one_failure_does_not_hide_the_next(machine: Machine) -> None:
    for tool in ("git", "python3.11", "docker", "kind", "kubectl", "helm", "openssl", "curl"):
        machine.remove_tool(tool)
    code, output = machine.doctor()
    assert code == 1
    assert output.count("FAIL") == 8
    assert "8 failed" in output


def test_python_without_venv_does_not_count(machine: Machine) -> None:
    machine.add_tool("python3.11", "exit 1")
    code, output = machine.doctor()
    assert code == 1
    assert "No Python 3.11 to 3.14 with venv was found" in only_problem(output)[0]
    assert only_problem(output)[1].endswith("uv python install 3.11")


def test_stopped_docker_daemon_is_reported_once(machine: Machine) -> None:
    machine.add_tool(
        "docker",
        """case "$*" in --version) echo 'Docker version 28.2.2' ;;
        *) echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1 ;; esac""",
    )
    code, output = machine.doctor()
    assert code == 1
    assert only_problem(output) == ("FAIL  The Docker daemon is not running. Start it:", "sudo systemctl start docker")


def test_permission_denied_by_docker_suggests_the_group(machine: Machine) -> None:
    machine.add_tool(
        "docker",
        """case "$*" in --version) echo 'Docker version 28.2.2' ;;
        *) echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1 ;; esac""",
    )
    code, output = machine.doctor()
    assert code == 1
    assert only_problem(output)[1].startswith("sudo usermod -aG docker")


def test_little_memory_is_a_warning(machine: Machine) -> None:
    machine.add_tool("docker", DOCKER.replace("8589934592", "2147483648"))
    code, output = machine.doctor()
    assert code == 0
    assert "Docker has 2.0 GiB of memory; the local cluster needs 4" in only_problem(output)[0]


def test_low_inotify_limits_are_a_warning_with_the_lines_to_set(machine: Machine) -> None:
    machine.add_tool("cat", CAT.replace("echo 512 ", "echo 128 "))
    code, output = machine.doctor()
    assert code == 0
    fix = only_problem(output)[1]
    assert "fs.inotify.max_user_instances=512" in fix
    assert "max_user_watches" not in fix


def test_port_in_use_fails_and_a_free_one_is_suggested(machine: Machine, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        code, output = machine.doctor()
    assert code == 1
    problem, fix = only_problem(output)
    assert f"Port {free_port} of 127.0.0.1 is in use" in problem
    assert fix == f"make up HTTP_PORT={free_port + 1}"


def test_ports_of_the_running_cluster_are_not_reported(machine: Machine, free_port: int) -> None:
    machine.add_tool("docker", DOCKER.replace("control-plane') exit 1", "control-plane') echo '[]'"))
    with socket.create_server(("127.0.0.1", free_port)):
        assert machine.doctor("ports") == (0, "")


def test_registry_port_is_checked_only_with_a_registry(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        machine.variables["REGISTRY_PORT"] = str(listener.getsockname()[1])
        assert machine.doctor("ports") == (0, "")
        machine.variables["REGISTRY"] = "1"
        code, output = machine.doctor("ports")
        machine.add_tool("docker", DOCKER.replace("control-plane') exit 1", "control-plane') echo '[]'"))
        beside_a_cluster = machine.doctor("ports")[0]
    assert (code, beside_a_cluster) == (1, 1)
    assert only_problem(output)[1].startswith("make up REGISTRY=1 REGISTRY_PORT=")


def test_outdated_node_image_fails(machine: Machine) -> None:
    machine.variables["KIND_NODE_IMAGE"] = "kindest/node:v1.25.16@sha256:" + "0" * 64
    code, output = machine.doctor()
    assert code == 1
    assert "Kubernetes 1.26 or later is required" in only_problem(output)[0]


def test_missing_kubeconfig_is_a_warning(machine: Machine, tmp_path: Path) -> None:
    machine.variables["KUBECONFIG"] = str(tmp_path / "gone")
    code, output = machine.doctor()
    assert code == 0
    problem, fix = only_problem(output)
    assert f"a missing file: {tmp_path / 'gone'}" in problem
    assert fix == "export KUBECONFIG=$PWD/.kube/config"


def test_foreign_cluster_is_reported_and_left_alone(machine: Machine) -> None:
    assert "uses the context production, which the kit never touches" in machine.doctor()[1]


def test_tilt_is_required_only_where_it_is_used(machine: Machine) -> None:
    machine.add_tool("tilt", "echo 'v0.37.2, built 2026-03-01'")
    code, output = machine.doctor()
    assert code == 0
    assert only_problem(output)[0].startswith("warn  For `make dev`: Tilt is 0.37.2; 0.37.3 or later is required")
    code, output = machine.doctor("tilt")
    assert code == 1
    assert only_problem(output)[0].startswith("FAIL  Tilt is 0.37.2")


def test_on_macos_fixes_use_homebrew_and_inotify_is_not_checked(machine: Machine) -> None:
    machine.add_tool("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.remove_tool("kind")
    code, output = machine.doctor()
    assert code == 1
    assert only_problem(output)[1] == "brew install kind"
    assert "inotify" not in output


def test_passing_single_check_is_silent_and_unknown_checks_are_rejected(machine: Machine) -> None:
    assert machine.doctor("docker", "kind") == (0, "")
    code, output = machine.doctor("kidn")
    assert code == 2
    assert "Unknown check kidn. Choose from: checkout shell git python docker" in output


@pytest.mark.parametrize(
    ("script", "tool", "problem"),
    [
        ("scripts/dev.sh", "tilt", "FAIL  Tilt was not found"),
        ("scripts/load.sh", "wrk", "FAIL  wrk was not found"),
        ("scripts/up.sh", "helm", "FAIL  Helm was not found"),
        ("scripts/status.sh", "kubectl", "FAIL  kubectl was not found"),
        ("scripts/status.sh", "curl", "FAIL  curl was not found"),
        ("scripts/image.sh", "docker", "FAIL  Docker was not found"),
    ],
)
def test_script_with_a_missing_requirement_stops_before_it_does_anything(
    machine: Machine, tmp_path: Path, script: str, tool: str, problem: str
) -> None:
    machine.remove_tool(tool)
    machine.add_tool("mkdir", "true")  # it creates no folder in the repository either
    machine.add_tool(
        "kind", f'case "$1" in --version) echo "kind version 0.32.0" ;; *) echo "$@" >> {tmp_path}/changed ;; esac'
    )
    code, output = machine.run(script)
    assert code == 1
    assert only_problem(output)[0].startswith(problem)
    assert output.splitlines()[-1] == "Then run the same command again. All checks: make doctor"
    assert not (tmp_path / "changed").exists()


# --- typical machines -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "sudo apt-get install --yes python3-venv "),
        ('ID=debian\nVERSION_ID="13"\n', "sudo apt-get install --yes python3-venv "),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n', ""),  # its Python is 3.10
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "sudo apt-get install --yes python3-venv "),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="26.04"\n', "sudo apt-get install --yes python3-venv "),
        ("ID=fedora\nVERSION_ID=42\n", "sudo dnf install --assumeyes python3 "),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.5"\n', "sudo dnf install --assumeyes python3.11 "),
        ("ID=alpine\nVERSION_ID=3.22.0\n", "sudo apk add python3 "),
        ("ID=arch\n", "sudo pacman -S --needed python "),
        ("ID=nixos\n", ""),
        ("", ""),
    ],
)
def test_suggested_python_is_the_systems_or_uvs(machine: Machine, os_release: str, command: str) -> None:
    machine.remove_tool("python3.11")
    machine.set_os_release(os_release)
    code, output = machine.doctor("python")
    assert code == 1
    fix = only_problem(output)[1]
    assert fix.startswith(f"{command}  # or, on any system: curl " if command else "curl ")
    assert fix.endswith("https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv python install 3.11")


def test_on_macos_the_suggested_python_is_homebrews(machine: Machine) -> None:
    machine.add_tool("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.remove_tool("python3.11")
    assert only_problem(machine.doctor("python")[1])[1].startswith("brew install python@3.13 ")


def test_tools_are_installed_with_the_systems_package_manager(machine: Machine) -> None:
    machine.set_os_release("ID=fedora\nVERSION_ID=42\n")
    for tool in ("git", "docker"):
        machine.remove_tool(tool)
    assert only_problem(machine.doctor("git")[1])[1] == "sudo dnf install --assumeyes git"
    assert only_problem(machine.doctor("docker")[1])[1].startswith("sudo dnf install --assumeyes moby-engine && ")


@pytest.mark.parametrize(
    "message",
    ["echo 'podman version 5.4.2'; echo 'Emulate Docker CLI using podman' >&2", "echo 'nerdctl version 1.7.6'"],
)
def test_docker_look_alike_is_named_and_the_rest_is_checked(machine: Machine, message: str) -> None:
    fails = "echo 'Error: template: info:1:2: cannot evaluate field MemTotal' >&2; exit 125"
    machine.add_tool("docker", f'case "$1" in --version) {message} ;; version) echo 5.4.2 ;; *) {fails} ;; esac')
    code, output = machine.doctor()
    assert code == 1
    problem, fix = only_problem(output)
    assert problem.startswith("FAIL  `docker` is ")
    assert problem.endswith("the cluster requires Docker:")
    assert fix == "https://docs.docker.com/engine/install/"
    assert "ok    wrk" in output.replace("For `make e2e`, `make load`: ", "")


@pytest.mark.parametrize(
    ("fake", "problem", "fix"),
    [
        (
            DOCKER.replace("unix:///var/run/docker.sock", "ssh://builder"),
            "Docker runs on another machine (ssh://builder)",
            "docker context use default",
        ),
        (DOCKER.replace("/var/lib/docker", "/var/snap/docker/common"), "Docker is a snap", "export TMPDIR=~/tmp"),
        (
            DOCKER.replace("name=seccomp", "name=rootless").replace("cpu-true", "cpu-false"),
            "Docker is rootless and cannot limit CPU",
            "Delegate=yes",
        ),
    ],
)
def test_restricted_or_remote_docker_is_a_warning(machine: Machine, fake: str, problem: str, fix: str) -> None:
    machine.add_tool("docker", fake)
    code, output = machine.doctor()
    assert code == 0
    assert problem in only_problem(output)[0]
    assert fix in only_problem(output)[1]


def test_rootless_docker_with_cpu_limits_is_ok(machine: Machine) -> None:
    machine.add_tool("docker", DOCKER.replace("name=seccomp", "name=rootless"))
    assert machine.doctor("docker") == (0, "")


def test_unreachable_docker_host_variable_is_reported(machine: Machine) -> None:
    machine.variables["DOCKER_HOST"] = "unix:///home/me/.colima/docker.sock"
    machine.add_tool("docker", "case $1 in --version) echo 'Docker version 28.2.2' ;; *) exit 1 ;; esac")
    code, output = machine.doctor()
    assert code == 1
    problem, fix = only_problem(output)
    assert problem.startswith(
        "FAIL  Docker is not responding at unix:///home/me/.colima/docker.sock, set in this shell."
    )
    assert fix.startswith("unset DOCKER_HOST")


def test_colima_is_started_if_it_provides_docker(machine: Machine) -> None:
    machine.add_tool("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.add_tool("colima", "true")
    machine.add_tool("docker", DOCKER.replace("8589934592", "2147483648"))
    assert only_problem(machine.doctor()[1])[1].startswith("colima stop && colima start --cpu 4 --memory 6")
    machine.add_tool("docker", "case $1 in --version) echo 'Docker version 28.2.2' ;; *) exit 1 ;; esac")
    assert only_problem(machine.doctor()[1])[1].startswith("colima start --cpu 4 --memory 6")


def test_different_program_with_a_tools_name_is_reported_with_its_path(machine: Machine) -> None:
    """Like the Ruby gem tilt, or the synthesizer helm."""
    machine.add_tool("helm", "exit 1")
    problem, fix = only_problem(machine.doctor()[1])
    assert f"{machine.bin}/helm fails to run, or is another program of the same name" in problem
    assert fix == "helm version --short"


def test_files_with_windows_line_endings_are_reported(machine: Machine, kit_kubeconfig: Path) -> None:
    assert kit_kubeconfig.exists()
    (machine.repository / "Dockerfile").write_bytes(b"FROM x\r\n")
    code, output = machine.doctor("checkout")
    assert code == 1
    problem, fix = only_problem(output)
    assert "(CRLF), which shells cannot read: Dockerfile." in problem
    assert fix == "git rm -r --cached --quiet . && git reset --hard"


def test_symlinks_checked_out_as_files_are_reported(machine: Machine, kit_kubeconfig: Path) -> None:
    assert kit_kubeconfig.exists()
    link = machine.repository / "platform/helm/task-api/charts/library"
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_text("../../service")
    code, output = machine.doctor("checkout")
    assert code == 1
    problem, fix = only_problem(output)
    assert "Symbolic links are plain files here, as Git for Windows writes them" in problem
    assert fix == "git config core.symlinks true && git checkout -- platform/helm/task-api/charts/library"


@pytest.mark.parametrize(
    ("git", "problem", "fix"),
    [
        (
            f"if [[ $1 == rev-parse ]]; then exit 128; fi\n{GIT}",
            "This folder is not a Git repository.",
            "git init && git add --all",
        ),
        (GIT.replace("origin/main", "origin/trunk"), "The default branch is trunk,", "git branch -m trunk main"),
    ],
)
def test_unsuitable_checkout_is_a_warning(machine: Machine, git: str, problem: str, fix: str) -> None:
    machine.add_tool("git", git)
    code, output = machine.doctor()
    assert code == 0
    assert problem in only_problem(output)[0]
    assert fix in only_problem(output)[1]


def test_ignored_exported_variables_are_reported(machine: Machine) -> None:
    machine.variables |= {"CDPATH": "/usr", "GIT_DIR": "/nowhere", "BASH_FUNC_sed%%": "() { false; }"}
    machine.variables |= {"TMPDIR": "/nowhere", "HELM_NAMESPACE": "kube-system", "HELM_VERSION": "v3.0.0"}
    code, output = machine.doctor()
    assert code == 0
    lines = output.splitlines()
    (isolated,) = (line for line in lines if line.startswith("ok    Exported here, and ignored"))
    assert isolated.endswith(" sed() CDPATH GIT_DIR TMPDIR=/nowhere HELM_NAMESPACE")
    (versions,) = (line for line in lines if "instead of versions.env" in line)
    assert versions.endswith(": HELM_VERSION")


@pytest.mark.parametrize(
    ("variables", "problem", "fix"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "curl in this shell uses the proxy http://proxy:3128", "NO_PROXY="),
        (
            {"ALL_PROXY": "socks5://proxy:1080", "NO_PROXY": "localhost"},
            "pip has no built-in SOCKS support",
            "HTTPS_PROXY=",
        ),
        (
            {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"},
            "Images are built for linux/arm64",
            "unset DOCKER_DEFAULT_PLATFORM",
        ),
    ],
)
def test_relevant_exported_variables_are_a_warning(
    machine: Machine, variables: dict[str, str], problem: str, fix: str
) -> None:
    machine.variables |= variables
    code, output = machine.doctor()
    assert code == 0
    assert problem in only_problem(output)[0]
    assert fix in only_problem(output)[1]
