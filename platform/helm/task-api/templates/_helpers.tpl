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

{{- define "task-api.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "task-api.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What selects the API's pods. It can never change: a Deployment's selector is immutable. */}}
{{- define "task-api.selectorLabels" -}}
app: {{ include "task-api.name" . }}
app.kubernetes.io/name: {{ include "task-api.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: api
{{- end }}

{{- define "task-api.postgres.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "task-api.postgres.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
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

{{/* The Secret whose key `url` says where the tasks are kept. */}}
{{- define "task-api.databaseSecret" -}}
{{- .Values.database.existingSecret | default (include "task-api.bundledSecret" .) }}
{{- end }}

{{- define "task-api.bundledSecret" -}}
{{- .Values.database.bundled.existingSecret | default (printf "%s-database" (include "task-api.fullname" .)) }}
{{- end }}
