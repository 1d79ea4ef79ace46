{{/*
Admission, image pull and scheduling settings of one kind of pod: api, database, backup or test. Values in pods.KIND replace those
for all pods; a backup runs with the settings of the database's pods, unless pods.backup overrides them.
*/}}
{{- define "service.pod.settings" -}}
{{- $values := (first .).Values }}
{{- $kind := last . }}
{{- $settings := pick $values "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "priorityClassName" "podLabels" "podAnnotations" "podSecurityContext" "containerSecurityContext" }}
{{- if ne $kind "api" }}
{{- /* Pod (anti-)affinity is the API's only: a database kept away from the API's pods might find no node. */}}
{{- $_ := set $settings "affinity" (pick (default dict $values.affinity) "nodeAffinity") }}
{{- end }}
{{- range $from := ternary (list "database" "backup") (list $kind) (eq $kind "backup") }}
{{- range $name, $value := index $values.pods $from }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $settings $name $value }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* The part of these settings that belongs in a pod's spec. */}}
{{- define "service.pod.spec" -}}
{{- $settings := include "service.pod.settings" . | fromYaml }}
{{- $spec := dict }}
{{- range $name := list "imagePullSecrets" "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with index $settings $name }}{{ $_ := set $spec $name . }}{{ end }}
{{- end }}
{{- with include "service.withoutNull" $settings.podSecurityContext | fromYaml }}{{ $_ := set $spec "securityContext" . }}{{ end }}
{{- with $spec }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* The security context of a pod's containers; nothing if it is empty. */}}
{{- define "service.pod.containerSecurityContext" -}}
{{- $settings := include "service.pod.settings" . | fromYaml }}
{{- with include "service.withoutNull" $settings.containerSecurityContext | fromYaml }}
{{- dict "securityContext" . | toYaml }}
{{- end }}
{{- end }}

{{/* A pod's labels besides the selector labels: those of all objects and those of its kind. */}}
{{- define "service.pod.labels" -}}
{{- $settings := include "service.pod.settings" . | fromYaml }}
{{- with merge (dict) (default dict $settings.podLabels) (default dict (first .).Values.commonLabels) }}{{ toYaml . }}{{ end }}
{{- end }}

{{- define "service.pod.annotations" -}}
{{- with (include "service.pod.settings" . | fromYaml).podAnnotations }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Helm removes a default for a null, but keeps the null if there is no default. */}}
{{- define "service.withoutNull" -}}
{{- $kept := dict }}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $kept $name $value }}{{ end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}
