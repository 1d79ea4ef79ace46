{{- define "task-api.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The release's name where it says already what it is; `helm install task-api` gives objects named task-api. At most 41
characters, since more is put behind it and ends up in labels, which may have 63: 11 characters by the chart at most, and
a revision of 11 more by Kubernetes, for the pods of a StatefulSet (https://github.com/kubernetes/kubernetes/issues/64023).
*/}}
{{- define "task-api.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 41 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 41 | trimSuffix "-" }}
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
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: api
{{- end }}

{{/* The label by which a pod of the same namespace may call the API, where network policies are enforced. */}}
{{- define "task-api.clientLabel" -}}
{{ include "task-api.fullname" . }}-client: "true"
{{- end }}

{{- define "task-api.test.selectorLabels" -}}
app.kubernetes.io/name: {{ include "task-api.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
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
