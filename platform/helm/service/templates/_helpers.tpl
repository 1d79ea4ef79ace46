{{- define "service.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The chart's name for settings and metrics (order_items), for people (Order Items), for alerts (OrderItems). */}}
{{- define "service.name.snake" -}}
{{- .Chart.Name | replace "-" "_" }}
{{- end }}

{{- define "service.name.title" -}}
{{- .Chart.Name | replace "-" " " | title }}
{{- end }}

{{- define "service.name.pascal" -}}
{{- include "service.name.title" . | replace " " "" }}
{{- end }}

{{/*
The release's name where it says already what it is; `helm install orders` gives objects named orders. At most 41
characters, since more is put behind it and ends up in labels, which may have 63: 11 characters by the chart at most, and
a revision of 11 more by Kubernetes, for the pods of a StatefulSet (https://github.com/kubernetes/kubernetes/issues/64023).
*/}}
{{- define "service.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 41 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 41 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What every object has and no selector asks for. */}}
{{- define "service.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ merge (dict) (default dict .Values.commonLabels) (dict "app.kubernetes.io/part-of" (include "service.name" .)) | toYaml }}
{{- end }}

{{- define "service.labels" -}}
{{ include "service.commonLabels" . }}
{{ include "service.selectorLabels" . }}
{{- end }}

{{/* What selects the API's pods. It can never change: a Deployment's selector is immutable. */}}
{{- define "service.selectorLabels" -}}
app: {{ include "service.name" . }}
app.kubernetes.io/name: {{ include "service.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: api
{{- end }}

{{/* The label by which a pod of the same namespace may call the API, where network policies are enforced. */}}
{{- define "service.clientLabel" -}}
{{ include "service.fullname" . }}-client: "true"
{{- end }}

{{- define "service.test.selectorLabels" -}}
app.kubernetes.io/name: {{ include "service.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end }}

{{/* An all-digits tag is a number in a values file, which YAML hands on as 1.2345678e+07. */}}
{{- define "service.tag" -}}
{{- if kindIs "float64" .Values.image.tag }}{{ printf "%.0f" .Values.image.tag }}{{ else }}{{ .Values.image.tag }}{{ end }}
{{- end }}

{{- define "service.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (include "service.tag" .) }}
{{- end }}
{{- end }}
