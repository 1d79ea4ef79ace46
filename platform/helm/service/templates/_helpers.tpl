{{/*
The defaults, where `import-values` of the chart did not bring them: Helm 3 brings them to the first of two aliases alone (it
keeps what it imports in what both share; 3.12 and 3.22, not 4.3). What runs first puts them into the values of the chart.
*/}}
{{- define "service.defaults" -}}
{{- if not .Values.library.imported }}
{{- include "service.defaults.into" (list .Values .Values.library.exports.defaults) }}
{{- end }}
{{- end }}

{{/* Not `merge` of Helm: it takes false, 0 and an empty list for no value. */}}
{{- define "service.defaults.into" -}}
{{- $values := first . }}
{{- range $key, $default := last . }}
{{- if not (hasKey $values $key) }}
{{- $_ := set $values $key (deepCopy $default) }}
{{- else if kindIs "invalid" (get $values $key) }}
{{- $_ := unset $values $key }}
{{- else if and (kindIs "map" $default) (kindIs "map" (get $values $key)) }}
{{- include "service.defaults.into" (list (get $values $key) $default) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's name, in a chart around it its alias there. It selects pods, with the release's name. */}}
{{- define "service.name" -}}
{{- list (.Values.nameOverride | default .Chart.Name | toString) 63 | include "service.short" }}
{{- end }}

{{/* A text of at most so many characters. One that is cut ends with a hash of the whole: two of them stay apart. */}}
{{- define "service.short" -}}
{{- $text := first . | trimSuffix "-" }}
{{- $most := last . }}
{{- if le (len $text) $most }}
{{- $text }}
{{- else }}
{{- printf "%s-%s" ($text | trunc (sub $most 9 | int) | trimSuffix "-") (sha256sum $text | trunc 8) }}
{{- end }}
{{- end }}

{{/* The service's name for settings and metrics (order_items), for people (Order Items), for alerts (OrderItems). */}}
{{- define "service.name.snake" -}}
{{- include "service.called" . | replace "-" "_" }}
{{- end }}

{{- define "service.name.title" -}}
{{- include "service.called" . | replace "-" " " | title }}
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
{{- .Values.fullnameOverride | default (list (include "service.fullname.whole" .) 41 | include "service.short") }}
{{- end }}

{{- define "service.fullname.whole" -}}
{{- $name := .Values.nameOverride | default .Chart.Name | toString }}
{{- if contains $name .Release.Name }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name }}
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
app: {{ include "service.name" . | quote }}
app.kubernetes.io/name: {{ include "service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: api
{{- end }}

{{/* The label by which a pod of the same namespace may call the API, where network policies are enforced. */}}
{{- define "service.clientLabel" -}}
{{ include "service.fullname" . }}-client: "true"
{{- end }}

{{- define "service.test.selectorLabels" -}}
app.kubernetes.io/name: {{ include "service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end }}

{{- define "service.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%v:%v" .Values.image.repository .Values.image.tag }}
{{- end }}
{{- end }}
