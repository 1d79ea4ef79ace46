{{- define "task-api.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The release's name where it says already what it is; `helm install task-api` gives objects named task-api. */}}
{{- define "task-api.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What every object has and no selector asks for. */}}
{{- define "task-api.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "task-api.labels" -}}
{{ include "task-api.commonLabels" . }}
{{ include "task-api.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What selects the API's pods. It can never change: a Deployment's selector is immutable. */}}
{{- define "task-api.selectorLabels" -}}
app: {{ include "task-api.name" . }}
app.kubernetes.io/name: {{ include "task-api.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: api
{{- end }}

{{/* The label by which a pod of the same namespace may call the API, where network policies are enforced. */}}
{{- define "task-api.clientLabel" -}}
{{ include "task-api.fullname" . }}-client: "true"
{{- end }}

{{- define "task-api.postgres.labels" -}}
{{ include "task-api.commonLabels" . }}
{{ include "task-api.postgres.selectorLabels" . }}
{{- end }}

{{/* No `app: task-api`: `kubectl get pods -l app=task-api` lists the API's pods alone. */}}
{{- define "task-api.postgres.selectorLabels" -}}
app.kubernetes.io/name: postgres
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: database
{{- end }}

{{- define "task-api.postgres.fullname" -}}
{{ include "task-api.fullname" . }}-postgres
{{- end }}

{{- define "task-api.test.selectorLabels" -}}
app.kubernetes.io/name: {{ include "task-api.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
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

{{/* An all-digits tag is a number in a values file, which YAML hands on as 1.2345678e+07. */}}
{{- define "task-api.tag" -}}
{{- if kindIs "float64" .Values.image.tag }}{{ printf "%.0f" .Values.image.tag }}{{ else }}{{ .Values.image.tag }}{{ end }}
{{- end }}

{{- define "task-api.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (include "task-api.tag" .) }}
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
