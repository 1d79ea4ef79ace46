"""Runs the repository's workflows locally with act: the real shell steps, with stand-ins for actions.

The stand-ins are in platform/tests/actions: OWNER/NAME/action.yml for an action, runner/ for programs of GitHub's
runners that take minutes, or that call GitHub. They append their calls to a journal, one line each: `JOB: call`. The
rest, bash, git, docker, helm, kubectl and the scripts, is real.

act runs jobs sequentially, each in a separate folder. It does not support concurrency groups, permissions, environments
with reviewers, and timeouts; and it has no signing identity.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from e2e.cluster import REPOSITORY
from repository_copy import copy_repository

ACTIONS = REPOSITORY / "platform/tests/actions"
OWNER = "You"
NAME = f"{OWNER}/it"
SOURCE = f"https://github.com/{NAME}"
WORKFLOW_SECRETS = {"GITHUB_TOKEN": "the-token-of-the-run"}
IDENTITY = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]


class Origin:
    """Stands for the repository on GitHub, with the content of this one, and a clone for changes."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "origin.git"
        self.gates = self.bare / "gates"
        self._clone = copy_repository(folder / "clone")
        self._git("symbolic-ref", "HEAD", "refs/heads/main")
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", self.bare], check=True)
        self.gates.mkdir()
        # GitHub serves any commit by its hash.
        subprocess.run(["git", "--git-dir", self.bare, "config", "uploadpack.allowAnySHA1InWant", "true"], check=True)
        self._git("remote", "add", "origin", str(self.bare))

    def commit(self, message: str, changes: Mapping[str, str] | None = None, *, branch: str = "main") -> str:
        """Pushes a commit on top of the branch. Each change is a file and its new content."""
        if branch != "main":
            self._git("checkout", "--quiet", "-B", branch, "main")
        for file, text in (changes or {}).items():
            (self._clone / file).parent.mkdir(parents=True, exist_ok=True)
            (self._clone / file).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        commit = self._git("rev-parse", "HEAD")
        self._git("push", "--quiet", "--force", "origin", branch)  # each branch starts at main again
        if branch != "main":
            self._git("checkout", "--quiet", "main")
        return commit

    def tag(self, name: str, commit: str) -> None:
        self._git("tag", name, commit)
        self._git("push", "--quiet", "origin", f"refs/tags/{name}")

    def read(self, file: str) -> str:
        """A file on main."""
        return (self._clone / file).read_text()

    def clone(self, commit: str, folder: Path) -> None:
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(self.bare), folder], check=True)
        subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=folder, check=True)

    def _git(self, *arguments: str) -> str:
        command = ["git", *IDENTITY, *arguments]
        done = subprocess.run(command, cwd=self._clone, capture_output=True, text=True, check=True)
        return done.stdout.strip()


@dataclasses.dataclass(frozen=True)
class Settings:
    """Secrets and variables of the repository, or of an environment."""

    secrets: Mapping[str, str]
    variables: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Step:
    job: str
    name: str
    result: str


@dataclasses.dataclass(frozen=True)
class Run:
    """The outcome of a run."""

    commit: str
    succeeded: bool
    jobs: dict[str, str]
    """Results by job, in order of completion; skipped jobs are missing."""
    steps: list[Step]
    """In order of completion; skipped steps are missing."""
    journal: list[str]
    summaries: dict[str, str]
    """Each job's summary for the run's page."""
    outputs: dict[str, str]
    """Of steps, by JOB.NAME."""
    environments: dict[str, list[dict[str, str]]]
    """Environments of steps and of scripts in them, by job."""
    folder: Path
    log: str

    def journal_of(self, job: str) -> list[str]:
        """The job's calls of stand-ins."""
        return [line.removeprefix(f"{job}: ") for line in self.journal if line.startswith(f"{job}: ")]

    def steps_of(self, job: str) -> dict[str, str]:
        """The job's steps with their results."""
        return {step.name: step.result for step in self.steps if step.job == job}

    def seen_by(self, secret: str) -> set[tuple[str, str]]:
        """Jobs and variables in which a step had access to the secret, alone or as part of a value."""
        return {
            (job, name)
            for job, found in self.environments.items()
            for environment in found
            for name, value in environment.items()
            if secret in value
        }

    def artifact(self, name: str) -> Path:
        return self.folder / "artifacts" / name


class Runner:
    """GitHub with its runners, for the workflows of one origin."""

    def __init__(
        self,
        origin: Origin,
        folder: Path,
        *,
        registry: str,
        repository: Settings,
        environments: Mapping[str, Settings],
    ) -> None:
        self.origin = origin
        self._folder = folder
        self._registry = registry
        self._repository = repository
        self._environments = environments
        self._runs = 0

    def push(self, commit: str, **options: Any) -> Run:
        """The run of a push of that commit to main."""
        return self._run("ci-cd.yml", commit, "push", _pushed("refs/heads/main", commit), **options)

    def pull_request(self, commit: str, **options: Any) -> Run:
        """The run of a pull request whose merge commit with main is that commit."""
        event = {"number": 7, "pull_request": {"base": {"ref": "main"}, "head": {"ref": "change"}}}
        return self._run("ci-cd.yml", commit, "pull_request", event, **options)

    def dispatch(self, workflow: str, commit: str, inputs: Mapping[str, str], *, branch: str = "main") -> Run:
        """The run of a click on `Run workflow`."""
        event = {"ref": f"refs/heads/{branch}", "inputs": dict(inputs)}
        return self._run(workflow, commit, "workflow_dispatch", event)

    def tagged(self, tag: str, commit: str) -> Run:
        """The run of a push of a tag."""
        return self._run("release.yml", commit, "push", _pushed(f"refs/tags/{tag}", commit))

    def _run(
        self,
        workflow: str,
        commit: str,
        name: str,
        event: Mapping[str, Any],
        *,
        fails: Iterable[str] = (),
        secrets: bool = True,
        variables: Mapping[str, str] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> Run:
        """`fails` are lines of the journal, or prefixes, at which the call fails; `secrets` is whether the run has
        access to them; `variables` are added to the repository's; `overrides` take precedence over a job's `env`."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        for part in ("artifacts", "environments", "programs", "home"):
            (folder / part).mkdir(parents=True)
        for program in (ACTIONS / "runner").glob("*.sh"):
            (folder / "programs" / program.stem).symlink_to(program)
        (folder / "journal").touch()
        (folder / "fails").write_text("".join(f"{line}\n" for line in fails))
        clone = folder / "clone"
        self.origin.clone(commit, clone)
        text = (clone / ".github/workflows" / workflow).read_text()
        secret = dict(WORKFLOW_SECRETS)
        if secrets:
            secret |= self._repository.secrets
            secret |= by_environment({name: settings.secrets for name, settings in self._environments.items()})
        variable = {**self._repository.variables, **(variables or {})}
        variable |= by_environment({name: settings.variables for name, settings in self._environments.items()})
        files = {
            "workflow.yml": adapt_for_act(text),
            "event.json": json.dumps(event),
            "secrets.yaml": json.dumps(secret),
            "variables.yaml": json.dumps(variable),
        }
        for file, content in files.items():
            (folder / file).write_text(content)
        ref = event.get("ref", "refs/pull/7/merge")
        environment = {
            "GITHUB_REPOSITORY": NAME,
            # Missing in act; it is the signing identity.
            "GITHUB_WORKFLOW_REF": f"{NAME}/.github/workflows/{workflow}@{ref}",
            **(overrides or {}),
        }
        result = subprocess.run(
            [
                *(REPOSITORY / ".tools/act", name, "--json", "--rm", "--directory", clone),
                *("--workflows", folder / "workflow.yml", "--eventpath", folder / "event.json"),
                *("--secret-file", folder / "secrets.yaml", "--var-file", folder / "variables.yaml"),
                *("--platform", "ubuntu-24.04=-self-hosted", "--action-cache-path", folder / "act"),
                # Concurrently starting jobs write to one map in act 0.2.89, which sometimes crashes it.
                *("--no-skip-checkout", "--no-cache-server", "--concurrent-jobs", "1", "--actor", OWNER),
                *(argument for value in environment.items() for argument in ("--env", "=".join(value))),
                *(argument for value in stand_ins(text) for argument in ("--local-repository", value)),
            ],
            env=self._environment(folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        run = _parse_result(commit, folder, result)
        if "gate" in run.jobs:
            (self.origin.gates / commit).write_text(run.jobs["gate"])
        return run

    def _environment(self, folder: Path) -> dict[str, str]:
        """Steps inherit act's environment."""
        return {
            **{name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ},
            "PATH": f"{folder}/programs:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "PIPELINE_RUN": str(folder),
            "PIPELINE_ORIGIN": str(self.origin.bare),
            "PIPELINE_TOOLS": str(REPOSITORY / ".tools"),
            "PIPELINE_PYTHON": str(Path(sys.executable).parent),
            "PIPELINE_REGISTRY": self._registry,
        }


def _pushed(ref: str, commit: str) -> dict[str, Any]:
    return {"ref": ref, "after": commit, "deleted": False}


def stand_ins(workflow: str) -> list[str]:
    """OWNER/NAME@HASH=FOLDER for each action of the workflow."""
    found = []
    for action, pin in sorted(set(re.findall(r"uses: ([\w.-]+/[\w.-]+)@(\S+)", workflow))):
        folder = ACTIONS / action
        assert (folder / "action.yml").is_file(), (
            f"{action} has no stand-in. Write {folder.relative_to(REPOSITORY)}/action.yml: its behaviour on GitHub, as "
            "far as other steps depend on it; see the existing ones."
        )
        found.append(f"{action}@{pin}={folder}")
    return found


def adapt_for_act(workflow: str) -> str:
    """The workflow, adapted to act's limitations.

    act has one set of secrets and variables for all jobs: in a job with an environment, `secrets.X` becomes that of
    X_ENVIRONMENT, or else the repository's; `vars.X` likewise. And it evaluates the matrix of a job that will be
    skipped, from a missing output, and aborts on failure.
    """
    names = yaml.safe_load(workflow)["jobs"]
    before, head, jobs = workflow.partition("\njobs:\n")
    text = before + head
    for job in re.split(r"^(?=  [\w-]+:$)", jobs, flags=re.MULTILINE):
        environment = names.get(job.partition(":")[0].strip(), {}).get("environment", {}).get("name")
        if environment:
            name = environment[3:-2].strip() if environment.startswith("${{") else f"'{environment}'"
            scoped = rf"(\1[format('\2_{{0}}', {name})] || \1.\2)"
            job = re.sub(r"\b(secrets|vars)\.(\w+)", scoped, job)
        matrix = r"fromJSON(needs.\1.result == 'success' && needs.\1.outputs.\2 || '[0]')"
        text += re.sub(r"fromJSON\(needs\.(\w+)\.outputs\.(\w+)\)", matrix, job)
    return text


def by_environment(values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Values by the names that `adapt_for_act` uses."""
    return {f"{key}_{name}": value for name, settings in values.items() for key, value in settings.items()}


def _parse_result(commit: str, folder: Path, result: subprocess.CompletedProcess[str]) -> Run:
    entries = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    jobs: dict[str, str] = {}
    steps, lines = [], []
    summaries: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for entry in entries:
        job = entry.get("jobID", "")
        if "jobResult" in entry:
            jobs.pop(job, None)
            jobs[job] = entry["jobResult"]
        # Steps inside a stand-in have an id of two parts.
        if "stepResult" in entry and entry.get("stage") == "Main" and len(entry["stepID"]) == 1:
            steps.append(Step(job, entry["step"].partition("@")[0], entry["stepResult"]))
        if entry.get("command") == "summary":
            summaries[job] = summaries.get(job, "") + entry["content"]
        if entry.get("command") == "set-output":
            outputs[f"{job}.{entry['name']}"] = entry["arg"]
        lines.append(f"{job}: {entry['msg'].rstrip()}")
    environments: dict[str, list[dict[str, str]]] = {}
    for file in sorted((folder / "environments").iterdir()):
        pairs = [pair.partition("=") for pair in file.read_text(errors="replace").split("\0") if pair]
        environments.setdefault(file.name.partition(".")[0], []).append({key: value for key, _, value in pairs})
    shutil.rmtree(folder / "act", ignore_errors=True)  # each run copies an image several times
    return Run(
        commit=commit,
        succeeded=result.returncode == 0,
        jobs=jobs,
        steps=steps,
        journal=(folder / "journal").read_text().splitlines(),
        summaries=summaries,
        outputs=outputs,
        environments=environments,
        folder=folder,
        log="\n".join([*lines, result.stderr]),
    )
