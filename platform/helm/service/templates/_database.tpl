{{- define "service.postgres.labels" -}}
{{ include "service.commonLabels" . }}
{{ include "service.postgres.selectorLabels" . }}
{{- end }}

{{/* No label `app`: `kubectl get pods -l app=NAME` lists the API's pods alone. */}}
{{- define "service.postgres.selectorLabels" -}}
app.kubernetes.io/name: postgres
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: database
{{- end }}

{{- define "service.postgres.fullname" -}}
{{ include "service.fullname" . }}-postgres
{{- end }}

{{/* Where it keeps its data: external, cloudNativePG, memory or bundled; none where it keeps nothing. */}}
{{- define "service.database" -}}
{{- if not (include "service.keeps" .) -}} none
{{- else if .Values.database.existingSecret -}} external
{{- else if .Values.database.cloudNativePG.enabled -}} cloudNativePG
{{- else if .Values.database.inMemory -}} memory
{{- else -}} bundled
{{- end }}
{{- end }}

{{/* The database and its owner have one name: orders, where the settings begin with ORDERS_. */}}
{{- define "service.database.name" -}}
{{- include "service.environmentPrefix" . | trimSuffix "_" | lower }}
{{- end }}

{{- define "service.bundledSecret" -}}
{{- .Values.database.bundled.existingSecret | default (printf "%s-database" (include "service.fullname" .)) }}
{{- end }}

{{/* What selects the database's pods. CloudNativePG labels its own. */}}
{{- define "service.database.podLabels" -}}
{{- if eq (include "service.database" .) "cloudNativePG" -}}
cnpg.io/cluster: {{ include "service.postgres.fullname" . }}
{{- else -}}
{{ include "service.postgres.selectorLabels" . }}
{{- end }}
{{- end }}

{{/* The most pods that are in service at once: while a release rolls out, maxSurge more than wanted. */}}
{{- define "service.mostPods" -}}
{{- $pods := int .Values.replicaCount }}
{{- if or .Values.autoscaling.enabled (kindIs "invalid" .Values.replicaCount) }}{{ $pods = int .Values.autoscaling.maxReplicas }}{{ end }}
{{- $surge := toString .Values.rollingUpdate.maxSurge }}
{{- if hasSuffix "%" $surge }}
{{- add $pods (div (add (mul $pods (trimSuffix "%" $surge | int)) 99) 100) }}
{{- else }}
{{- add $pods (int .Values.rollingUpdate.maxSurge) }}
{{- end }}
{{- end }}
