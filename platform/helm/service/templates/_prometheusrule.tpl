{{- define "service.prometheusrule" -}}
{{- include "service.defaults" . }}
{{- if .Values.prometheusRule.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- $labels := include "service.labels" . | fromYaml }}
    {{- mergeOverwrite $labels (default dict .Values.prometheusRule.labels) | toYaml | nindent 4 }}
spec:
  groups:
    {{- include "service.alerts" . | fromYaml | dig "groups" list | toYaml | nindent 4 }}
{{- end }}
{{- end }}

{{/*
The rules of every service, of services with a database, and of this one, with this release's names. They are in files because
Helm would evaluate Prometheus' own templates in them. A group that is in two files is merged.
*/}}
{{- define "service.alerts" -}}
{{- $files := list (.Subcharts.library.Files.Get "files/alerts.yaml") }}
{{- if include "service.storedData" . }}
{{- $files = append $files (.Subcharts.library.Files.Get "files/alerts-database.yaml") }}
{{- end }}
{{- $groups := list }}
{{- range $file := append $files (.Files.Get "files/alerts.yaml") }}
{{- range $group := include "service.fillPlaceholders" (list $ $file) | fromYaml | dig "groups" list }}
{{- $existing := false }}
{{- range $groups }}
{{- if eq .name $group.name }}
{{- $existing = set . "rules" (concat .rules $group.rules) }}
{{- end }}
{{- end }}
{{- if not $existing }}
{{- $groups = append $groups $group }}
{{- end }}
{{- end }}
{{- end }}
{{- dict "groups" $groups | toYaml }}
{{- end }}

{{/* Replaces the placeholders in a file's text (the second argument) with this release's names. */}}
{{- define "service.fillPlaceholders" -}}
{{- $text := last . }}
{{- with first . }}
{{- $stream := include "service.streamingRoute" . }}
{{- $text = $text | replace ", route!=\"/stream\"" (ternary (printf ", route!=%q" $stream) "" (ne $stream "")) }}
{{- $text = $text | replace "namespace=\"default\"" (printf "namespace=%q" .Release.Namespace) }}
{{- $text = $text | replace "BACKUP_MAX_AGE_SECONDS" (mul 3600 (int .Values.database.bundled.backup.maxAgeHours) | toString) }}
{{- $text = $text | replace "service_name" (include "service.name.snake" .) }}
{{- $text = $text | replace "ServiceName" (include "service.name.pascal" .) }}
{{- $text = $text | replace "RUNBOOKS" (include "service.runbooks" .) }}
{{- $text = $text | replace "runbook_url: docs/" (printf "runbook_url: %sdocs/" (default "" .Values.prometheusRule.repositoryUrl)) }}
{{- $text | replace "service-name" (include "service.fullname" .) }}
{{- end }}
{{- end }}
