{{- define "service.postgres-backup-first" -}}
{{- include "service.defaults" . }}
{{- if include "service.backup" . }}
{{- $job := include "service.backup.job" . | trim }}
# One backup immediately, and again when the backup settings change: mistakes in them show now, not tonight.
# Most StorageClasses provision a volume for the first pod that uses it, and `helm --wait` waits until a claim is bound.
apiVersion: batch/v1
kind: Job
metadata:
  # A Job is immutable; a changed one gets a new name.
  name: {{ include "service.backup.fullname" . }}-{{ sha256sum $job | trunc 8 }}
  labels:
    {{- include "service.backup.labels" . | nindent 4 }}
spec:
  # No ttlSecondsAfterFinished: it belongs to the release, so each upgrade would recreate it once it is deleted.
  {{- $job | nindent 2 }}
{{- end }}
{{- end }}
