{{- define "service.dashboard" -}}
{{- include "service.defaults" . }}
{{- if .Values.dashboard.enabled }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "service.fullname" . }}-dashboard
  labels:
    {{- $labels := include "service.labels" . | fromYaml }}
    {{- mergeOverwrite $labels (default dict .Values.dashboard.labels) | toYaml | nindent 4 }}
data:
  # Grafana's sidecar writes the files of all namespaces into one directory.
  {{ .Release.Namespace }}.{{ include "service.fullname" . }}.json: |
    {{- include "service.dashboard.ofRelease" . | nindent 4 }}
{{- end }}
{{- end }}

{{/*
One Grafana may have the dashboards of many releases, and provisions neither of two with the same uid or title. A uid has at
most 40 characters. It begins with the release's name. The dashboard opens with this release selected.
*/}}
{{- define "service.dashboard.ofRelease" -}}
{{- $fullname := include "service.fullname" . }}
{{- $release := printf "%s/%s" .Release.Namespace $fullname }}
{{- $whole := .Files.Get "files/dashboard.json" | default (include "service.dashboard.ofEvery" .) | fromJson }}
{{- $_ := set $whole "uid" (printf "%s-%s" ($fullname | trunc 31 | trimSuffix "-") (sha256sum $release | trunc 8)) }}
{{- $_ := set $whole "title" (printf "%s (%s)" $whole.title $release) }}
{{- $chosen := dict "namespace" .Release.Namespace "job" $fullname }}
{{- range dig "templating" "list" list $whole }}
{{- $variable := . }}
{{- with get $chosen .name }}
{{- $_ := set $variable "current" (dict "text" . "value" .) }}
{{- end }}
{{- end }}
{{- $whole | toPrettyJson }}
{{- end }}

{{/* The dashboard of a service without its own; the database's panels come last, if it has one. */}}
{{- define "service.dashboard.ofEvery" -}}
{{- $whole := include "service.dashboard.named" (list . "files/dashboard.json") | fromJson }}
{{- if include "service.keeps" . }}
{{- $database := include "service.dashboard.named" (list . "files/dashboard-database.json") | fromJson }}
{{- $_ := set $whole "panels" (concat $whole.panels $database.panels) }}
{{- end }}
{{- $whole | toPrettyJson }}
{{- end }}

{{- define "service.dashboard.named" -}}
{{- $file := last . }}
{{- with first . }}
{{- $stream := include "service.stream" . }}
{{- $text := .Subcharts.library.Files.Get $file }}
{{- $text = $text | replace ", route!=\\\"/stream\\\"" (ternary (printf ", route!=\\\"%s\\\"" $stream) "" (ne $stream "")) }}
{{- $text = $text | replace "service_name" (include "service.name.snake" .) }}
{{- $text = $text | replace "Service Name" (include "service.name.title" .) }}
{{- $text | replace "service-name" (include "service.called" .) }}
{{- end }}
{{- end }}
