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
  # A controller that was away makes up for the last one that it missed, and no longer for one of yesterday.
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

{{/* Where backups go: volume or s3; nothing where there are none. */}}
{{- define "service.backup" -}}
{{- if and (eq (include "service.database" .) "bundled") .Values.database.bundled.backup.enabled -}}
{{- ternary "s3" "volume" (not (empty .Values.database.bundled.backup.s3.bucket)) }}
{{- end }}
{{- end }}

{{/* At most 52 characters: a CronJob's Jobs have 11 more. */}}
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

{{/* What a Job of a backup is, of the CronJob and of the first one. */}}
{{- define "service.backup.job" -}}
{{- $backup := .Values.database.bundled.backup }}
{{- $to := include "service.backup" . }}
{{- $database := include "service.database.name" . }}
# Each try is a pod of its own, whose log stays.
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
            # Of one that was killed: none runs for so long.
            find . -maxdepth 1 -name '.*.part' -mmin +{{ add 1 (div (int $backup.timeoutSeconds) 60) }} -delete
            file=$NAME-$(date -u +%Y%m%dT%H%M%SZ).dump
            trap 'rm -f ".$file.part"' EXIT
            export PGPASSWORD
            PGPASSWORD=$(< /run/secrets/database/password)
            # It may start just now, and a network plugin may take a moment to let a new pod out.
            for ((i = 0; i < 60; i++)); do if pg_isready --quiet --timeout=2; then break; else sleep 1; fi; done
            pg_dump --format=custom --file=".$file.part"
            # Reads all of it, where --list would read its head alone.
            pg_restore --file=/dev/null ".$file.part"
            sync ".$file.part"
            mv ".$file.part" "$file"
            sync .
            echo "$file is a whole backup, of $(wc -c < "$file") bytes"
            # Only now, and never the new one.
            ls "$NAME"-????????T??????Z.dump | sort -r | tail -n +$((KEEP + 1)) | while read -r old; do
              rm "$old"
              echo "$old is older than the $KEEP that are kept: removed"
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
          # Its settings are those below. It warns of a file that is not there.
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
          # Keys that may write into a bucket need not be allowed to look for buckets and to make them.
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
            # A file that an editor wrote, and a Secret was made from, ends with a new line.
            RCLONE_CONFIG_S3_ACCESS_KEY_ID=$(printf %s "$RCLONE_CONFIG_S3_ACCESS_KEY_ID" | tr -d '\r\n')
            RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=$(printf %s "$RCLONE_CONFIG_S3_SECRET_ACCESS_KEY" | tr -d '\r\n')
            cd /backups
            for file in "$NAME"-*.dump; do
              # rclone compares the sum of what is there with that of the file; until then there is no such object. It does
              # not look for one before (HEAD): a refusal of that has no body, and would not say whether a key is wrong or a
              # right is missing.
              rclone copyto --no-check-dest "$file" "$TARGET/$file"
              echo "$file is in $TARGET"
            done
            # Only now, and never the new one. By the slash it is a folder; else rclone asks for an object of that name, and
            # takes a refusal for one (1.75.1: "can't limit to single files when using filters").
            rclone lsf --files-only --include "$NAME-????????T??????Z.dump" "$TARGET/" > /tmp/there
            sort -r /tmp/there | tail -n +$((KEEP + 1)) | while read -r old; do
              rclone deletefile "$TARGET/$old"
              echo "$old is older than the $KEEP that are kept: removed"
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
        # On its way to the bucket.
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
