{{- /* [domain: all of this file], as other files here have it in part: what `make new-service` leaves out */}}
{{- define "task-api.postgres.labels" -}}
{{ include "task-api.commonLabels" . }}
{{ include "task-api.postgres.selectorLabels" . }}
{{- end }}

{{/* No `app: task-api`: `kubectl get pods -l app=task-api` lists the API's pods alone. */}}
{{- define "task-api.postgres.selectorLabels" -}}
app.kubernetes.io/name: postgres
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: database
{{- end }}

{{- define "task-api.postgres.fullname" -}}
{{ include "task-api.fullname" . }}-postgres
{{- end }}

{{/* Where the tasks are kept: external, cloudNativePG, memory or bundled. */}}
{{- define "task-api.database" -}}
{{- if .Values.database.existingSecret -}} external
{{- else if .Values.database.cloudNativePG.enabled -}} cloudNativePG
{{- else if .Values.database.inMemory -}} memory
{{- else -}} bundled
{{- end }}
{{- end }}

{{- define "task-api.bundledSecret" -}}
{{- .Values.database.bundled.existingSecret | default (printf "%s-database" (include "task-api.fullname" .)) }}
{{- end }}

{{/* What selects the database's pods. CloudNativePG labels its own. */}}
{{- define "task-api.database.podLabels" -}}
{{- if eq (include "task-api.database" .) "cloudNativePG" -}}
cnpg.io/cluster: {{ include "task-api.postgres.fullname" . }}
{{- else -}}
{{ include "task-api.postgres.selectorLabels" . }}
{{- end }}
{{- end }}

{{/* The most pods that are in service at once: while a release rolls out, maxSurge more than wanted. */}}
{{- define "task-api.mostPods" -}}
{{- $pods := int .Values.replicaCount }}
{{- if .Values.autoscaling.enabled }}{{ $pods = int .Values.autoscaling.maxReplicas }}{{ end }}
{{- $surge := toString .Values.rollingUpdate.maxSurge }}
{{- if hasSuffix "%" $surge }}
{{- add $pods (div (add (mul $pods (trimSuffix "%" $surge | int)) 99) 100) }}
{{- else }}
{{- add $pods (int .Values.rollingUpdate.maxSurge) }}
{{- end }}
{{- end }}
