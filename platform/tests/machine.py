"""A machine with fakes of every tool that the kit calls, for tests of its scripts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from manifests import REPOSITORY

BASE = ["awk", "bash", "dirname", "env", "grep", "head", "id", "sed"]
"""Present on every system; doctor.sh uses the real ones."""

DOCKER = """
case "$*" in
  --version) echo 'Docker version 20.10.24, build 297e128' ;;
  'version --format {{.Server.Version}}') echo 20.10.24 ;;
  version) ;;
  'info --format {{.MemTotal}}') echo 8589934592 ;;
  'info --format {{.DockerRootDir}} '*) echo '/var/lib/docker [name=seccomp,profile=builtin] cgroup-v2 cpu-true' ;;
  'context inspect --format {{.Endpoints.docker.Host}}') echo unix:///var/run/docker.sock ;;
  'container inspect task-platform-control-plane') exit 1 ;;
  'container inspect --format {{ .State.Running }} task-platform-registry') exit 1 ;;
  *) echo "docker $*: not faked" >&2; exit 64 ;;
esac
"""
GIT = """
case "$1" in
  --version) echo 'git version 2.39.5' ;;
  symbolic-ref) echo origin/main ;;
esac
"""
CAT = """
case "$*" in
  */max_user_watches) echo 524288 ;;
  */max_user_instances) echo 512 ;;
esac
"""


def kubectl(client: str = "v1.36.1", server: str | None = None) -> str:
    """A kubectl of this version that prints `kubectl version --output yaml`, with the server's version if given."""
    client_output = version_of("client", client) + "kustomizeVersion: v4.5.7\n"
    full_output = client_output + version_of("server", server) if server else client_output
    return f"""
case "$*" in
  *'version --client --output yaml') printf '%s' '{client_output}' ;;
  *'version --output yaml') printf '%s' '{full_output}' ;;
  *'version --client')
    echo 'Client Version: version.Info{{Major:"1", GitVersion:"{client}"}}'; echo 'Kustomize Version: v4.5.7' ;;
  *'config current-context') echo production ;;
  *'config get-contexts kind-task-platform') ;;
  *) exit 1 ;;
esac
"""


def version_of(side: str, version: str) -> str:
    lines = (
        *(f"{side}Version:", '  buildDate: "2026-05-12T09:11:04Z"', "  compiler: gc", "  gitTreeState: clean"),
        *(f"  gitVersion: {version}", "  goVersion: go1.26.8", '  major: "1"', "  platform: linux/amd64"),
    )
    return "\n".join(lines) + "\n"


class Machine:
    """A machine with every requirement met, until a test removes or replaces a tool."""

    def __init__(self, folder: Path, port: int) -> None:
        self.bin = folder
        self.repository = REPOSITORY
        self.variables = {"HTTP_PORT": str(port), "HTTPS_PORT": str(port + 1), "HOME": str(folder)}
        self.link_tools(*BASE)
        self.add_tool("uname", "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac")
        self.add_tool("git", GIT)
        self.add_tool("python3.11", 'case "$1" in --version) echo "Python 3.11.9" ;; esac')
        self.add_tool("docker", DOCKER)
        self.add_tool("cat", CAT)
        self.add_tool("kind", "echo 'kind version 0.32.0'")
        self.add_tool("kubectl", kubectl())
        self.add_tool("helm", "echo v3.22.0+g3a3e3ff")
        self.add_tool("openssl", "echo 'OpenSSL 3.0.19 27 Jan 2026'")
        self.add_tool("curl", "echo 'curl 8.5.0 (x86_64-pc-linux-gnu)'")
        self.add_tool("tilt", "echo 'v0.37.6, built 2026-07-29'")
        self.add_tool("wrk", "echo 'wrk 4.2.0 [epoll] Copyright (C) 2012 Will Glozer'; exit 1")

    def set_os_release(self, os_release: str) -> None:
        """Linux with this os-release."""
        self.add_tool("cat", f"case $* in /etc/os-release) printf '%s' '{os_release}' ;; esac\n{CAT}")

    def add_python(self, name: str, version: str, implementation: str = "cpython", free_threaded: int = 0) -> None:
        """The Python that runs the tests, reporting a different version."""
        statements = (
            "import sys, sysconfig",
            f"sys.version_info = {(*map(int, version.split('.')), 0)}",
            f"sys.implementation.name = '{implementation}'",
            f"sysconfig.get_config_var = lambda name: {free_threaded}",
            "exec(sys.argv[1])",
        )
        self.add_tool(
            name,
            f'if [[ $1 == --version ]]; then echo "Python {version}.0"; exit; fi\n'
            f'exec {sys.executable} -I -c "{"; ".join(statements)}" "$3"',
        )

    def add_tool(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
        (self.bin / name).chmod(0o755)

    def link_tools(self, *names: str) -> None:
        """Links the real tools."""
        for name in names:
            path = shutil.which(name)
            assert path is not None
            (self.bin / name).symlink_to(path)

    def remove_tool(self, name: str) -> None:
        (self.bin / name).unlink()

    def doctor(self, *checks: str) -> tuple[int, str]:
        return self.run("scripts/doctor.sh", *checks)

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        """The script's exit code and its whole output."""
        done = subprocess.run(
            [self.repository / script, *arguments],
            env={"PATH": str(self.bin), **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout
