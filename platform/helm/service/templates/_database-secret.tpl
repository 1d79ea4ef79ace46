{{- define "service.database-secret" -}}
{{- include "service.defaults" . }}
{{- if and (eq (include "service.database" .) "bundled") (not .Values.database.bundled.existingSecret) }}
{{- $name := include "service.bundledSecret" . }}
{{- $kept := lookup "v1" "Secret" .Release.Namespace $name }}
{{- $password := randAlphaNum 32 }}
{{- $url := "" }}
{{- if $kept }}
{{- $password = index $kept.data "password" | required (printf "The Secret %s exists without the key password. Set database.bundled.existingSecret to one with both keys, password and url, or delete this one if its database has no data." $name) | b64dec }}
{{- $url = index $kept.data "url" | default "" | b64dec }}
{{- end }}
{{- if not $url }}
{{- /* Percent-encoded as in a path: urlquery encodes a space as +, which is literal in a password. */}}
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
    # The volume outlives the release, and its data is useless without the password.
    helm.sh/resource-policy: keep
type: Opaque
data:
  password: {{ $password | b64enc }}
  url: {{ $url | b64enc }}
{{- end }}
{{- end }}
