{{- define "service.postgres.labels" -}}
{{ include "service.commonLabels" . }}
{{ include "service.postgres.selectorLabels" . }}
{{- end }}

{{/*
No label `app` of the API's: `kubectl get pods -l app=NAME` lists its pods alone. A chart around this one may have two of a
database, and one release's name for both: there it is the label `app` that tells them apart. Alone there is but one, whose
selector stays as it always was, since a StatefulSet's is immutable.
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
{{- add $pods (include "service.count" (list $pods .Values.rollingUpdate.maxSurge 99) | int) }}
{{- end }}

{{/* So many of the pods, given as a number or as per cent of them: rounded up with 99, and down with 0. */}}
{{- define "service.count" -}}
{{- $count := index . 1 | toString }}
{{- if hasSuffix "%" $count }}
{{- div (add (mul (index . 0) (trimSuffix "%" $count | int)) (index . 2)) 100 }}
{{- else }}
{{- int $count }}
{{- end }}
{{- end }}
