"""Backups of the bundled PostgreSQL, made while clients write, and restored: only then they are any."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from documentation import Block, blocks
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from e2e.namespace import MakeNamespace, Namespace
from e2e.task_api import bucket as s3
from e2e.task_api.bucket import Bucket

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

CHART = "./platform/helm/task-api"
BACKUP = "app.kubernetes.io/component=backup"
Task = dict[str, Any]


class Writers:
    """Clients that write until they are stopped: two create tasks, and one changes a few that it created."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._stop = threading.Event()
        self._written: dict[str, Task] = {}
        self.times: list[float] = []
        self.failed = 0

    def go_on(self, *, changes: bool) -> None:
        with self._namespace.client() as client:
            own: list[str] = []
            while not self._stop.is_set():
                try:
                    if changes and len(own) >= 3:
                        own.append(own.pop(0))
                        answer = client.patch(f"/v1/tasks/{own[-1]}", json={"title": f"changed {time.time_ns()}"})
                    else:
                        answer = client.post("/v1/tasks", json={"title": f"made {time.time_ns()}"})
                except httpx2.TransportError:
                    self.failed += 1
                    continue
                if answer.status_code in {200, 201}:
                    task = answer.json()
                    self._written[task["id"]] = task
                    self.times.append(time.monotonic())
                    if changes and answer.status_code == 201:
                        own.append(task["id"])
                else:
                    self.failed += 1

    def stop(self) -> None:
        self._stop.set()

    @property
    def acknowledged(self) -> dict[str, Task]:
        """Every task that was acknowledged by now, as the last answer about it showed it."""
        return dict(self._written)

    def write_more(self, number: int = 50) -> None:
        """Returns once so many more writes were acknowledged."""
        wanted = len(self.times) + number
        eventually(lambda: len(self.times) >= wanted, f"{number} more writes are acknowledged")


@contextlib.contextmanager
def writing(namespace: Namespace) -> Iterator[Writers]:
    writers = Writers(namespace)
    with ThreadPoolExecutor(3) as threads:
        going = [threads.submit(writers.go_on, changes=changes) for changes in (False, False, True)]
        try:
            writers.write_more()
            yield writers
        finally:
            writers.stop()
    for one in going:
        one.result()


def feed(client: httpx2.Client) -> list[Any]:
    """All that the change feed has."""
    found, since = list[Any](), ""
    while True:
        answer = client.get("/v1/changes", params={"since": since} if since else {})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        if not page["items"]:
            return found
        found += page["items"]
        since = page["next_since"]


def compare(namespace: Namespace, acknowledged: dict[str, Task]) -> str:
    """Compares each task that was acknowledged before a backup with what was restored, and that with its feed."""
    with namespace.client() as client:
        states: dict[str, list[Task]] = {}
        for change in feed(client):
            states.setdefault(change["task"]["id"], []).append(change["task"])
        assert states.keys() >= acknowledged.keys()
        for task_id, its in states.items():
            # No state is torn: a task is what its last change says, and all changes of it are there.
            assert client.get(f"/v1/tasks/{task_id}").json() == its[-1]
            assert [state["version"] for state in its] == [*range(1, its[-1]["version"] + 1)]
        for task_id, task in acknowledged.items():
            # It may have been changed while the backup was made: then the state that was acknowledged is in its feed.
            assert task in states[task_id]
        eventually(
            lambda: client.get("/health").json()["tasks_total"] == len(states),
            f"each of the {len(states)} tasks of the feed is there, and no other",  # it counts every five seconds
            seconds=30,
        )
    return f"{len(acknowledged)} tasks acknowledged before it are in it, each equal, of {len(states)}"


@pytest.fixture(scope="module")
def backed_up(make_namespace: MakeNamespace) -> Namespace:
    """A release with backups to a volume."""
    namespace = make_namespace("e2e-backup")
    # The autoscaler adds no pod: who is there before a restore is there after it.
    values = f"{namespace.values} --set autoscaling.maxReplicas=3"
    values += " --set database.bundled.backup.enabled=true --set database.bundled.backup.keep=2"
    namespace.run(f"helm install task-api {CHART} {values} --wait --timeout 180s", seconds=240)
    namespace.wait_until_it_serves()
    return namespace


@pytest.fixture(scope="module")
def empty(make_namespace: MakeNamespace) -> Namespace:
    """Another release in another namespace, without a task."""
    namespace = make_namespace("e2e-restored")
    namespace.run(
        f"helm install task-api {CHART} {namespace.values} --set replicaCount=1 --wait --timeout 180s", seconds=240
    )
    namespace.wait_until_it_serves()
    return namespace


def finish(namespace: Namespace, job: str) -> str:
    """What a Job of a backup says, once it has ended well."""

    def ended() -> bool:
        status = json.loads(namespace.run(f"kubectl get {job} -o json"))["status"]
        ends = [end["type"] for end in status.get("conditions", []) if end["status"] == "True"]
        assert "Failed" not in ends, namespace.run(f"kubectl logs -l {BACKUP} --all-containers --prefix --tail=20")
        return "Complete" in ends

    eventually(ended, f"{job} has ended", seconds=170)
    return namespace.run(f"kubectl logs {job}")


def test_the_first_backup_is_made_with_the_release(backed_up: Namespace) -> None:
    (job,) = backed_up.run(f"kubectl get jobs -l {BACKUP} -o name").split()
    assert "is a complete backup" in finish(backed_up, job)


def test_what_was_backed_up_while_clients_wrote_is_whole_once_it_is_restored_elsewhere(
    backed_up: Namespace, empty: Namespace, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    by_hand, by_cron = tmp_path / "by-hand.dump", tmp_path / "by-cron.dump"
    with writing(backed_up) as writers:
        before_cron = writers.acknowledged
        for number in (1, 2):
            backed_up.run(f"kubectl create job --from=cronjob/task-api-backup by-hand-{number}")
            said = finish(backed_up, f"job/by-hand-{number}")
        writers.write_more()
        before_hand = writers.acknowledged
        backed_up.run(f"make backup FILE={by_hand}")
        writers.write_more()
    assert writers.failed == 0  # nobody notices a backup
    assert "removed: only the newest 2 are kept" in said
    assert "is a complete backup" in backed_up.run(f"make backup FROM=cronjob FILE={by_cron}")

    rows = []
    for name, file, before in (("the CronJob", by_cron, before_cron), ("make backup", by_hand, before_hand)):
        said = empty.run(f"make restore FILE={file} CONFIRM=task-api")
        rows.append(f"Backup by {name} while clients wrote, restored elsewhere: {compare(empty, before)}")
        (safety,) = re.findall(r"The previous data is in (\S+)\.$", said, re.MULTILINE)
        assert empty.run(f"rm -v {safety}")
    record_property(SUMMARY, "\n".join(rows))


def test_a_restore_under_running_pods_and_writing_clients_is_all_of_the_backup(
    backed_up: Namespace, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    file = tmp_path / "before.dump"
    pods = "kubectl get pods -l app=task-api --no-headers -o custom-columns="
    pods += "POD:.metadata.name,RESTARTS:.status.containerStatuses[0].restartCount"
    before_it = backed_up.run(pods)
    with writing(backed_up) as writers:
        before = writers.acknowledged
        backed_up.run(f"make backup FILE={file}")
        writers.write_more()
        started = time.monotonic()
        said = backed_up.run(f"make restore FILE={file} CONFIRM=task-api")
        seconds = time.monotonic() - started
        writers.write_more()
        times = list(writers.times)
    gap = max(later - earlier for earlier, later in itertools.pairwise(times))
    summary = compare(backed_up, before)
    assert backed_up.run(pods) == before_it
    (safety,) = re.findall(r"The previous data is in (\S+)\.$", said, re.MULTILINE)
    backed_up.run(f"rm {safety}")
    tries = 1 + said.count("Retrying.")
    record_property(
        SUMMARY,
        f"Restore under running pods and three writing clients: {seconds:.1f} s with its safety backup, {tries} tries, "
        f"{writers.failed} requests failed, {gap:.1f} s without a write; {summary}",
    )


def test_a_restore_that_fails_leaves_what_is_there(backed_up: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "cut.dump"
    backed_up.run(f"make backup FILE={file}")
    with backed_up.client() as client:
        task = client.post("/v1/tasks", json={"title": "after the backup"}).json()
    file.write_bytes(file.read_bytes()[:-3000])
    done = backed_up.attempt(f"make restore FILE={file} CONFIRM=task-api")
    assert done.returncode != 0
    assert "cannot be restored; nothing was changed" in done.stderr
    with backed_up.client() as client:
        assert client.get(f"/v1/tasks/{task['id']}").json() == task


def test_the_cronjob_says_when_the_last_good_one_was(backed_up: Namespace) -> None:
    """Which kube-state-metrics shows, and the alert asks for."""
    cron = json.loads(backed_up.run("kubectl get cronjob task-api-backup -o json"))
    assert re.match(r"\d{4}-\d\d-\d\dT", cron["status"]["lastSuccessfulTime"])


# --- to a bucket ----------------------------------------------------------------------

OTHER = "tasks/task-api-two-20260101T031700Z.dump"
"""A backup of another release beside those of this one."""
VALUES = "database.bundled.backup"


def page_block(needle: str) -> Block:
    """The block of docs/operate.md that says it."""
    (found,) = (block for block in blocks("docs/operate.md") if needle in block.text)
    return found


def give_keys(namespace: Namespace, folder: Path, key_id: str, secret: str) -> None:
    """Makes the Secret as the page says, from files as an editor leaves them."""
    (folder / "access-key-id").write_text(f"{key_id}\n")
    (folder / "secret-access-key").write_text(f"{secret}\n")
    namespace.run("kubectl delete secret task-api-bucket --ignore-not-found")
    namespace.run(page_block("--from-file=access-key-id").commands, folder=folder)


@pytest.fixture(scope="module")
def bucket(make_namespace: MakeNamespace) -> Bucket:
    return s3.make_bucket(make_namespace("e2e-s3"))


@pytest.fixture(scope="module")
def rclone_image(bucket: Bucket) -> str:
    return s3.rclone_image(bucket.namespace)


InstallWithBucket = Callable[[str], Namespace]


@pytest.fixture(scope="module")
def install_with_bucket(
    make_namespace: MakeNamespace, bucket: Bucket, rclone_image: str, tmp_path_factory: pytest.TempPathFactory
) -> InstallWithBucket:
    """Installs a release with the values of docs/operate.md, once the first backup is in the bucket."""

    def install(name: str) -> Namespace:
        namespace = make_namespace(name)
        folder = tmp_path_factory.mktemp(name)
        give_keys(namespace, folder, bucket.key_id, bucket.secret)
        block = page_block("bucket: my-backups")
        assert yaml.safe_load(block.text)["database"]["bundled"]["backup"]["s3"]["bucket"] == s3.NAME
        (folder / "production.yaml").write_text(block.text)
        values = f"{namespace.values} --set autoscaling.maxReplicas=3 --set {VALUES}.keep=2"
        values += f" --set {VALUES}.s3.endpoint={bucket.endpoint} --set {VALUES}.s3.image={rclone_image}"
        namespace.run(
            f"helm install task-api {CHART} -f {folder}/production.yaml {values} --wait --timeout 180s", seconds=240
        )
        namespace.wait_until_it_serves()
        (job,) = namespace.run(f"kubectl get jobs -l {BACKUP} -o name").split()
        finish(namespace, job)
        return namespace

    return install


@pytest.fixture(scope="module")
def uploading(install_with_bucket: InstallWithBucket) -> Namespace:
    """A release with backups to the bucket."""
    return install_with_bucket("e2e-bucket")


def says(namespace: Namespace, bucket: Bucket, job: str) -> str:
    """All that the containers of a Job's pods say, where no key may be."""
    said = namespace.run(f"kubectl logs -l job-name={job} --all-containers --prefix --tail=-1")
    assert bucket.secret not in said
    assert bucket.key_id not in said
    return said


def test_from_the_bucket_alone_every_task_comes_back_into_an_empty_namespace(
    uploading: Namespace,
    bucket: Bucket,
    install_with_bucket: InstallWithBucket,
    rclone_image: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    (first,) = bucket.keys()
    bucket.put(OTHER)
    with writing(uploading) as writers:
        uploading.run("kubectl create job --from=cronjob/task-api-backup by-hand-1")
        finish(uploading, "job/by-hand-1")
        writers.write_more()
        before = writers.acknowledged
        uploading.run("kubectl create job --from=cronjob/task-api-backup by-hand-2")
        said = finish(uploading, "job/by-hand-2")
        writers.write_more()
    assert writers.failed == 0
    assert f"{Path(first).name} removed: only the newest 2 are kept" in said
    *kept, other = bucket.keys()
    assert other == OTHER
    assert len(kept) == 2
    assert first not in kept
    newest = Path(kept[-1]).name
    assert f"{newest} is in s3:{s3.NAME}/tasks" in says(uploading, bucket, "by-hand-2")

    # The namespace is gone, say. What a new release backs up first is its empty database.
    empty = install_with_bucket("e2e-bucket-restored")
    of_nothing = tmp_path / "of-nothing.dump"
    said = empty.run(f"make backup FROM=cronjob FILE={of_nothing}")
    assert re.search("tasks 0|no table", said)  # as it was before its migrations or after them
    assert newest in said  # there are others, it says
    file = tmp_path / newest
    empty.run(f"make backup FROM={newest} FILE={file}")
    said = empty.run(f"make restore FILE={file} CONFIRM=task-api")
    (safety,) = re.findall(r"The previous data is in (\S+)\.$", said, re.MULTILINE)
    assert empty.run(f"rm -v {safety}")
    record_property(
        SUMMARY,
        f"Backup to a bucket by {rclone_image} while clients wrote, restored elsewhere: {compare(empty, before)}",
    )


def test_who_uploads_is_restricted(uploading: Namespace) -> None:
    """The namespace admits restricted pods alone; beyond that no root file system is written to."""
    (pod, *_) = json.loads(uploading.run(f"kubectl get pods -l {BACKUP} -o json"))["items"]
    contexts = [container["securityContext"] for container in pod["spec"]["initContainers"] + pod["spec"]["containers"]]
    assert len(contexts) == 2
    for context in contexts:
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("wrong", "reason"), [("key-id", "InvalidAccessKeyId: "), ("secret", "SignatureDoesNotMatch: ")]
)
def test_with_a_wrong_key_the_job_fails_and_says_which_it_is_and_never_prints_one(
    uploading: Namespace, bucket: Bucket, tmp_path: Path, wrong: str, reason: str
) -> None:
    there = bucket.keys()
    key_id, secret = bucket.key_id, bucket.secret
    if wrong == "key-id":
        key_id = "AKIA0000000000000000"
    else:
        secret = "not" + secret[3:]
    give_keys(uploading, tmp_path, key_id, secret)
    try:
        job = f"wrong-{wrong}"
        uploading.run(f"kubectl create job --from=cronjob/task-api-backup {job}")
        uploading.run(f"kubectl wait job/{job} --for=condition=Failed --timeout=170s")
        said = says(uploading, bucket, job)
        fetched = uploading.attempt(f"make backup FROM=cronjob FILE={tmp_path}/never.dump")
    finally:
        give_keys(uploading, tmp_path, bucket.key_id, bucket.secret)
    assert reason in said
    assert fetched.returncode != 0
    assert reason in fetched.stderr
    for key in (key_id, secret):
        assert key not in said + fetched.stdout + fetched.stderr
    assert bucket.keys() == there
