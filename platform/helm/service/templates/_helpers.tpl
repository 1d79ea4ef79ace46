{{/*
Adds the defaults that `import-values` of the chart did not import: of two aliases, Helm 3 imports them into the first only (the
imported values go into a structure that both share; 3.12 and 3.22, not 4.3). Whichever template runs first merges them into the
chart's values.
*/}}
{{- define "service.defaults" -}}
{{- if not .Values.library.imported }}
{{- include "service.defaults.merge" (list .Values .Values.library.exports.defaults) }}
{{- end }}
{{- end }}

{{/* Not Helm's `merge`: it treats false, 0 and an empty list as unset. */}}
{{- define "service.defaults.merge" -}}
{{- $values := first . }}
{{- range $key, $default := last . }}
{{- if not (hasKey $values $key) }}
{{- $_ := set $values $key (deepCopy $default) }}
{{- else if kindIs "invalid" (get $values $key) }}
{{- $_ := unset $values $key }}
{{- else if and (kindIs "map" $default) (kindIs "map" (get $values $key)) }}
{{- include "service.defaults.merge" (list (get $values $key) $default) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's name, or its alias in a parent chart. Together with the release's name it selects pods. */}}
{{- define "service.name" -}}
{{- list (.Values.nameOverride | default .Chart.Name | toString) 63 | include "service.truncate" }}
{{- end }}

{{/* Truncates a string to a maximum length. A truncated one ends with a hash of the full string, so that it stays unique. */}}
{{- define "service.truncate" -}}
{{- $text := first . | trimSuffix "-" }}
{{- $max := last . }}
{{- if le (len $text) $max }}
{{- $text }}
{{- else }}
{{- printf "%s-%s" ($text | trunc (sub $max 9 | int) | trimSuffix "-") (sha256sum $text | trunc 8) }}
{{- end }}
{{- end }}

{{/* The service's name in settings and metrics (order_items), titles (Order Items) and alerts (OrderItems). */}}
{{- define "service.name.snake" -}}
{{- include "service.canonicalName" . | replace "-" "_" }}
{{- end }}

{{- define "service.name.title" -}}
{{- include "service.canonicalName" . | replace "-" " " | title }}
{{- end }}

{{- define "service.name.pascal" -}}
{{- include "service.name.title" . | replace " " "" }}
{{- end }}

{{/*
The release's name if it contains the chart's; `helm install orders` creates objects named orders. At most 41 characters,
because it is used with suffixes in labels, which allow 63: up to 11 characters by the chart, and a revision of 11 more by
Kubernetes, for the pods of a StatefulSet (https://github.com/kubernetes/kubernetes/issues/64023).
*/}}
{{- define "service.fullname" -}}
{{- .Values.fullnameOverride | default (list (include "service.fullname.untruncated" .) 41 | include "service.truncate") }}
{{- end }}

{{- define "service.fullname.untruncated" -}}
{{- $name := .Values.nameOverride | default .Chart.Name | toString }}
{{- if contains $name .Release.Name }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name }}
{{- end }}
{{- end }}

{{/* Labels of every object that no selector uses. */}}
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

{{/* Selects the API's pods. It must never change: a Deployment's selector is immutable. */}}
{{- define "service.selectorLabels" -}}
app: {{ include "service.name" . | quote }}
app.kubernetes.io/name: {{ include "service.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: api
{{- end }}

{{/* Allows a pod of the same namespace to call the API, where network policies are enforced. */}}
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
