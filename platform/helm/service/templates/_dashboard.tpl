{{- define "service.dashboard" -}}
{{- if .Values.dashboard.enabled }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "service.fullname" . }}-dashboard
  labels:
    {{- $labels := include "service.labels" . | fromYaml }}
    {{- mergeOverwrite $labels (default dict .Values.dashboard.labels) | toYaml | nindent 4 }}
data:
  {{ include "service.fullname" . }}.json: |
    {{- .Files.Get "files/dashboard.json" | default (include "service.dashboard.ofEvery" .) | trim | nindent 4 }}
{{- end }}
{{- end }}

{{/*
The dashboard of a service that brings none, with the panels of a database last where it has one. It is of the chart, not
of the release: one shows all releases.
*/}}
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
{{- $text | replace "service-name" .Chart.Name }}
{{- end }}
{{- end }}
