{{- define "service.postgres-backup" -}}
{{- include "service.defaults" . }}
{{- if include "service.backup" . }}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ include "service.backup.fullname" . }}
  labels:
    {{- include "service.backup.labels" . | nindent 4 }}
spec:
  schedule: {{ .Values.database.bundled.backup.schedule | quote }}
  concurrencyPolicy: Forbid
  # After an outage the controller catches up on the last missed run, but not on one from yesterday.
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 2
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels:
        {{- include "service.backup.selectorLabels" . | nindent 8 }}
    spec:
      {{- include "service.backup.job" . | trim | nindent 6 }}
{{- end }}
{{- end }}

{{/* The destination of backups: volume or s3; empty without backups. */}}
{{- define "service.backup" -}}
{{- if and (eq (include "service.database" .) "bundled") .Values.database.bundled.backup.enabled -}}
{{- ternary "s3" "volume" (not (empty .Values.database.bundled.backup.s3.bucket)) }}
{{- end }}
{{- end }}

{{/* At most 52 characters: a CronJob's Jobs get 11 more. */}}
{{- define "service.backup.fullname" -}}
{{ include "service.fullname" . }}-backup
{{- end }}

{{- define "service.backup.labels" -}}
{{ include "service.commonLabels" . }}
{{ include "service.backup.selectorLabels" . }}
{{- end }}

{{- define "service.backup.selectorLabels" -}}
app.kubernetes.io/name: {{ include "service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: backup
{{- end }}

{{/* The spec of a backup Job, for the CronJob and for the first backup. */}}
{{- define "service.backup.job" -}}
{{- $backup := .Values.database.bundled.backup }}
{{- $to := include "service.backup" . }}
{{- $database := include "service.database.name" . }}
# Each attempt is a separate pod, whose log is kept.
backoffLimit: 2
activeDeadlineSeconds: {{ int $backup.timeoutSeconds }}
template:
  metadata:
    {{- with include "service.pod.annotations" (list . "backup") }}
    annotations:
      {{- . | nindent 6 }}
    {{- end }}
    labels:
      {{- include "service.backup.selectorLabels" . | nindent 6 }}
      {{- with include "service.pod.labels" (list . "backup") }}
      {{- . | nindent 6 }}
      {{- end }}
  spec:
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    {{- with include "service.pod.spec" (list . "backup") }}
    {{- . | nindent 4 }}
    {{- end }}
    {{ ternary "initContainers" "containers" (eq $to "s3") }}:
      - name: {{ ternary "dump" "backup" (eq $to "s3") }}
        image: {{ .Values.database.bundled.image | quote }}
        # A backup does not fail because a registry is down.
        imagePullPolicy: IfNotPresent
        env:
          - name: NAME
            value: {{ include "service.fullname" . }}
          - name: KEEP
            value: {{ ternary 1 $backup.keep (eq $to "s3") | int | quote }}
          - name: PGHOST
            value: {{ include "service.postgres.fullname" . }}
          - name: PGUSER
            value: {{ $database }}
          - name: PGDATABASE
            value: {{ $database }}
          - name: PGCONNECT_TIMEOUT
            value: "10"
        command: [bash, -c]
        args:
          - |
            set -euo pipefail
            umask 077
            cd /backups
            # Left by a killed backup: none runs for that long.
            find . -maxdepth 1 -name '.*.part' -mmin +{{ add 1 (div (int $backup.timeoutSeconds) 60) }} -delete
            file=$NAME-$(date -u +%Y%m%dT%H%M%SZ).dump
            trap 'rm -f ".$file.part"' EXIT
            export PGPASSWORD
            PGPASSWORD=$(< /run/secrets/database/password)
            # The database may still be starting, and a network plugin may take a moment to allow a new pod's traffic.
            for ((i = 0; i < 60; i++)); do if pg_isready --quiet --timeout=2; then break; else sleep 1; fi; done
            pg_dump --format=custom --file=".$file.part"
            # Reads all of it; --list would read only its header.
            pg_restore --file=/dev/null ".$file.part"
            sync ".$file.part"
            mv ".$file.part" "$file"
            sync .
            echo "$file is a complete backup, of $(wc -c < "$file") bytes"
            # Only now, and never the new one.
            ls "$NAME"-????????T??????Z.dump | sort -r | tail -n +$((KEEP + 1)) | while read -r old; do
              rm "$old"
              echo "$old removed: only the newest $KEEP are kept"
            done
        terminationMessagePath: /dev/termination-log
        terminationMessagePolicy: File
        resources:
          {{- toYaml $backup.resources | nindent 10 }}
        {{- with include "service.pod.containerSecurityContext" (list . "backup") }}
        {{- . | nindent 8 }}
        {{- end }}
        volumeMounts:
          - name: backups
            mountPath: /backups
          - name: password
            mountPath: /run/secrets/database
            readOnly: true
          - name: tmp
            mountPath: /tmp
    {{- if eq $to "s3" }}
    containers:
      - name: upload
        image: {{ $backup.s3.image | quote }}
        imagePullPolicy: IfNotPresent
        env:
          - name: NAME
            value: {{ include "service.fullname" . }}
          - name: KEEP
            value: {{ int $backup.keep | quote }}
          - name: TARGET
            value: {{ printf "s3:%s/%s" $backup.s3.bucket (default "" $backup.s3.prefix) | trimSuffix "/" | quote }}
          - name: HOME
            value: /tmp
          # It is configured by the variables below. It would warn about a missing file.
          - name: RCLONE_CONFIG
            value: /dev/null
          - name: RCLONE_CONFIG_S3_TYPE
            value: s3
          - name: RCLONE_CONFIG_S3_PROVIDER
            value: {{ ternary "AWS" "Other" (empty $backup.s3.endpoint) }}
          {{- with $backup.s3.endpoint }}
          - name: RCLONE_CONFIG_S3_ENDPOINT
            value: {{ . | quote }}
          {{- end }}
          {{- with $backup.s3.region }}
          - name: RCLONE_CONFIG_S3_REGION
            value: {{ . | quote }}
          {{- end }}
          # Credentials that may write to a bucket need no permission to check for buckets or create them.
          - name: RCLONE_CONFIG_S3_NO_CHECK_BUCKET
            value: "true"
          - name: RCLONE_CONFIG_S3_ACCESS_KEY_ID
            valueFrom:
              secretKeyRef:
                name: {{ $backup.s3.existingSecret | quote }}
                key: access-key-id
          - name: RCLONE_CONFIG_S3_SECRET_ACCESS_KEY
            valueFrom:
              secretKeyRef:
                name: {{ $backup.s3.existingSecret | quote }}
                key: secret-access-key
        command: [sh, -c]
        args:
          - |
            set -eu
            # A Secret created from a file that an editor wrote ends with a newline.
            RCLONE_CONFIG_S3_ACCESS_KEY_ID=$(printf %s "$RCLONE_CONFIG_S3_ACCESS_KEY_ID" | tr -d '\r\n')
            RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=$(printf %s "$RCLONE_CONFIG_S3_SECRET_ACCESS_KEY" | tr -d '\r\n')
            cd /backups
            for file in "$NAME"-*.dump; do
              # rclone compares the uploaded object's checksum with the file's; until then there is no such object. It does
              # not check for one first (HEAD): an error response to that has no body, and would not say whether a key is
              # wrong or a permission is missing.
              rclone copyto --no-check-dest "$file" "$TARGET/$file"
              echo "$file is in $TARGET"
            done
            # Only now, and never the new one. The slash makes it a directory; without it rclone requests an object of that
            # name and takes a 403 for one (1.75.1: "can't limit to single files when using filters").
            rclone lsf --files-only --include "$NAME-????????T??????Z.dump" "$TARGET/" > /tmp/there
            sort -r /tmp/there | tail -n +$((KEEP + 1)) | while read -r old; do
              rclone deletefile "$TARGET/$old"
              echo "$old removed: only the newest $KEEP are kept"
            done
        terminationMessagePath: /dev/termination-log
        terminationMessagePolicy: File
        resources:
          {{- toYaml $backup.resources | nindent 10 }}
        {{- with include "service.pod.containerSecurityContext" (list . "backup") }}
        {{- . | nindent 8 }}
        {{- end }}
        volumeMounts:
          - name: backups
            mountPath: /backups
          - name: tmp
            mountPath: /tmp
    {{- end }}
    volumes:
      - name: backups
        {{- if eq $to "s3" }}
        # Buffers the dump until it is uploaded.
        emptyDir:
          sizeLimit: {{ index $backup.resources.limits "ephemeral-storage" }}
        {{- else }}
        persistentVolumeClaim:
          claimName: {{ $backup.volume.existingClaim | default (include "service.backup.fullname" .) | quote }}
        {{- end }}
      - name: password
        secret:
          secretName: {{ include "service.bundledSecret" . | quote }}
          defaultMode: 0440
          items:
            - key: password
              path: password
      - name: tmp
        emptyDir:
          sizeLimit: 16Mi
{{- end }}
