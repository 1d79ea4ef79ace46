{{- define "service.postgres-backup-volume" -}}
{{- include "service.defaults" . }}
{{- $volume := .Values.database.bundled.backup.volume }}
{{- if and (eq (include "service.backup" .) "volume") (not $volume.existingClaim) }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "service.backup.fullname" . }}
  labels:
    {{- include "service.backup.labels" . | nindent 4 }}
  annotations:
    # Backups outlive the database.
    helm.sh/resource-policy: keep
spec:
  accessModes: [ReadWriteOnce]
  {{- with $volume.storageClassName }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ $volume.size }}
{{- end }}
{{- end }}
