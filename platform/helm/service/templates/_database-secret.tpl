{{- define "service.database-secret" -}}
{{- include "service.defaults" . }}
{{- if and (eq (include "service.database" .) "bundled") (not .Values.database.bundled.existingSecret) }}
{{- $name := include "service.bundledSecret" . }}
{{- $kept := lookup "v1" "Secret" .Release.Namespace $name }}
{{- $password := randAlphaNum 32 }}
{{- $url := "" }}
{{- if $kept }}
{{- $password = index $kept.data "password" | required (printf "The Secret %s is there without the key password. Name one with both keys, password and url, by database.bundled.existingSecret, or delete this one if its database has no data." $name) | b64dec }}
{{- $url = index $kept.data "url" | default "" | b64dec }}
{{- end }}
{{- if not $url }}
{{- /* As in a path: urlquery writes a space as a plus, which a password may not. */}}
{{- $owner := include "service.database.name" . }}
{{- $url = printf "postgresql://%s:%s@%s/%s" $owner ($password | urlquery | replace "+" "%20") (include "service.postgres.fullname" .) $owner }}
{{- end }}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}
  labels:
    {{- include "service.postgres.labels" . | nindent 4 }}
  annotations:
    # The volume outlives the release, and its data is worth nothing without its password.
    helm.sh/resource-policy: keep
type: Opaque
data:
  password: {{ $password | b64enc }}
  url: {{ $url | b64enc }}
{{- end }}
{{- end }}
