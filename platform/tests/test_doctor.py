"""`make doctor` on machines where something is wrong: scripts/doctor.sh as it is, with fakes of every tool."""

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
    """A port that nothing listens on, as is the next one."""
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


def complaint(output: str) -> tuple[str, str]:
    """The one thing that is wrong, and the line below it with the command that repairs it."""
    lines = output.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith(("FAIL", "warn")))
    return lines[at], lines[at + 1].strip()


def test_where_all_is_well_each_check_has_its_line_and_the_next_step_is_named(machine: Machine) -> None:
    code, output = machine.doctor()
    assert code == 0, output
    lines = output.splitlines()
    assert [line for line in lines if line and not line.startswith("ok ")] == [lines[-1]]
    assert len(lines) > 15
    assert lines[-1].startswith("0 failed, 0 warnings. Next: make up")


@pytest.mark.parametrize(
    ("tool", "printed", "wrong", "repair"),
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
def test_a_tool_that_is_too_old_fails(machine: Machine, tool: str, printed: str, wrong: str, repair: str) -> None:
    machine.has(tool, f"echo '{printed}'")
    code, output = machine.doctor(tool)
    assert code == 1
    assert wrong in complaint(output)[0]
    assert repair in complaint(output)[1]


@pytest.mark.parametrize(("version", "code"), [("v1.24.17", 1), ("v1.25.16", 1), ("v1.26.15", 0), ("v1.27.16", 0)])
def test_kubectls_version_is_its_own_and_not_kustomizes(machine: Machine, version: str, code: int) -> None:
    machine.has("kubectl", kubectl(version))
    found, output = machine.doctor("kubectl")
    assert found == code
    if code:
        wrong, repair = complaint(output)
        assert f"kubectl is {version[1:]}; 1.26 or later" in wrong
        assert "bin/linux/amd64/kubectl" in repair


@pytest.fixture
def own_kubeconfig(machine: Machine, tmp_path: Path) -> Path:
    """The kit's own, in a copy of its scripts: there is a cluster."""
    copy = tmp_path / "copy"
    shutil.copytree(REPOSITORY / "scripts", copy / "scripts")
    shutil.copy(REPOSITORY / "versions.env", copy)
    machine.repository = copy
    (copy / ".kube").mkdir()
    (copy / ".kube/config").touch()
    return copy / ".kube/config"


def test_a_cluster_that_runs_is_asked_for_its_version(machine: Machine, own_kubeconfig: Path) -> None:
    assert own_kubeconfig.exists()
    machine.has("kubectl", kubectl("v1.27.16", server="v1.27.3"))
    assert "ok    Kubernetes v1.27.3 is running in task-platform" in machine.doctor()[1]
    machine.has("kubectl", kubectl("v1.27.16", server="v1.25.3"))
    code, output = machine.doctor("kubernetes")
    assert code == 1
    wrong, repair = complaint(output)
    assert "runs Kubernetes v1.25.3; 1.26 or later is required. Recreate it, without its data:" in wrong
    assert repair == "make down up"
    machine.has("kubectl", kubectl("v1.27.16"))  # nobody answers
    assert "is the version that `make up` installs" in machine.doctor()[1]


def test_a_kubeconfig_without_the_context_is_a_warning_where_there_is_a_kubectl(
    machine: Machine, own_kubeconfig: Path
) -> None:
    assert own_kubeconfig.exists()
    machine.has("kubectl", kubectl().replace("config get-contexts", "config get-nothing"))
    wrong = "warn  .kube/config has no context kind-task-platform. Recreate it:"
    assert complaint(machine.doctor()[1]) == (wrong, "make up")
    machine.lacks("kubectl")
    assert "kubectl was not found" in complaint(machine.doctor()[1])[0]


def test_a_kernel_that_does_not_say_its_limits_is_no_reason_to_stop(machine: Machine) -> None:
    machine.has("cat", "exit 1")
    assert machine.doctor("inotify") == (0, "")


def test_versions_are_compared_as_numbers(machine: Machine) -> None:
    machine.has("git", "echo 'git version 2.4.11'")
    assert machine.doctor("git")[0] == 1
    machine.has("git", "echo 'git version 10.0'")
    assert machine.doctor("git") == (0, "")


def test_a_tool_that_is_not_there_fails_with_how_to_get_it(machine: Machine) -> None:
    machine.lacks("helm")
    code, output = machine.doctor()
    assert code == 1
    wrong, repair = complaint(output)
    assert wrong.startswith("FAIL  Helm was not found; 3.12 or later is required")
    assert repair.startswith("curl -fsSL https://get.helm.sh/")
    assert "1 failed" in output


@pytest.mark.parametrize("tool", ["kind", "kubectl", "helm", "tilt"])
def test_what_mise_toml_names_is_installed_by_mise_where_that_is(machine: Machine, tool: str) -> None:
    machine.lacks(tool)
    machine.has("mise", "")
    code, output = machine.doctor(tool)
    assert code == 1
    assert complaint(output)[1] == 'mise install && eval "$(mise activate bash)"'


def test_a_tool_that_cannot_run_fails(machine: Machine) -> None:
    machine.has("kind", "echo 'cannot execute binary file' >&2; exit 126")
    code, output = machine.doctor()
    assert code == 1
    wrong, repair = complaint(output)
    assert wrong.startswith("FAIL  kind prints no version: ")
    assert repair == "kind --version"


def test_one_thing_that_is_wrong_does_not_hide_the_next(machine: Machine) -> None:
    for tool in ("git", "python3.11", "docker", "kind", "kubectl", "helm", "openssl", "curl"):
        machine.lacks(tool)
    code, output = machine.doctor()
    assert code == 1
    assert output.count("FAIL") == 8
    assert "8 failed" in output


def test_a_python_without_venv_is_none(machine: Machine) -> None:
    machine.has("python3.11", "exit 1")
    code, output = machine.doctor()
    assert code == 1
    assert "No Python 3.11 to 3.14 with venv was found" in complaint(output)[0]
    assert complaint(output)[1].endswith("uv python install 3.11")


def test_a_daemon_that_does_not_run_is_one_complaint_and_not_three(machine: Machine) -> None:
    machine.has(
        "docker",
        """case "$*" in --version) echo 'Docker version 28.2.2' ;;
        *) echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1 ;; esac""",
    )
    code, output = machine.doctor()
    assert code == 1
    assert complaint(output) == ("FAIL  The Docker daemon is not running. Start it:", "sudo systemctl start docker")


def test_a_daemon_that_does_not_let_the_user_in_asks_for_the_group(machine: Machine) -> None:
    machine.has(
        "docker",
        """case "$*" in --version) echo 'Docker version 28.2.2' ;;
        *) echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1 ;; esac""",
    )
    code, output = machine.doctor()
    assert code == 1
    assert complaint(output)[1].startswith("sudo usermod -aG docker")


def test_little_memory_is_a_warning(machine: Machine) -> None:
    machine.has("docker", DOCKER.replace("8589934592", "2147483648"))
    code, output = machine.doctor()
    assert code == 0
    assert "Docker has 2.0 GiB of memory; the local cluster needs 4" in complaint(output)[0]


def test_low_limits_of_inotify_are_a_warning_with_the_lines_to_set(machine: Machine) -> None:
    machine.has("cat", CAT.replace("echo 512 ", "echo 128 "))
    code, output = machine.doctor()
    assert code == 0
    repair = complaint(output)[1]
    assert "fs.inotify.max_user_instances=512" in repair
    assert "max_user_watches" not in repair


def test_a_taken_port_fails_and_a_free_one_is_named(machine: Machine, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        code, output = machine.doctor()
    assert code == 1
    wrong, repair = complaint(output)
    assert f"Port {free_port} of 127.0.0.1 is in use" in wrong
    assert repair == f"make up HTTP_PORT={free_port + 1}"


def test_ports_of_the_clusters_own_are_not_taken(machine: Machine, free_port: int) -> None:
    machine.has("docker", DOCKER.replace("control-plane') exit 1", "control-plane') echo '[]'"))
    with socket.create_server(("127.0.0.1", free_port)):
        assert machine.doctor("ports") == (0, "")


def test_the_port_of_the_registry_is_checked_where_the_registry_is_used(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        machine.variables["REGISTRY_PORT"] = str(listener.getsockname()[1])
        assert machine.doctor("ports") == (0, "")
        machine.variables["REGISTRY"] = "1"
        code, output = machine.doctor("ports")
        machine.has("docker", DOCKER.replace("control-plane') exit 1", "control-plane') echo '[]'"))
        beside_a_cluster = machine.doctor("ports")[0]
    assert (code, beside_a_cluster) == (1, 1)
    assert complaint(output)[1].startswith("make up REGISTRY=1 REGISTRY_PORT=")


def test_a_node_image_that_is_too_old_fails(machine: Machine) -> None:
    machine.variables["KIND_NODE_IMAGE"] = "kindest/node:v1.25.16@sha256:" + "0" * 64
    code, output = machine.doctor()
    assert code == 1
    assert "Kubernetes 1.26 or later is required" in complaint(output)[0]


def test_a_kubeconfig_that_is_not_there_is_a_warning(machine: Machine, tmp_path: Path) -> None:
    machine.variables["KUBECONFIG"] = str(tmp_path / "gone")
    code, output = machine.doctor()
    assert code == 0
    wrong, repair = complaint(output)
    assert f"a missing file: {tmp_path / 'gone'}" in wrong
    assert repair == "export KUBECONFIG=$PWD/.kube/config"


def test_a_cluster_of_somebody_elses_is_named_and_left_alone(machine: Machine) -> None:
    assert "uses the context production, which the kit never touches" in machine.doctor()[1]


def test_tilt_is_asked_for_by_who_needs_it(machine: Machine) -> None:
    machine.has("tilt", "echo 'v0.37.2, built 2026-03-01'")
    code, output = machine.doctor()
    assert code == 0
    assert complaint(output)[0].startswith("warn  For `make dev`: Tilt is 0.37.2; 0.37.3 or later is required")
    code, output = machine.doctor("tilt")
    assert code == 1
    assert complaint(output)[0].startswith("FAIL  Tilt is 0.37.2")


def test_on_macos_the_repair_is_homebrews_and_inotify_is_not_asked_for(machine: Machine) -> None:
    machine.has("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.lacks("kind")
    code, output = machine.doctor()
    assert code == 1
    assert complaint(output)[1] == "brew install kind"
    assert "inotify" not in output


def test_a_single_check_is_silent_when_all_is_well_and_unknown_ones_are_refused(machine: Machine) -> None:
    assert machine.doctor("docker", "kind") == (0, "")
    code, output = machine.doctor("kidn")
    assert code == 2
    assert "Unknown check kidn. Choose from: checkout shell git python docker" in output


@pytest.mark.parametrize(
    ("script", "tool", "wrong"),
    [
        ("scripts/dev.sh", "tilt", "FAIL  Tilt was not found"),
        ("scripts/load.sh", "wrk", "FAIL  wrk was not found"),
        ("scripts/up.sh", "helm", "FAIL  Helm was not found"),
        ("scripts/status.sh", "kubectl", "FAIL  kubectl was not found"),
        ("scripts/status.sh", "curl", "FAIL  curl was not found"),
        ("scripts/image.sh", "docker", "FAIL  Docker was not found"),
    ],
)
def test_a_script_that_needs_what_is_not_there_stops_before_it_does_anything(
    machine: Machine, tmp_path: Path, script: str, tool: str, wrong: str
) -> None:
    machine.lacks(tool)
    machine.has("mkdir", "true")  # nor does it leave a folder in the repository
    machine.has(
        "kind", f'case "$1" in --version) echo "kind version 0.32.0" ;; *) echo "$@" >> {tmp_path}/changed ;; esac'
    )
    code, output = machine.run(script)
    assert code == 1
    assert complaint(output)[0].startswith(wrong)
    assert output.splitlines()[-1] == "Then run the same command again. All checks: make doctor"
    assert not (tmp_path / "changed").exists()


# --- machines that people have --------------------------------------------------------


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
def test_the_python_to_install_is_one_that_the_system_has_and_uvs_everywhere(
    machine: Machine, os_release: str, command: str
) -> None:
    machine.lacks("python3.11")
    machine.runs_on(os_release)
    code, output = machine.doctor("python")
    assert code == 1
    repair = complaint(output)[1]
    assert repair.startswith(f"{command}  # or, on any system: curl " if command else "curl ")
    assert repair.endswith("https://astral.sh/uv/install.sh | sh && ~/.local/bin/uv python install 3.11")


def test_on_macos_the_python_to_install_is_homebrews(machine: Machine) -> None:
    machine.has("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.lacks("python3.11")
    assert complaint(machine.doctor("python")[1])[1].startswith("brew install python@3.13 ")


def test_tools_are_installed_as_the_system_installs_them(machine: Machine) -> None:
    machine.runs_on("ID=fedora\nVERSION_ID=42\n")
    for tool in ("git", "docker"):
        machine.lacks(tool)
    assert complaint(machine.doctor("git")[1])[1] == "sudo dnf install --assumeyes git"
    assert complaint(machine.doctor("docker")[1])[1].startswith("sudo dnf install --assumeyes moby-engine && ")


@pytest.mark.parametrize(
    "said", ["echo 'podman version 5.4.2'; echo 'Emulate Docker CLI using podman' >&2", "echo 'nerdctl version 1.7.6'"]
)
def test_what_only_bears_dockers_name_is_named_and_the_rest_is_checked(machine: Machine, said: str) -> None:
    fails = "echo 'Error: template: info:1:2: cannot evaluate field MemTotal' >&2; exit 125"
    machine.has("docker", f'case "$1" in --version) {said} ;; version) echo 5.4.2 ;; *) {fails} ;; esac')
    code, output = machine.doctor()
    assert code == 1
    wrong, repair = complaint(output)
    assert wrong.startswith("FAIL  `docker` is ")
    assert wrong.endswith("the cluster requires Docker:")
    assert repair == "https://docs.docker.com/engine/install/"
    assert "ok    wrk" in output.replace("For `make e2e`, `make load`: ", "")


@pytest.mark.parametrize(
    ("fake", "wrong", "repair"),
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
def test_a_docker_that_may_less_or_is_elsewhere_is_a_warning(
    machine: Machine, fake: str, wrong: str, repair: str
) -> None:
    machine.has("docker", fake)
    code, output = machine.doctor()
    assert code == 0
    assert wrong in complaint(output)[0]
    assert repair in complaint(output)[1]


def test_a_rootless_docker_that_may_limit_cpu_is_well(machine: Machine) -> None:
    machine.has("docker", DOCKER.replace("name=seccomp", "name=rootless"))
    assert machine.doctor("docker") == (0, "")


def test_a_docker_host_that_is_exported_and_does_not_answer_is_named(machine: Machine) -> None:
    machine.variables["DOCKER_HOST"] = "unix:///home/me/.colima/docker.sock"
    machine.has("docker", "case $1 in --version) echo 'Docker version 28.2.2' ;; *) exit 1 ;; esac")
    code, output = machine.doctor()
    assert code == 1
    wrong, repair = complaint(output)
    assert wrong.startswith("FAIL  Docker is not responding at unix:///home/me/.colima/docker.sock, set in this shell.")
    assert repair.startswith("unset DOCKER_HOST")


def test_colima_is_started_where_it_is_what_runs_docker(machine: Machine) -> None:
    machine.has("uname", "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac")
    machine.has("colima", "true")
    machine.has("docker", DOCKER.replace("8589934592", "2147483648"))
    assert complaint(machine.doctor()[1])[1].startswith("colima stop && colima start --cpu 4 --memory 6")
    machine.has("docker", "case $1 in --version) echo 'Docker version 28.2.2' ;; *) exit 1 ;; esac")
    assert complaint(machine.doctor()[1])[1].startswith("colima start --cpu 4 --memory 6")


def test_another_program_of_a_tools_name_is_named_by_its_path(machine: Machine) -> None:
    """As the Ruby gem tilt, or the synthesizer helm."""
    machine.has("helm", "exit 1")
    wrong, repair = complaint(machine.doctor()[1])
    assert f"{machine.bin}/helm fails to run, or is another program of the same name" in wrong
    assert repair == "helm version --short"


def test_files_with_windows_line_ends_are_named(machine: Machine, own_kubeconfig: Path) -> None:
    assert own_kubeconfig.exists()
    (machine.repository / "Dockerfile").write_bytes(b"FROM x\r\n")
    code, output = machine.doctor("checkout")
    assert code == 1
    wrong, repair = complaint(output)
    assert "(CRLF), which shells cannot read: Dockerfile." in wrong
    assert repair == "git rm -r --cached --quiet . && git reset --hard"


def test_links_that_were_written_as_files_are_named(machine: Machine, own_kubeconfig: Path) -> None:
    assert own_kubeconfig.exists()
    link = machine.repository / "platform/helm/task-api/charts/library"
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_text("../../service")
    code, output = machine.doctor("checkout")
    assert code == 1
    wrong, repair = complaint(output)
    assert "Symbolic links are plain files here, as Git for Windows writes them" in wrong
    assert repair == "git config core.symlinks true && git checkout -- platform/helm/task-api/charts/library"


@pytest.mark.parametrize(
    ("git", "wrong", "repair"),
    [
        (
            f"if [[ $1 == rev-parse ]]; then exit 128; fi\n{GIT}",
            "This folder is not a Git repository.",
            "git init && git add --all",
        ),
        (GIT.replace("origin/main", "origin/trunk"), "The default branch is trunk,", "git branch -m trunk main"),
    ],
)
def test_what_kind_of_checkout_it_is_is_a_warning(machine: Machine, git: str, wrong: str, repair: str) -> None:
    machine.has("git", git)
    code, output = machine.doctor()
    assert code == 0
    assert wrong in complaint(output)[0]
    assert repair in complaint(output)[1]


def test_what_is_exported_and_left_out_is_named(machine: Machine) -> None:
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
    ("variables", "wrong", "repair"),
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
def test_what_is_exported_and_matters_is_a_warning(
    machine: Machine, variables: dict[str, str], wrong: str, repair: str
) -> None:
    machine.variables |= variables
    code, output = machine.doctor()
    assert code == 0
    assert wrong in complaint(output)[0]
    assert repair in complaint(output)[1]
