{{- define "service.postgres-backup-first" -}}
{{- include "service.defaults" . }}
{{- if include "service.backup" . }}
{{- $job := include "service.backup.job" . | trim }}
# One backup at once, and again when the settings of the backups change: what is wrong with them shows now, not tonight.
# Most StorageClasses make a volume when the first pod wants it, and `helm --wait` waits until a claim has its volume.
apiVersion: batch/v1
kind: Job
metadata:
  # A Job cannot change; another one has another name.
  name: {{ include "service.backup.fullname" . }}-{{ sha256sum $job | trunc 8 }}
  labels:
    {{- include "service.backup.labels" . | nindent 4 }}
spec:
  # No ttlSecondsAfterFinished: it is of the release, and gone, each upgrade would make it again.
  {{- $job | nindent 2 }}
{{- end }}
{{- end }}
