#!/usr/bin/env bash
# Guess: what the chart's CronJob says to rclone (upload under a name, list what is there, remove the oldest) does that on
# an S3-compatible server: keys and address from RCLONE_CONFIG_S3_*, no right to make buckets, a prefix.
# What happens: it does, with the commands and the environment as the chart renders them; of three old backups and a new
# one two are left with keep=2, another release's under the same prefix stay, and without a key nothing is removed.
# With rclone 1.60.1; the image that the chart names, rclone/rclone:1.75.1, and a bucket of Amazon's were not tried.
# Packages: rclone (Debian 12: 1.60.1), moto[server] 5.2.5; helm
# Source: platform/helm/service/templates/_postgres-backup.tpl
# Date: 2026-11-29
#
#   MOTO_SERVER=/path/to/moto_server findings/backup-to-s3.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unset AWS_CA_BUNDLE # with it this rclone does not start
folder=$(mktemp -d)
port=5055
"${MOTO_SERVER:-moto_server}" --host 127.0.0.1 --port "$port" > "$folder/moto.log" 2>&1 &
server=$!
trap 'kill "$server"; rm -rf "$folder"' EXIT
until (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do kill -0 "$server" && sleep 0.2; done

values=database.bundled.backup
helm template task-api platform/helm/task-api --show-only templates/postgres-backup.yaml --set "$values.enabled=true" \
  --set "$values.keep=2,$values.s3.bucket=safe,$values.s3.prefix=our/tasks,$values.s3.region=here" \
  --set "$values.s3.endpoint=http://127.0.0.1:$port,$values.s3.existingSecret=keys" > "$folder/cronjob.yaml" 2> /dev/null
.venv/bin/python - "$folder" << 'PYTHON'
import shlex, sys
from pathlib import Path
import yaml
folder = Path(sys.argv[1])
pod = yaml.safe_load((folder / "cronjob.yaml").read_text())["spec"]["jobTemplate"]["spec"]["template"]["spec"]
container = pod["containers"][0]
script = container["args"][0].replace("cd /backups", f"cd {folder}/backups").replace("/tmp/there", f"{folder}/there")
lines = [f"export {v['name']}={shlex.quote(v['value'])}" for v in container["env"] if "value" in v]
(folder / "upload.sh").write_text("\n".join(lines) + "\nexport RCLONE_CONFIG_S3_ACCESS_KEY_ID=$KEY RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=secret\n" + script)
PYTHON

list() {
  RCLONE_CONFIG_S3_TYPE=s3 RCLONE_CONFIG_S3_PROVIDER=Other RCLONE_CONFIG_S3_ENDPOINT=http://127.0.0.1:$port \
    RCLONE_CONFIG_S3_ACCESS_KEY_ID=testing RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=secret rclone --config "$folder/none" "$@"
}
list mkdir s3:safe 2> /dev/null
mkdir "$folder/backups"
for name in task-api-2026010{1,2,3}T031700Z task-api-two-20260101T031700Z; do
  echo old > "$folder/old"
  list copyto "$folder/old" "s3:safe/our/tasks/$name.dump" 2> /dev/null
done
head -c 20000000 /dev/urandom > "$folder/backups/task-api-20261129T031700Z.dump"

echo '--- without a key: nothing is removed'
if (RCLONE_RETRIES=1 RCLONE_LOW_LEVEL_RETRIES=1 KEY='' sh "$folder/upload.sh") > "$folder/said" 2>&1; then echo 'it succeeds'; fi
tail -n 1 "$folder/said"
list lsf s3:safe/our/tasks 2> /dev/null
echo '--- the right ones: two are kept'
KEY=testing sh "$folder/upload.sh"
list lsf s3:safe/our/tasks 2> /dev/null
list cat s3:safe/our/tasks/task-api-20261129T031700Z.dump 2> /dev/null | cmp - "$folder/backups/task-api-20261129T031700Z.dump" && echo 'what was uploaded is what was sent'
