"""Installs and builds are independent of shell, hook, profile, archive and operating system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from machine import Machine
from manifests import REPOSITORY
from repository_copy import copy_repository
from under_test import PACKAGE, SERVICE

CODE = f"services/{SERVICE}/src/{PACKAGE}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository; tests that change it restore it."""
    return copy_repository(tmp_path_factory.mktemp("copy"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The inputs of an image and of its tag, without Git."""
    service = f"services/{SERVICE}"
    for path in (
        "Dockerfile",
        ".dockerignore",
        "versions.env",
        f"{service}/requirements.txt",
        f"{service}/pyproject.toml",
    ):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / "tree" / path)
    for folder in ("scripts", "packages/chassis/src", CODE):
        shutil.copytree(REPOSITORY / folder, tmp_path / "tree" / folder)
    return tmp_path / "tree"


def environment(**variables: str | None) -> dict[str, str]:
    """The tests' environment with these variables set, or unset if None."""
    both: dict[str, str | None] = {**os.environ, **variables}
    return {name: value for name, value in both.items() if value is not None}


def tag(tree: Path, **variables: str | None) -> str:
    done = subprocess.run(
        ["scripts/image-tag.sh"],
        cwd=tree,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.fullmatch(r"content-[0-9a-f]{12}\n", done.stdout)
    return done.stdout


# --- image tag ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variables",
    [
        {"CDPATH": "/usr:."},
        {"GIT_DIR": "/nowhere/.git", "GIT_INDEX_FILE": ".git/index", "GIT_WORK_TREE": "/"},
        {"GREP_OPTIONS": "--color=always", "GREP_COLOR": "1;32"},
        {"POSIXLY_CORRECT": "1"},
        {"SHELLOPTS": "braceexpand:noclobber:noglob"},
        {"BASHOPTS": "failglob:nocasematch"},
        {"BASH_FUNC_sed%%": "() { echo $RANDOM; }", "BASH_FUNC_find%%": "() { false; }"},
        {"HOME": None},
        {"TMPDIR": "/nowhere"},
        {"LC_ALL": "C", "LANG": "tr_TR.UTF-8"},
        {"LANG": "tr_TR.UTF-8"},
        {"SOURCE_DATE_EPOCH": "1", "TZ": "Asia/Tokyo"},
    ],
    ids=lambda variables: "+".join(variables),
)
def test_exported_variables_do_not_change_the_tag(tree: Path, variables: dict[str, str | None]) -> None:
    (tree / CODE / "Zeta.py").touch()  # sorted differently in another locale
    assert tag(tree, **variables) == tag(tree)


def test_another_platform_has_another_tag(tree: Path) -> None:
    assert tag(tree, DOCKER_DEFAULT_PLATFORM="linux/arm64") != tag(tree)


def test_tag_depends_on_content_with_git_without_git_and_in_an_ignored_folder(tree: Path) -> None:
    def git(folder: Path, *arguments: str) -> None:
        subprocess.run(["git", "-C", folder, *arguments], env=environment(), capture_output=True, check=True)

    def copied(name: str) -> Path:
        shutil.copytree(tree, tree.parent / name, symlinks=True)
        return tree.parent / name

    clone, committed, ignored = copied("clone"), copied("committed"), copied("outer/ignored")
    git(clone, "init")
    git(committed, "init")
    git(committed, "add", "--all")
    git(ignored.parent, "init")
    (ignored.parent / ".gitignore").write_text("*\n")
    (tree.parent / "a link").symlink_to(copied("with spaces and umlauts äöü"))
    places = [tree, clone, committed, ignored, tree.parent / "a link"]
    before = {tag(place) for place in places}
    for place in places:
        with (place / CODE / "app.py").open("a") as file:
            file.write("# a changed line\n")
    after = {tag(place) for place in places}
    assert len(before) == len(after) == 1
    assert before != after


@pytest.mark.parametrize("name", ["new.py", "Übung.sql", "two words.txt", "-n.txt", "ignored by a global list.log"])
def test_additional_file_changes_the_tag_whatever_its_name(tree: Path, name: str) -> None:
    before = tag(tree)
    (tree / CODE / name).touch()
    assert tag(tree) != before


def test_line_endings_and_link_targets_are_content(tree: Path) -> None:
    (tree / CODE / "link").symlink_to("app.py")
    tags = [tag(tree)]
    (tree / CODE / "link").unlink()
    (tree / CODE / "link").symlink_to("service.py")
    tags.append(tag(tree))
    app = tree / CODE / "app.py"
    app.write_bytes(app.read_bytes().replace(b"\n", b"\r\n"))
    tags.append(tag(tree))
    assert len(set(tags)) == len(tags)


def test_files_not_sent_to_docker_do_not_change_the_tag(tree: Path) -> None:
    before = tag(tree)
    source = tree / CODE
    for path in ("__pycache__/app.pyc", "../service.egg-info/PKG-INFO", ".DS_Store", ".app.py.swp", "app.py~"):
        (source / path).parent.mkdir(exist_ok=True)
        (source / path).write_text("x")
    for inside in (source / "app.py", source):
        inside.chmod(0o700)  # as with a umask of 077
    assert tag(tree) == before


def test_image_runs_the_package_of_its_service_and_ignores_files_beside_it() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert "ls /app/src" not in dockerfile
    assert dockerfile.count("$(cat /build/package)") == 3


# --- builds ---------------------------------------------------------------------------

BUILDER = """
case "$*" in
  'build --help') echo '      --load   Shorthand for "--output=type=docker"' ;;
  'image inspect '*) exit 1 ;;
  build*) echo "$*" ;;
esac
"""


@pytest.fixture
def builder(tmp_path: Path, tree: Path) -> Machine:
    """A machine with a docker that prints its build command."""
    (tmp_path / "bin").mkdir()
    machine = Machine(tmp_path / "bin", 18080)
    machine.repository = tree
    (tree / "scripts/doctor.sh").write_text("#!/bin/sh\n")
    machine.link_tools("find", "sort", "tr", "xargs", "sha256sum", "readlink")
    machine.add_tool("docker", BUILDER)
    return machine


def test_image_of_a_containerized_builder_is_loaded_into_docker(builder: Machine) -> None:
    assert " --load " in builder.run("scripts/image.sh")[1]
    builder.add_tool("docker", BUILDER.replace("--load", "--quiet"))  # the classic builder has no such option
    assert " --load " not in builder.run("scripts/image.sh")[1]


def test_proxy_is_passed_to_the_build_except_for_a_local_one(builder: Machine) -> None:
    builder.variables |= {"HTTPS_PROXY": "http://proxy:3128", "http_proxy": "http://127.0.0.1:3128"}
    code, output = builder.run("scripts/image.sh")
    assert code == 0, output
    assert "--build-arg=HTTPS_PROXY " in output
    assert "--build-arg=http_proxy" not in output
    assert "proxy:3128" not in output  # it may contain a password


def sourced(script: str, printed: str, **variables: str | None) -> str:
    """What a script sees after sourcing it."""
    command = ["bash", "-euo", "pipefail", "-c", f'. {script}; echo "{printed}"']
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(**variables), capture_output=True, text=True, check=True
    )
    return done.stdout.rstrip("\n")


def test_cluster_and_release_are_those_configured(tmp_path: Path) -> None:
    foreign = {"KIND_EXPERIMENTAL_PROVIDER": "podman", "KIND_CLUSTER_NAME": "other", "HELM_NAMESPACE": "other"}
    foreign |= {"HELM_KUBECONTEXT": "production", "KUBECONFIG": str(tmp_path / "mine")}
    variables = sourced("scripts/cluster.sh", "$(env)", **foreign).splitlines()
    names = {line.partition("=")[0] for line in variables}
    assert not names & (foreign.keys() - {"KUBECONFIG"})
    assert f"KUBECONFIG={REPOSITORY}/.kube/config" in variables
    assert "KUBECTL_KUBERC=false" in variables


@pytest.mark.parametrize(
    ("variables", "excepted"),
    [
        ({"HTTPS_PROXY": "http://proxy:1"}, "127.0.0.1,localhost,.localhost,::1"),
        ({"http_proxy": "http://proxy:1", "NO_PROXY": "corp"}, "corp,127.0.0.1,localhost,.localhost,::1"),
        ({"no_proxy": "corp"}, "corp"),
    ],
)
def test_requests_to_this_machine_bypass_the_proxy(variables: dict[str, str], excepted: str) -> None:
    nothing = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "no_proxy"))
    nothing |= {name.upper(): None for name in nothing}
    values = sourced("scripts/isolate.sh; . scripts/isolate.sh", "$no_proxy", **(nothing | variables))
    assert values == excepted


def test_python_settings_do_not_reach_child_processes() -> None:
    foreign = {"PYTHONPATH": "/nowhere", "PYTHONOPTIMIZE": "2", "PYTHONSAFEPATH": "1", "VIRTUAL_ENV": "/nowhere"}
    foreign |= {"PYTHONDONTWRITEBYTECODE": "1"}  # each start would compile all packages
    variables = sourced("scripts/isolate.sh", "$(env)", **foreign).splitlines()
    assert not {line.partition("=")[0] for line in variables} & foreign.keys()


def test_variables_that_would_change_the_installation_are_dropped_and_reported() -> None:
    foreign = {"PIP_TARGET": "/nowhere", "PIP_CONSTRAINT": "other.txt", "PIP_DRY_RUN": "1", "UV_SYSTEM_PYTHON": "1"}
    foreign |= {"UV_CONFIG_FILE": "/nowhere/uv.toml", "UV_EXCLUDE_NEWER": "2020-01-01", "UV_OVERRIDE": "other.txt"}
    foreign |= {
        "UV_DEFAULT_INDEX": "https://other/simple",
        "UV_PROJECT_ENVIRONMENT": "/nowhere",
        "UV_LINK_MODE": "symlink",
    }
    allowed = {
        "PIP_INDEX_URL": "https://mirror/simple",
        "PIP_NO_INDEX": "0",
        "UV_CACHE_DIR": "/cache",
        "UV_HTTP_TIMEOUT": "9",
    }
    *variables, dropped = sourced("scripts/isolate.sh", "$(env; echo $ISOLATED)", **foreign, **allowed).splitlines()
    assert not {line.partition("=")[0] for line in variables} & foreign.keys()
    assert {f"{name}={value}" for name, value in allowed.items()} <= set(variables)
    assert foreign.keys() <= set(dropped.split())


def test_missing_home_is_the_users_home() -> None:
    assert Path(sourced("scripts/isolate.sh", "$HOME", HOME=None)).is_dir()


def test_every_executed_script_is_isolated() -> None:
    """Directly or through what it sources first. The exceptions start one process and print its output."""
    exceptions = {
        "find-pip.sh",
        "find-python.sh",
        "go-tools.sh",
        "release-notes.sh",
        "scan.sh",
        "isolate.sh",
        "local-env.sh",
        "local-postgres.sh",
    }
    sources = re.compile(r"^\. (?:\"\$root/)?scripts/(?:isolate|versions|cluster|service-python)\.sh", re.MULTILINE)
    scripts = [*REPOSITORY.glob("scripts/*.sh"), *REPOSITORY.glob("platform/cluster/*.sh")]
    assert len(scripts) > 35
    for script in scripts:
        if script.name in exceptions:
            continue
        text = script.read_text()
        assert sources.search(text), script
        assert not re.search(r"^(?:root=\$\()?cd ", text, re.MULTILINE), script


# --- make -----------------------------------------------------------------------------


def make(folder: Path, *arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    outer = dict.fromkeys(("MAKEFLAGS", "MAKELEVEL", "MFLAGS"))
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment(**(outer | variables)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_windows_line_endings_are_reported_for_every_target(checkout: Path) -> None:
    script = checkout / "scripts/up.sh"
    as_it_is = script.read_bytes()
    script.write_bytes(as_it_is.replace(b"\n", b"\r\n"))
    try:
        done = make(checkout, "doctor")
    finally:
        script.write_bytes(as_it_is)
    assert done.returncode == 2
    assert "(CRLF), which no shell can run" in done.stderr
    assert "git rm -r --cached --quiet . && git reset --hard" in done.stderr


def test_archive_without_file_modes_is_reported(checkout: Path) -> None:
    script = checkout / "scripts/doctor.sh"
    script.chmod(0o644)
    try:
        done = make(checkout, "doctor")
    finally:
        script.chmod(0o755)
    assert done.returncode == 2
    assert "To fix: chmod +x .ci/run scripts/*.sh platform/cluster/*.sh" in done.stderr
    assert make(checkout, "help").returncode == 0


def test_every_text_file_is_checked_out_with_unix_line_endings() -> None:
    listed = ["git", "ls-files", "--eol", "--cached", "--others", "--exclude-standard"]
    lines = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    texts = [line for line in lines if line.split()[1] not in ("w/-text", "w/none", "w/")]
    assert len(texts) > 200
    assert [line for line in texts if not re.search(r"w/lf\s+attr/text=auto eol=lf", line)] == []


def test_down_and_up_run_sequentially_despite_jobs_in_makeflags(checkout: Path, tmp_path: Path) -> None:
    originals = {name: (checkout / "scripts" / name).read_text() for name in ("down.sh", "up.sh")}
    (checkout / "scripts/down.sh").write_text(f"#!/bin/sh\nsleep 0.5\ntouch '{tmp_path}/gone'\n")
    (checkout / "scripts/up.sh").write_text(f"#!/bin/sh\ntest -e '{tmp_path}/gone'\n")
    try:
        done = make(checkout, "down", "up", MAKEFLAGS="-j4")
    finally:
        for name, text in originals.items():
            (checkout / "scripts" / name).write_text(text)
    assert done.returncode == 0, done.stderr


def test_bash_startup_files_are_not_read(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("echo from the profile\ncd /\n")
    image, script = checkout / "scripts/image.sh", "#!/usr/bin/env bash\necho $(scripts/image-tag.sh)\n"
    original = image.read_text()
    image.write_text(script)
    try:
        done = make(
            checkout, "image", BASH_ENV=str(tmp_path / "profile"), CDPATH="/usr:.", SHELLOPTS="noclobber:noglob"
        )
    finally:
        image.write_text(original)
    assert re.fullmatch(r"content-[0-9a-f]{12}\n", done.stdout), done.stdout + done.stderr


def test_name_variable_of_wsl_is_not_a_service_name(checkout: Path) -> None:
    original = (checkout / "scripts/install.sh").read_text()
    (checkout / "scripts/install.sh").write_text("#!/bin/sh\n")
    try:
        done = make(checkout, "new-service", NAME="DESKTOP-1234")
    finally:
        (checkout / "scripts/install.sh").write_text(original)
    assert done.returncode == 2
    assert "name the new service, make new-service NAME=orders" in done.stderr


def test_lint_in_an_archive_reports_what_is_missing(tmp_path: Path) -> None:
    folder = copy_repository(tmp_path)
    shutil.rmtree(folder / ".git")
    lint: list[str | Path] = [folder / "scripts/lint.sh", SERVICE]
    done = subprocess.run(
        lint, env=environment(GIT_CEILING_DIRECTORIES=str(tmp_path.parent)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("Create one: git init && git add --all\n")


# --- Python ---------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    machine = Machine(tmp_path / "bin", 18080)
    machine.remove_tool("python3.11")
    return machine


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        (["python3.13"], "python3.13"),
        (["python3.12"], "python3.12"),
        (["python3.12", "python3.13", "python3.14", "python3.11"], "python3.11"),
        (["python3.12", "python3.13", "python3.14"], "python3.14"),
        (["python3.10", "python3.9", "python3.15"], ""),
    ],
)
def test_python_of_the_image_is_preferred_then_the_newest(machine: Machine, pythons: list[str], expected: str) -> None:
    for python in pythons:
        machine.add_python(python, python.removeprefix("python"))
    machine.add_python("python3", pythons[0].removeprefix("python"))
    assert machine.run("scripts/find-python.sh") == (0 if expected else 1, f"{expected}\n" if expected else "")


@pytest.mark.parametrize(
    ("version", "implementation", "free_threaded", "code"),
    [("3.10", "cpython", 0, 1), ("3.15", "cpython", 0, 1), ("3.11", "pypy", 0, 1), ("3.14", "cpython", 1, 1)]
    + [(version, "cpython", 0, 0) for version in ("3.11", "3.12", "3.13", "3.14")],
)
def test_python_without_usable_packages_does_not_count(
    machine: Machine, version: str, implementation: str, free_threaded: int, code: int
) -> None:
    machine.add_python("python3", version, implementation, free_threaded)
    assert machine.run("scripts/find-python.sh") == (code, "" if code else "python3\n")


def test_configured_python_comes_first_even_with_spaces_in_its_path(machine: Machine, tmp_path: Path) -> None:
    machine.add_python("python3.11", "3.11")
    (tmp_path / "a b").mkdir()
    machine.add_python("python3.13", "3.13")
    (machine.bin / "python3.13").rename(tmp_path / "a b/python")
    machine.variables["PYTHON"] = str(tmp_path / "a b/python")
    assert machine.run("scripts/find-python.sh") == (0, f"{tmp_path}/a b/python\n")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_uvs_python_is_found_without_path(machine: Machine, version: str) -> None:
    machine.add_python(f"python{version}", version)
    (machine.bin / ".local/bin").mkdir(parents=True)
    python = (machine.bin / f"python{version}").rename(machine.bin / f".local/bin/python{version}")
    assert machine.run("scripts/find-python.sh") == (0, f"{python}\n")


# --- Python environments --------------------------------------------------------------

PYTHON = """
here=$(cd "$(dirname "$0")/.." && pwd -P)
case "$*" in
  '-m venv --clear .tools/pip')
    echo 'venv for pip' >> "$CALLS"
    mkdir -p .tools/pip/bin && cp "$0" .tools/pip/bin/python
    ;;
  '-m venv --clear --without-pip '*)
    echo "venv of VERSION" >> "$CALLS"
    rm -rf "$5" && mkdir -p "$5/bin" "$5/packages" && cp "$0" "$5/bin/python" && touch "$5/pyvenv.cfg"
    ;;
  '-I scripts/uv.py pip install --python env/bin/python '*'--require-hashes --only-binary :all: '*)
    echo uv >> "$CALLS"
    if [[ -n ${CUT_SHORT:-} ]]; then kill -9 $PPID; fi
    [[ -z ${NO_UV:-} ]] && : > env/packages/one
    ;;
  '-I -m pip --python env/bin/python '*'--require-hashes --only-binary :all: '*)
    { env | grep ^PIP_ | sort | tr '\\n' ' ' && echo pip; } >> "$CALLS"
    [[ -z ${NO_INDEX:-} ]] && : > env/packages/one
    ;;
  *realpath*) printf '%s\\n' "$here" VERSION && ls "$here/packages" ;;
  *'print(sys.version)'*) echo VERSION ;;
  *importlib.metadata*) [[ -e $here/packages/one && -z ${ELSEWHERE:-} ]] ;;
  *base_prefix*) [[ -e $here/pyvenv.cfg ]] ;;
  *'import pip, sys'*) [[ $here == */.tools/pip || -z ${NO_PIP:-} ]] ;;
esac
"""


class Installed:
    """A folder in which scripts/install.sh installs a list, with a fake Python."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        self.machine = Machine(folder / "bin", 18080)
        self.machine.remove_tool("cat")
        self.machine.link_tools("cat", "cksum", "cp", "ls", "mkdir", "rm", "sort", "tail", "touch", "tr")
        self.calls = folder / "calls"
        self.machine.variables["CALLS"] = str(self.calls)
        self.machine.repository = folder / "first place"
        shutil.copytree(REPOSITORY / "scripts", self.machine.repository / "scripts")
        (self.machine.repository / "scripts/doctor.sh").write_text("#!/bin/sh\n")
        self.lock.write_text("one==1.0 \\\n    --hash=sha256:0\n")
        for version in ("3.11", "3.13"):
            self.machine.add_tool(f"python{version}", PYTHON.replace("VERSION", version))

    @property
    def lock(self) -> Path:
        return self.machine.repository / "requirements.txt"

    def install(self, **variables: str) -> list[str]:
        """The steps that the installation needed."""
        self.calls.write_text("")
        self.machine.variables |= variables
        command = [
            "bash",
            "-c",
            'cd "$1" && scripts/install.sh env requirements.txt env/run.stamp',
            "-",
            str(self.machine.repository),
        ]
        done = subprocess.run(
            command,
            env={"PATH": str(self.machine.bin), **self.machine.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = done.stdout + done.stderr
        for name in variables:
            del self.machine.variables[name]
        return self.calls.read_text().splitlines()


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    done = Installed(tmp_path)
    assert done.install() == MADE_AGAIN, done.output
    return done


MADE_AGAIN = ["venv of 3.11", "uv"]
INSTALLED_AGAIN = ["uv"]
BY_PIP = "PIP_REQUIRE_VIRTUALENV=0 PIP_USER=0 pip"


def test_complete_environment_is_left_alone_whatever_the_mtimes(installed: Installed) -> None:
    installed.lock.touch()
    assert (installed.install(), installed.output) == ([], "")


def test_changed_list_is_installed(installed: Installed) -> None:
    installed.lock.write_text("one==1.1 \\\n    --hash=sha256:1\n")
    os.utime(installed.lock, (0, 0))  # older than the environment, as in an archive or after a checkout
    assert installed.install() == INSTALLED_AGAIN


def test_environment_with_a_missing_package_is_reinstalled(installed: Installed) -> None:
    (installed.machine.repository / "env/packages/one").unlink()
    assert installed.install() == INSTALLED_AGAIN


@pytest.mark.parametrize("missing", ["bin/python", "pyvenv.cfg"])
def test_environment_interrupted_during_creation_is_recreated(installed: Installed, missing: str) -> None:
    (installed.machine.repository / "env" / missing).unlink()
    (installed.machine.repository / "env/run.stamp").unlink()
    assert installed.install() == MADE_AGAIN


def test_environment_interrupted_during_installation_is_recreated(installed: Installed) -> None:
    """Its packages may be incomplete."""
    installed.lock.write_text("one==1.1 \\\n    --hash=sha256:1\n")
    assert installed.install(CUT_SHORT="1") == INSTALLED_AGAIN
    assert installed.install() == MADE_AGAIN


def test_failed_installation_keeps_the_previous_environment(installed: Installed) -> None:
    """As when offline on another branch: back on the first one, everything still works."""
    before = installed.lock.read_text()
    installed.lock.write_text("one==1.1 \\\n    --hash=sha256:1\n")
    assert installed.install(NO_UV="1", NO_INDEX="1") == [*INSTALLED_AGAIN, BY_PIP]
    assert "Is the package index reachable?" in installed.output
    installed.lock.write_text(before)
    assert installed.install() == []


def test_without_uv_pip_installs_and_it_is_reported(installed: Installed) -> None:
    (installed.machine.repository / "env/run.stamp").unlink()
    assert installed.install(NO_UV="1") == [*INSTALLED_AGAIN, BY_PIP]
    assert re.fullmatch(
        r"Installing 1 packages of requirements.txt with pip, since uv failed \(env/install.log\) \(\d+ s\)\n",
        installed.output,
    )
    assert installed.install() == []


def test_python_without_pip_gets_a_private_one_once(installed: Installed) -> None:
    """Like Debian's Python, which has venv and no pip."""
    (installed.machine.repository / "env/run.stamp").unlink()
    assert installed.install(NO_PIP="1") == ["venv for pip", *INSTALLED_AGAIN]
    (installed.machine.repository / "env/run.stamp").unlink()
    assert installed.install(NO_PIP="1") == INSTALLED_AGAIN


def test_moved_clone_recreates_its_environment(installed: Installed, tmp_path: Path) -> None:
    """Its scripts contain the absolute path."""
    installed.machine.repository = installed.machine.repository.rename(tmp_path / "second place")
    assert installed.install() == MADE_AGAIN
    assert installed.install() == []


def test_missing_python_recreates_the_environment(installed: Installed) -> None:
    (installed.machine.repository / "env/bin/python").unlink()
    (installed.machine.repository / "env/bin/python").symlink_to("/nowhere/python3.11")
    assert installed.install() == MADE_AGAIN


def test_configured_python_replaces_the_existing_one(installed: Installed) -> None:
    assert installed.install(PYTHON="python3.13") == ["venv of 3.13", *INSTALLED_AGAIN]
    assert installed.install(PYTHON="python3.13") == []
    assert installed.install() == []  # no other one is configured


def test_only_pip_settings_for_package_sources_are_kept(installed: Installed) -> None:
    (installed.machine.repository / "env/run.stamp").unlink()
    foreign = {
        "PIP_TARGET": "/nowhere",
        "PIP_DRY_RUN": "1",
        "PIP_USER": "1",
        "PIP_NO_BINARY": ":all:",
        "PIP_PYTHON": "/p",
    }
    allowed = {"PIP_INDEX_URL": "https://mirror/simple", "PIP_CERT": "/ca.pem"}
    (_, call) = installed.install(NO_UV="1", **foreign, **allowed)
    assert call == "PIP_CERT=/ca.pem PIP_INDEX_URL=https://mirror/simple PIP_REQUIRE_VIRTUALENV=0 PIP_USER=0 pip"


def test_packages_that_a_pip_conf_redirected_are_reported_missing(installed: Installed) -> None:
    (installed.machine.repository / "env/run.stamp").unlink()
    installed.install(ELSEWHERE="1")
    assert installed.output.endswith("To see which setting redirects them: pip config list\n")
    assert not (installed.machine.repository / "env/run.stamp").exists()
