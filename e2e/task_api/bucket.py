"""A bucket on an S3 server in the cluster, with a user with the permissions that the chart requires, and the uploader's
image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Template

from e2e.cluster import REPOSITORY, kubectl, version
from e2e.namespace import Namespace

FOLDER = REPOSITORY / "e2e/task_api/s3"
SERVER_IMAGE = "s3-server:test"
RCLONE_OF_DEBIAN = "rclone-of-debian:test"
DOCKERFILE = """
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends rclone && rm -rf /var/lib/apt/lists/*
"""
NAME = "my-backups"

# The permissions are those in the chart's README, on objects below the prefix only.
MAKE = """
import json, boto3
server = dict(endpoint_url="http://127.0.0.1:9000", region_name="us-east-1")
unsigned = dict(aws_access_key_id="nobody", aws_secret_access_key="nothing")
bucket = "BUCKET"
boto3.client("s3", **server, **unsigned).create_bucket(Bucket=bucket)
iam = boto3.client("iam", **server, **unsigned)
iam.create_user(UserName="backup")
on_objects = {"Effect": "Allow", "Resource": f"arn:aws:s3:::{bucket}/tasks/*"}
on_objects["Action"] = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
on_bucket = {"Effect": "Allow", "Resource": f"arn:aws:s3:::{bucket}", "Action": "s3:ListBucket"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [on_bucket, on_objects]})
iam.put_user_policy(UserName="backup", PolicyName="backup", PolicyDocument=policy)
key = iam.create_access_key(UserName="backup")["AccessKey"]
print(json.dumps([key["AccessKeyId"], key["SecretAccessKey"]]))
""".replace("BUCKET", NAME)
UNSIGNED_CALLS = 4
"""The number of calls in MAKE."""

USE = """
import boto3, json, sys
key_id, secret = json.load(sys.stdin)
s3 = boto3.client("s3", endpoint_url="http://127.0.0.1:9000", region_name="us-east-1",
                  aws_access_key_id=key_id, aws_secret_access_key=secret)
"""
LIST = f'{USE}\nprint(*(o["Key"] for o in s3.list_objects_v2(Bucket="{NAME}").get("Contents", [])), sep="\\n")'
PUT = f'{USE}\ns3.put_object(Bucket="{NAME}", Key=sys.argv[1], Body=b"old")'


@dataclass(frozen=True)
class Bucket:
    """The bucket, with its user's credentials."""

    namespace: Namespace
    key_id: str
    secret: str

    @property
    def endpoint(self) -> str:
        return f"http://s3.{self.namespace.name}.svc:9000"

    def keys(self) -> list[str]:
        """The keys of all objects, sorted: S3's object keys are not secret."""
        return sorted(self._use(LIST).split())

    def put(self, key: str) -> None:
        self._use(PUT, key)

    def _use(self, script: str, *arguments: str) -> str:
        return _python(self.namespace, script, *arguments, stdin=json.dumps([self.key_id, self.secret]))


def _python(namespace: Namespace, script: str, *arguments: str, stdin: str = "") -> str:
    inside = ("exec", "--stdin", "s3", "--", "python", "-c", script, *arguments)
    return kubectl("--namespace", namespace.name, *inside, stdin=stdin)


def make_bucket(namespace: Namespace) -> Bucket:
    """Starts the server in the namespace, from hash-pinned packages, and creates an empty bucket."""
    namespace.run(f"{_build(SERVER_IMAGE)} {FOLDER}", seconds=600)
    _load(namespace, SERVER_IMAGE)
    pod = Template((FOLDER / "pod.yaml").read_text())
    manifest = pod.substitute(IMAGE=SERVER_IMAGE, UNSIGNED_CALLS=UNSIGNED_CALLS)
    kubectl("--namespace", namespace.name, "apply", "--filename", "-", stdin=manifest)
    namespace.run("kubectl wait pod/s3 --for=condition=Ready --timeout=120s")
    key_id, secret = json.loads(_python(namespace, MAKE))
    return Bucket(namespace, key_id, secret)


def rclone_image(namespace: Namespace) -> str:
    """The image in the chart, or Debian's older rclone if that cannot be pulled; loaded into the cluster."""
    image = version("RCLONE_IMAGE")
    if namespace.attempt(f"docker image inspect {image} || docker pull {image}", seconds=300).returncode != 0:
        image = RCLONE_OF_DEBIAN
        result = namespace.attempt(f"{_build(image)} - << 'DOCKERFILE'\n{DOCKERFILE}DOCKERFILE", seconds=600)
        assert result.returncode == 0, f"rclone is installed by apt from Debian's mirrors\n{result.stderr}"
    _load(namespace, image)
    return image


def _build(image: str) -> str:
    return f"docker build --quiet --tag {image} --build-arg PYTHON_IMAGE={version('PYTHON_IMAGE')}"


def _load(namespace: Namespace, image: str) -> None:
    namespace.run(f"kind load docker-image {image} --name task-platform", seconds=300)
