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
    {{- include "service.dashboard.json" . | nindent 4 }}
{{- end }}
{{- end }}

{{/*
One Grafana may have the dashboards of many releases, and provisions neither of two with the same uid or title. A uid has at
most 40 characters. It begins with the release's name. The dashboard opens with this release selected.
*/}}
{{- define "service.dashboard.json" -}}
{{- $fullname := include "service.fullname" . }}
{{- $release := printf "%s/%s" .Release.Namespace $fullname }}
{{- $dashboard := .Files.Get "files/dashboard.json" | default (include "service.dashboard.default" .) | fromJson }}
{{- $_ := set $dashboard "uid" (printf "%s-%s" ($fullname | trunc 31 | trimSuffix "-") (sha256sum $release | trunc 8)) }}
{{- $_ := set $dashboard "title" (printf "%s (%s)" $dashboard.title $release) }}
{{- $chosen := dict "namespace" .Release.Namespace "job" $fullname }}
{{- range dig "templating" "list" list $dashboard }}
{{- $variable := . }}
{{- with get $chosen .name }}
{{- $_ := set $variable "current" (dict "text" . "value" .) }}
{{- end }}
{{- end }}
{{- $dashboard | toPrettyJson }}
{{- end }}

{{/* The dashboard of a service without its own; the database's panels come last, if it has one. */}}
{{- define "service.dashboard.default" -}}
{{- $dashboard := include "service.dashboard.fillPlaceholders" (list . "files/dashboard.json") | fromJson }}
{{- if include "service.storedData" . }}
{{- $database := include "service.dashboard.fillPlaceholders" (list . "files/dashboard-database.json") | fromJson }}
{{- $_ := set $dashboard "panels" (concat $dashboard.panels $database.panels) }}
{{- end }}
{{- $dashboard | toPrettyJson }}
{{- end }}

{{- define "service.dashboard.fillPlaceholders" -}}
{{- $file := last . }}
{{- with first . }}
{{- $stream := include "service.streamingRoute" . }}
{{- $text := .Subcharts.library.Files.Get $file }}
{{- $text = $text | replace ", route!=\\\"/stream\\\"" (ternary (printf ", route!=\\\"%s\\\"" $stream) "" (ne $stream "")) }}
{{- $text = $text | replace "service_name" (include "service.name.snake" .) }}
{{- $text = $text | replace "Service Name" (include "service.name.title" .) }}
{{- $text | replace "service-name" (include "service.canonicalName" .) }}
{{- end }}
{{- end }}
