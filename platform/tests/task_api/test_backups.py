"""database.bundled.backup: its objects, and what its containers do, with stand-ins for pg_dump, rclone and their like.

With the real ones: e2e/task_api/test_backup.py.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from manifests import Manifest, environment, pod_specs, refusal, render, render_files, sets

ON = "database.bundled.backup.enabled=true"
S3 = ("database.bundled.backup.s3.bucket=safe", "database.bundled.backup.s3.existingSecret=keys")
OLD = [f"task-api-2026010{day}T031700Z.dump" for day in range(1, 5)]
NEW = r"task-api-(?!2026010)\d{8}T\d{6}Z\.dump"

KEYS = ("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY")

PROGRAMS = {
    "pg_isready": "exit 0",
    "pg_dump": 'for a; do case $a in --file=*) echo "$PGPASSWORD whole" > "${a#--file=}" ;; esac; done',
    "pg_restore": '[[ $1 == --file=/dev/null && $(< "$2") == "secret whole" ]]',
    "rclone": """
case $1 in
  copyto)
    [[ $2 == --no-check-dest && $RCLONE_CONFIG_S3_ACCESS_KEY_ID == id && $RCLONE_CONFIG_S3_SECRET_ACCESS_KEY == key ]]
    mkdir -p "$(dirname "$S3/${4#s3:}")" && cp "$3" "$S3/${4#s3:}" ;;
  lsf) [[ $2 == --files-only && $3 == --include && $5 == */ ]] && cd "$S3/${5#s3:}" && ls | while read -r name; do
    case $name in $4) echo "$name" ;; esac
  done ;;
  deletefile) rm "$S3/${2#s3:}" ;;
esac
""",
}


def backup_pod(*values: str) -> Manifest:
    (pod,) = pod_specs(render_files(*sets(ON, *values))["postgres-backup.yaml"])
    return pod


class Machine:
    """A machine that has what a container of the backup's pod has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "backups", "s3", "secret"):
            (folder / name).mkdir()
        (folder / "secret/password").write_text("secret\n")
        for name, script in PROGRAMS.items():
            self.has(name, script)

    def has(self, name: str, script: str) -> None:
        (self.folder / "bin" / name).write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{script}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def run(self, container: Manifest, *, keys: tuple[str, str] = ("id", "key")) -> subprocess.CompletedProcess[str]:
        (script,) = container["args"]
        folders = {"backups": "backups", "password": "secret", "tmp": "."}
        here = {mount["mountPath"]: folders[mount["name"]] for mount in container["volumeMounts"]}
        script = re.sub(f"(?<= )({'|'.join(here)})", lambda path: str(self.folder / here[path[1]]), script)
        variables = {name: value for name, value in environment(container).items() if isinstance(value, str)}
        variables |= {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "S3": str(self.folder / "s3")}
        variables |= dict(zip(KEYS, keys, strict=True))
        return subprocess.run(
            [*container["command"], script], env=variables, capture_output=True, text=True, timeout=60
        )

    def has_backups(self, folder: str, *names: str) -> None:
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (self.folder / folder / name).write_text("old")

    def backups(self, folder: str = "backups") -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def volume_container(keep: int = 3) -> Manifest:
    (container,) = backup_pod(f"database.bundled.backup.keep={keep}")["containers"]
    found: Manifest = container
    return found


# --- to a volume ----------------------------------------------------------------------


def test_a_backup_takes_its_name_once_it_is_whole_and_the_oldest_go(machine: Machine) -> None:
    machine.has_backups("backups", *OLD, "task-api-two-20260101T031700Z.dump", "task-api-mine.dump")
    done = machine.run(volume_container())
    assert done.returncode == 0, done.stderr
    left = machine.backups()
    assert left[:2] == OLD[2:]
    assert re.fullmatch(NEW, left[2])
    assert left[3:] == ["task-api-mine.dump", "task-api-two-20260101T031700Z.dump"]
    assert "task-api-20260101T031700Z.dump removed: only the newest 3 are kept" in done.stdout
    assert (machine.folder / "backups" / left[2]).stat().st_mode & 0o777 == 0o600


def test_the_new_one_stays_where_one_is_kept(machine: Machine) -> None:
    machine.has_backups("backups", *OLD)
    assert machine.run(volume_container(keep=1)).returncode == 0
    (left,) = machine.backups()
    assert re.fullmatch(NEW, left)


@pytest.mark.parametrize(
    ("program", "does"),
    [
        ("pg_dump", "exit 1"),
        ("pg_dump", 'for a; do case $a in --file=*) echo half > "${a#--file=}" ;; esac; done'),
        ("pg_restore", "exit 1"),
        ("mv", "exit 1"),
    ],
)
def test_a_backup_that_fails_removes_nothing_and_leaves_nothing(machine: Machine, program: str, does: str) -> None:
    machine.has_backups("backups", *OLD)
    machine.has(program, does)
    assert machine.run(volume_container(keep=1)).returncode != 0
    assert machine.backups() == OLD


def test_what_a_killed_backup_left_goes_once_none_can_be_at_work_on_it(machine: Machine) -> None:
    machine.has_backups("backups", ".task-api-1.dump.part", ".task-api-2.dump.part")
    (machine.folder / "backups/lost+found").mkdir(mode=0)  # as a volume of its own file system has it
    long_ago = machine.folder / "backups/.task-api-1.dump.part"
    os.utime(long_ago, (1, 1))
    assert machine.run(volume_container()).returncode == 0
    assert [name for name in machine.backups() if name.endswith(".part")] == [".task-api-2.dump.part"]


# --- to a bucket ----------------------------------------------------------------------


def test_a_backup_is_uploaded_and_the_oldest_in_the_bucket_go(machine: Machine) -> None:
    pod = backup_pod(*S3, "database.bundled.backup.s3.prefix=our/tasks", "database.bundled.backup.keep=3")
    machine.has_backups("s3/safe/our/tasks", *OLD, "task-api-two-20260101T031700Z.dump")
    for container in (*pod["initContainers"], *pod["containers"]):
        done = machine.run(container)
        assert done.returncode == 0, done.stderr
    *left, other = machine.backups("s3/safe/our/tasks")
    assert left[:2] == OLD[2:]
    assert re.fullmatch(NEW, left[2])
    assert other == "task-api-two-20260101T031700Z.dump"
    assert left[2:] == machine.backups()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_keys_may_come_from_files_as_an_editor_leaves_them(machine: Machine, end: str) -> None:
    pod = backup_pod(*S3)
    assert machine.run(pod["initContainers"][0]).returncode == 0
    done = machine.run(pod["containers"][0], keys=(f"id{end}", f"key{end}"))
    assert done.returncode == 0, done.stderr
    assert machine.backups("s3/safe") == machine.backups()


def test_an_upload_that_fails_removes_nothing(machine: Machine) -> None:
    pod = backup_pod(*S3, "database.bundled.backup.keep=1")
    machine.has_backups("s3/safe", *OLD)
    assert machine.run(pod["initContainers"][0]).returncode == 0
    machine.has("rclone", f"case $1 in copyto) exit 1 ;; esac\n{PROGRAMS['rclone']}")
    assert machine.run(pod["containers"][0]).returncode != 0
    assert machine.backups("s3/safe") == OLD


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), {"RCLONE_CONFIG_S3_PROVIDER": "AWS", "TARGET": "s3:safe"}),
        (
            ("s3.endpoint=http://minio:9000", "s3.region=here", "s3.prefix=a/b"),
            {
                "RCLONE_CONFIG_S3_PROVIDER": "Other",
                "RCLONE_CONFIG_S3_ENDPOINT": "http://minio:9000",
                "RCLONE_CONFIG_S3_REGION": "here",
                "TARGET": "s3:safe/a/b",
            },
        ),
    ],
)
def test_the_uploader_is_told_where_and_gets_the_keys_from_the_secret(
    values: tuple[str, ...], expected: dict[str, Any]
) -> None:
    pod = backup_pod(*S3, *(f"database.bundled.backup.{value}" for value in values))
    told = environment(pod["containers"][0])
    assert told.items() >= expected.items()
    assert told["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "keys", "key": "access-key-id"}}
    assert told["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"] == {"secretKeyRef": {"name": "keys", "key": "secret-access-key"}}
    assert ("RCLONE_CONFIG_S3_REGION" in told) == any("region" in value for value in values)


# --- its objects ----------------------------------------------------------------------


def backup_objects(*values: str) -> dict[str, Manifest]:
    found = render(*sets(*values))
    return {m["kind"]: m for m in found if m["metadata"]["labels"].get("app.kubernetes.io/component") == "backup"}


def test_there_are_none_by_default() -> None:
    assert backup_objects() == {}


def test_to_a_volume_they_have_a_claim_which_an_uninstall_leaves() -> None:
    found = backup_objects(ON)
    assert found.keys() == {"CronJob", "Job", "PersistentVolumeClaim", "NetworkPolicy"}
    claim = found["PersistentVolumeClaim"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (volume,) = [v for v in backup_pod()["volumes"] if "persistentVolumeClaim" in v]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}


def test_a_claim_of_your_own_or_a_bucket_takes_its_place() -> None:
    existing = "database.bundled.backup.volume.existingClaim=mine"
    assert "PersistentVolumeClaim" not in backup_objects(ON, existing)
    (volume,) = [v for v in backup_pod(existing)["volumes"] if "persistentVolumeClaim" in v]
    assert volume["persistentVolumeClaim"] == {"claimName": "mine"}
    assert backup_objects(ON, *S3).keys() == {"CronJob", "Job", "NetworkPolicy"}
    assert not [v for v in backup_pod(*S3)["volumes"] if "persistentVolumeClaim" in v]


def test_the_schedule_is_kept_one_at_a_time_with_an_end() -> None:
    cron = backup_objects(ON, "database.bundled.backup.schedule=@hourly")["CronJob"]["spec"]
    assert (cron["schedule"], cron["concurrencyPolicy"]) == ("@hourly", "Forbid")
    job = cron["jobTemplate"]["spec"]
    assert (job["activeDeadlineSeconds"], job["backoffLimit"]) == (3600, 2)
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_the_first_backup_is_another_job_when_its_settings_change_and_else_the_same() -> None:
    """Which binds the volume, for which `helm --wait` waits; and a Job cannot change."""
    first, again, other = (
        backup_objects(ON, *more)["Job"]
        for more in ((), ("pods.api.podLabels.a=b",), ("database.bundled.backup.keep=3",))
    )
    assert first == again
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert first["spec"] == backup_objects(ON)["CronJob"]["spec"]["jobTemplate"]["spec"]


def test_its_names_fit_with_what_kubernetes_puts_behind_them() -> None:
    found = render(*sets(ON), release="a" * 53)
    (cron,) = [m["metadata"]["name"] for m in found if m["kind"] == "CronJob"]
    (job,) = [m["metadata"]["name"] for m in found if m["kind"] == "Job"]
    assert len(cron) <= 52  # https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
    assert len(job) <= 63


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (("database.existingSecret=mine",), "use the backups of your own database"),
        (("database.cloudNativePG.enabled=true",), "use the backups of your own database"),
        (S3[:1], "Name the Secret with the keys access-key-id and secret-access-key"),
        (("database.bundled.backup.keep=0",), "keep"),
        (("database.bundled.backup.schedule=daily",), "schedule"),
        (("database.bundled.backup.s3.endpoint=minio:9000",), "endpoint"),
        (("database.bundled.backup.s3.prefix=/a",), "prefix"),
    ],
)
def test_values_that_cannot_work_are_refused(values: tuple[str, ...], says: str) -> None:
    assert says in refusal(*sets(ON, *values))
