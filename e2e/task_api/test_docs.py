"""The commands of docs/, as they are written, in a shell, in page order.

docs/deploy.md is a single sequence, so a section needs the previous ones. Replaced in the commands are the placeholders
that a reader replaces (host and account), and a port that may be in use on this machine. With each Helm version that
the chart supports; all but one only in `make e2e-full`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from documentation import Block, commands_run_by
from e2e.cluster import REPOSITORY
from e2e.eventually import eventually
from e2e.namespace import HELMS, MakeNamespace, Namespace, path_with_helm
from repository_copy import copy_repository, lend_environments

THIS = "e2e/task_api/test_docs.py"
ACCOUNT = "your-dockerhub-username"
DOCKER = ("Build and run the image", "Push the image")
RESTORE = "Back up and restore"


def sections(page: str) -> list[str]:
    """The page's sections with commands for this file, in page order."""
    return list(dict.fromkeys(block.section for block in commands_run_by(THIS, page)))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def as_script(block: Block, replaced: Mapping[str, str]) -> str:
    """The block as a script that stops at its first failing command, and terminates its background processes."""
    commands = block.commands
    port = free_port()
    ports = {
        "8000:": f"{port}:",
        "localhost:8000": f"localhost:{port}",
    }
    for old, new in {**replaced, **ports}.items():
        commands = commands.replace(old, new)
    # Without pipefail, as in a terminal, where a `grep` in a pipe may match nothing.
    return f"set +o pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{commands}"


# `go install` builds a Helm that assumes an old cluster unless it queries one; that of go-tools.sh does not.
PATH = f"{REPOSITORY}/.tools:{os.environ['PATH']}"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name == "HELM_VERSION" else pytest.mark.full) for name in HELMS],
)
def helm(request: pytest.FixtureRequest) -> str:
    """The Helm version that runs the commands, by its name in HELMS."""
    name: str = request.param
    return name


def make_with_helm(name: str, helm: str, make_namespace: MakeNamespace, folder: Path) -> Namespace:
    """A namespace with this name and Helm's, where that Helm is the first on the PATH."""
    namespace = make_namespace(f"{name}-{helm.removesuffix('_VERSION').lower().replace('_', '-')}")
    namespace.use_path(PATH if helm == "HELM_VERSION" else path_with_helm(helm, folder))
    return namespace


def run(section: str, page: str, namespace: Namespace, folder: Path, replaced: Mapping[str, str]) -> list[str]:
    """The output of each block of the section."""
    outputs = []
    for block in commands_run_by(THIS, page, section):

        def attempt(block: Block = block) -> str | None:
            done = namespace.attempt(as_script(block, replaced), folder=folder)
            # Metrics of a new pod appear with the next scrape of metrics-server, as the page says.
            if done.returncode != 0 and re.search("metrics not available yet|metrics not available for", done.stderr):
                return None
            assert done.returncode == 0, f"{block}\n{block.commands}\n{done.stdout}{done.stderr}"
            assert not re.search("^error", done.stderr, re.IGNORECASE | re.MULTILINE), f"{block}\n{done.stderr}"
            return done.stdout

        outputs.append(eventually(attempt, f"{block}: metrics of the pods are available", seconds=120))
    assert outputs
    return outputs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with uncommitted changes, which commands may modify."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_repository(folder)
    shutil.rmtree(folder / ".git")
    git = subprocess.run(["git", "rev-parse", "--absolute-git-dir"], cwd=REPOSITORY, capture_output=True, text=True)
    (folder / ".git").write_text(f"gitdir: {git.stdout}")  # `git rev-parse HEAD` is the repository's
    return folder


# --- docs/deploy.md -------------------------------------------------------------------

DEPLOY = "docs/deploy.md"


@pytest.fixture(scope="module")
def built(checkout: Path) -> Iterator[Path]:
    """The checkout in which the image was built and run as documented."""
    containers = subprocess.run(["docker", "ps", "--all", "--format", "{{.Names}}"], capture_output=True, text=True)
    assert "task-api" not in containers.stdout.split(), "remove the existing container: docker rm -f task-api"
    try:
        for block in commands_run_by(THIS, DEPLOY, DOCKER[0]):
            script = as_script(block, {})
            done = subprocess.run(["bash", "-euc", script], cwd=checkout, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            assert '"status":"ok"' in done.stdout
            assert "Listening on" in done.stdout + done.stderr
        yield checkout
    finally:
        subprocess.run(["docker", "rm", "--force", "task-api"], capture_output=True, check=True)


@pytest.mark.full  # half a minute; e2e/test_image.py and test_push.py test more
def test_image_is_built_run_and_pushed_as_documented(built: Path, registry: str) -> None:
    (block,) = commands_run_by(THIS, DEPLOY, DOCKER[1])
    script = block.commands.replace(ACCOUNT, f"{registry}/you")
    done = subprocess.run(["bash", "-euc", script], cwd=built, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    digests = re.findall(r"digest: (sha256:\w+)", done.stdout)
    assert len(digests) == 2
    assert digests[0] == digests[1]


@pytest.fixture(scope="module")
def published(image: str) -> Iterator[None]:
    """The image in the cluster under the page's names, as if the nodes had pulled it."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    name = f"{ACCOUNT}/task-api:{commit.stdout.strip()}"
    subprocess.run(["docker", "tag", image, name], check=True)
    load = ["kind", "load", "docker-image", name, "--name", "task-platform"]
    subprocess.run(load, capture_output=True, check=True, timeout=300)
    yield
    subprocess.run(["docker", "image", "rm", name], capture_output=True, check=True)


@pytest.fixture(scope="module")
def empty(make_namespace: MakeNamespace, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """A namespace without a release and without the certificate that the page creates."""
    namespace = make_with_helm("e2e-docs-deploy", helm, make_namespace, tmp_path_factory.mktemp("helm"))
    namespace.run("kubectl delete secret task-api-tls")
    return namespace


def secret(namespace: Namespace, name: str) -> dict[str, str]:
    data = json.loads(namespace.run(f"kubectl get secret {name} -o json"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.mark.full  # three minutes in total
@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("section", [section for section in sections(DEPLOY) if section not in DOCKER])
def test_deployment_guide_commands_work(section: str, empty: Namespace, checkout: Path) -> None:
    output = "".join(run(section, DEPLOY, empty, checkout, {"tasks.example.com": empty.host}))
    remaining = empty.run("kubectl get deployments,statefulsets,secrets,pvc -o name")
    if section == "Deploy with plain manifests":
        assert '"storage":"postgresql"' in output
        assert remaining == ""
    if section == "Deploy with Helm":
        assert "ok: a task was written, read and deleted" in output
        assert len(empty.run("kubectl get pods -l app=task-api -o name").split()) == 3
    if section == "Production":
        (lines,) = secret(empty, "task-api-tokens").values()
        scopes = {name: scopes for _, scopes, name in map(str.split, lines.splitlines())}
        assert scopes == {"ann": "read,write", "prometheus": "read", "helm-test": "read,write"}
        for name in ("task-api-metrics-token", "task-api-test-token"):
            token = secret(empty, name)["token"]
            assert hashlib.sha256(token.encode()).hexdigest() in lines
            assert token not in output
    if section == "DNS and TLS":
        assert "ingress-nginx-controller" in output
        # curl trusts the certificate that the page created, and it is for the host.
        (checkout / "trust.pem").write_text((checkout / "tls.crt").read_text())
        health = empty.run(
            f"curl --silent --show-error --retry 10 --retry-delay 1 --retry-all-errors --cacert trust.pem"
            f" --resolve {empty.host}:$HTTPS_PORT:127.0.0.1 https://{empty.host}:$HTTPS_PORT/health",
            folder=checkout,
        )
        assert json.loads(health)["status"] == "ok"
    if section == "Uninstall":
        assert "deployment" not in remaining
        assert "persistentvolumeclaim" not in remaining


# --- docs/operate.md ------------------------------------------------------------------

OPERATE = "docs/operate.md"


@pytest.fixture(scope="module")
def running(make_namespace: MakeNamespace, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    namespace = make_with_helm("e2e-docs-operate", helm, make_namespace, tmp_path_factory.mktemp("helm"))
    namespace.run(f"helm install task-api ./platform/helm/task-api {namespace.values} --wait --timeout 120s")
    namespace.wait_for_replicas(3)
    namespace.run(
        "helm upgrade task-api ./platform/helm/task-api --reuse-values --set pods.api.podAnnotations.revision=second"
    )
    namespace.wait_for_rollout()
    namespace.wait_for_replicas(3)
    namespace.wait_until_it_serves()
    return namespace


def restarted_pod(namespace: Namespace) -> str:
    """A pod with a restarted container, the subject of most runbooks."""
    pods = json.loads(namespace.run("kubectl get pods -l app=task-api -o json"))["items"]
    pod: str = next(
        pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
    )  # old pods of a rollout may still terminate
    namespace.run(f"kubectl exec {pod} -- python -c 'import os; os.kill(1, 15)'")
    restart_count = f"kubectl get pod {pod} -o jsonpath='{{.status.containerStatuses[0].restartCount}}'"
    eventually(lambda: int(namespace.run(restart_count)) > 0, f"{pod} is restarted", seconds=60)
    namespace.run(f"kubectl wait --for=condition=Ready pod/{pod} --timeout=60s")
    return pod


@pytest.mark.full  # two minutes including the release
@pytest.mark.parametrize("section", [section for section in sections(OPERATE) if section != RESTORE])
def test_operations_guide_commands_work(section: str, running: Namespace, checkout: Path) -> None:
    # The URL of an external database, tried on the bundled one, in the server's container, which has psql.
    psql = 'psql "${url/@task-api-postgres/@localhost}"'
    replaced = {'psql "$url"': f"kubectl exec -i statefulset/task-api-postgres -- {psql}"}
    replaced |= {"~/.kube/production": "$KUBECONFIG", "--namespace=tasks": f"--namespace={running.name}"}
    replaced["task-api NUMBER"] = "task-api 1"
    if section == "Alerts":
        replaced["POD"] = restarted_pod(running)
    printed = run(section, OPERATE, running, checkout, replaced)
    if section == "Upgrade":  # all migrations are applied, and none was interrupted
        assert "CREATE INDEX" in printed[0]
        assert "(0 rows)" in printed[0]
    running.wait_for_rollout()
    running.wait_for_replicas(3)


@pytest.mark.full
def test_dump_is_restored_into_a_new_database_and_the_feed_continues(running: Namespace, tmp_path: Path) -> None:
    dump, restore = commands_run_by(THIS, OPERATE, RESTORE)
    with running.client() as client:
        task = client.post("/v1/tasks", json={"title": "worth a backup"}).json()
    # A server with a high transaction ID: a new one begins at a few hundred.
    running.run(
        "kubectl exec -i statefulset/task-api-postgres -- psql -U tasks -d tasks <<'END'\n"
        "DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$\nEND"
    )
    with running.client() as client:
        client.post("/v1/tasks", json={"title": "the last one before it"})
        feed = client.get("/v1/changes").json()

    def in_folder(block: Block) -> str:
        return block.commands.replace("FILE=", f"FILE={tmp_path}/")

    running.run(in_folder(dump))
    running.run(
        "kubectl scale statefulset/task-api-postgres --replicas=0 && kubectl delete pvc data-task-api-postgres-0"
        " && kubectl scale statefulset/task-api-postgres --replicas=1"
        " && kubectl rollout status statefulset/task-api-postgres --timeout=120s"
    )
    output = running.run(in_folder(restore))
    (safety,) = re.findall(r"The previous data is in (\S+)\.$", output, re.MULTILINE)
    running.run(f"rm {safety}")

    running.wait_for_replicas(3)
    running.wait_until_it_serves()
    with running.client() as client:
        assert client.get(f"/v1/tasks/{task['id']}").json() == task
        after = client.post("/v1/tasks", json={"title": "after the restore"}).json()
        assert client.get("/v1/changes").json()["items"][: len(feed["items"])] == feed["items"]
        new_changes = eventually(
            lambda: [c for c in client.get("/v1/changes").json()["items"] if c["task"]["id"] == after["id"]],
            "the feed has the new change",
            seconds=10,
        )
    assert [change["type"] for change in new_changes] == ["created"]


# --- short blocks of other pages --------------------------------------------------------


def test_readme_and_chart_install_commands_work(empty: Namespace, checkout: Path) -> None:
    """Those of the chart's README by a server-side dry run; the README's are lines of docs/deploy.md, run there."""
    from_readme = commands_run_by(THIS, "README.md", "Deploy")[0].commands
    from_chart, remove = commands_run_by(THIS, "platform/helm/task-api/README.md")
    from_guide = commands_run_by(THIS, DEPLOY, "Deploy with Helm")[0].commands
    assert set(from_readme.splitlines()) < set(from_guide.splitlines())
    # Helm 3.12 has no --dry-run=server.
    manifests = from_chart.commands.partition("\nhelm test")[0].replace("helm install", "helm template --no-hooks")
    empty.run(f"{manifests} | kubectl apply --dry-run=server -f -", folder=checkout)
    assert set(re.findall(r"\S+-\S+-\S+", remove.commands)) == {"data-task-api-postgres-0", "task-api-database"}


def test_doctor_checks_all_requirements_of_this_run() -> None:
    (block,) = commands_run_by(THIS, "README.md", "Local cluster")
    done = subprocess.run(["bash", "-euc", block.commands], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert re.sub(r"\d+ warnings?", "2 warnings", done.stdout.splitlines()[-1]) == block.text.splitlines()[-1]
    # In this order; lines in between depend on the shell's exported variables.
    printed = iter([line.split()[:2] for line in done.stdout.splitlines()])
    documented = [line.split()[:2] for line in block.text.splitlines()[1:-1] if line != "..."]
    assert len(documented) == 4
    assert all(words in printed for words in documented), done.stdout


@pytest.mark.full  # repeats collection and setup of tests that run anyway
def test_single_cluster_test_runs_alone() -> None:
    (block,) = commands_run_by(THIS, "docs/develop.md", "Tests")
    done = subprocess.run(["bash", "-euc", block.commands], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert re.search(r"^=+ \d+ passed.* deselected", done.stdout, re.MULTILINE), done.stdout + done.stderr


@pytest.mark.full  # 15 s; e2e/test_push.py tests more
def test_push_to_the_documented_other_registry_keeps_the_digest(registry: str, committed: Path) -> None:
    (block,) = commands_run_by(THIS, "docs/extend.md", "Container registry")
    command = block.commands.replace("ghcr.io", registry)
    assert command != block.commands
    done = subprocess.run(["bash", "-euc", command], cwd=committed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{registry}/you/task-api" in done.stdout


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The repository as a commit: uncommitted changes cannot be pushed under a commit."""
    folder = copy_repository(tmp_path_factory.mktemp("committed"))
    lend_environments(folder)
    git = "git -c user.name=T -c user.email=t@example.com -c commit.gpgsign=false"
    script = f"git add --all && {git} commit --quiet --message all && git rev-parse HEAD"
    done = subprocess.run(["bash", "-euc", script], cwd=folder, capture_output=True, text=True, check=True)
    yield folder
    subprocess.run(["docker", "image", "rm", f"task-api:{done.stdout.strip()}"], capture_output=True, check=True)


@pytest.mark.full  # a minute; e2e/test_push.py and test_deploy.py test more
def test_commit_is_pushed_and_deployed_from_a_laptop_as_documented(
    registry: str, committed: Path, make_namespace: MakeNamespace, tmp_path: Path
) -> None:
    push, deploy = commands_run_by(THIS, "docs/delivery.md", "Run without GitHub")
    namespace = make_namespace("e2e-docs-desk")
    namespace.use_path(PATH)
    replaced = {"docker.io": registry}
    namespace.run(as_script(push, replaced), seconds=300, folder=committed)
    # The nodes cannot reach a registry on this machine: its images are loaded into them.
    commit = namespace.run("git rev-parse HEAD", folder=committed).strip()
    name = f"{registry}/you/task-api:{commit}"
    namespace.run(f"docker pull --quiet {name} && kind load docker-image {name} --name task-platform", seconds=300)
    try:
        values = tmp_path / "values.yaml"
        values.write_text(
            "database: {inMemory: true}\nautoscaling: {enabled: false}\nreplicaCount: 1\ningress: {enabled: false}\n"
        )
        output = namespace.run(f"export DEPLOY_VALUES={values}\n{as_script(deploy, replaced)}", folder=committed)
        assert f"all at commit {commit}" in output
        (committed / "README.md").write_text("changed\n")
        rejected = namespace.attempt(as_script(push, replaced), folder=committed)
        assert rejected.returncode != 0
        assert f"the image would not match commit {commit}" in rejected.stderr
    finally:
        namespace.run(f"docker image rm {name} && git checkout --quiet README.md", folder=committed)


@pytest.mark.parametrize(
    ("section", "number", "kinds"),
    [
        ("External database", 0, {"Deployment", "Ingress"}),
        ("External database", 1, {"Deployment", "Ingress", "Cluster"}),
        ("Ingress and Gateway API", 0, {"Deployment", "Ingress", "StatefulSet"}),
        ("Ingress and Gateway API", 1, {"Deployment", "HTTPRoute", "StatefulSet"}),
        ("Custom autoscaler", 0, {"Deployment", "Ingress", "StatefulSet"}),
        ("Cloud providers", 0, {"Deployment", "Ingress", "StatefulSet"}),
    ],
)
def test_documented_values_of_docs_extend_render_the_documented_objects(
    section: str, number: int, kinds: set[str]
) -> None:
    block = commands_run_by(THIS, "docs/extend.md", section)[number]
    done = subprocess.run(
        ["bash", "-euc", as_script(block, {})],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": PATH},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rendered = set(re.findall(r"^kind: (\w+)", done.stdout, re.MULTILINE))
    assert kinds == rendered & {"Deployment", "StatefulSet", "Ingress", "HTTPRoute", "Cluster"}


def test_namespace_and_account_of_docs_delivery_are_created(empty: Namespace) -> None:
    name = "e2e-docs-production"
    make, account = commands_run_by(THIS, "docs/delivery.md", "Set up a repository")
    replaced = {"~/.kube/production": "$KUBECONFIG", "namespace tasks": f"namespace {name}", "=tasks": f"={name}"}
    empty.run(f"kubectl delete namespace {name} --ignore-not-found")
    try:
        empty.run(as_script(make, replaced))
        output = empty.run(as_script(account, replaced))
        assert f"Wrote kubeconfig-ci-{name}" in output
        can_i = f"KUBECONFIG=kubeconfig-ci-{name} kubectl auth can-i"
        assert empty.run(f"{can_i} update deployments") == "yes\n"
        assert empty.attempt(f"{can_i} update deployments --namespace default").stdout == "no\n"
    finally:
        empty.run(f"kubectl delete namespace {name} --wait=false && rm -f kubeconfig-ci-{name}")
