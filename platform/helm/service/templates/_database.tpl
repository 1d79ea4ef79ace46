{{- define "service.postgres.labels" -}}
{{ include "service.commonLabels" . }}
{{ include "service.postgres.selectorLabels" . }}
{{- end }}

{{/*
Without the API's label `app`, so that `kubectl get pods -l app=NAME` lists only the API's pods. A parent chart may have two
services with a database under one release name: there the label `app` distinguishes them. A standalone chart has only one, whose
selector stays unchanged, since a StatefulSet's is immutable.
*/}}
{{- define "service.postgres.selectorLabels" -}}
{{- if not .Chart.IsRoot }}
app: {{ include "service.postgres.fullname" . }}
{{ end -}}
app.kubernetes.io/name: postgres
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: database
{{- end }}

{{- define "service.postgres.fullname" -}}
{{ include "service.fullname" . }}-postgres
{{- end }}

{{/* Where the service stores its data: external, cloudNativePG, memory or bundled; none if it stores nothing. */}}
{{- define "service.database" -}}
{{- if not (include "service.storedData" .) -}} none
{{- else if .Values.database.existingSecret -}} external
{{- else if .Values.database.cloudNativePG.enabled -}} cloudNativePG
{{- else if .Values.database.inMemory -}} memory
{{- else -}} bundled
{{- end }}
{{- end }}

{{/* The name of the database and of its owner: orders, if the settings begin with ORDERS_. */}}
{{- define "service.database.name" -}}
{{- include "service.environmentPrefix" . | trimSuffix "_" | lower }}
{{- end }}

{{- define "service.bundledSecret" -}}
{{- .Values.database.bundled.existingSecret | default (printf "%s-database" (include "service.fullname" .)) }}
{{- end }}

{{/* Selects the database's pods. CloudNativePG labels its own. */}}
{{- define "service.database.podLabels" -}}
{{- if eq (include "service.database" .) "cloudNativePG" -}}
cnpg.io/cluster: {{ include "service.postgres.fullname" . }}
{{- else -}}
{{ include "service.postgres.selectorLabels" . }}
{{- end }}
{{- end }}

{{/* The maximum number of pods in service at once: during a rollout, maxSurge more than desired. */}}
{{- define "service.maxPods" -}}
{{- $pods := int .Values.replicaCount }}
{{- if or .Values.autoscaling.enabled (kindIs "invalid" .Values.replicaCount) }}{{ $pods = int .Values.autoscaling.maxReplicas }}{{ end }}
{{- add $pods (include "service.podCount" (list $pods .Values.rollingUpdate.maxSurge 99) | int) }}
{{- end }}

{{/* A number of pods from a number or a percentage: rounded up with 99, and down with 0. */}}
{{- define "service.podCount" -}}
{{- $count := index . 1 | toString }}
{{- if hasSuffix "%" $count }}
{{- div (add (mul (index . 0) (trimSuffix "%" $count | int)) (index . 2)) 100 }}
{{- else }}
{{- int $count }}
{{- end }}
{{- end }}
