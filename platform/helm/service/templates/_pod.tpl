{{/*
What decides whether a pod is admitted, pulled and placed, of one kind: api, database, backup or test. What pods.KIND of the
values has takes the place of what all pods have; a backup is made where the database is, unless pods.backup says otherwise.
*/}}
{{- define "service.pod.settings" -}}
{{- $values := (first .).Values }}
{{- $kind := last . }}
{{- $settings := pick $values "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "priorityClassName" "podLabels" "podAnnotations" "podSecurityContext" "containerSecurityContext" }}
{{- if ne $kind "api" }}
{{- /* Which pods to be near or far from is the API's own: a database kept away from the API's pods might find no node. */}}
{{- $_ := set $settings "affinity" (pick (default dict $values.affinity) "nodeAffinity") }}
{{- end }}
{{- range $from := ternary (list "database" "backup") (list $kind) (eq $kind "backup") }}
{{- range $name, $value := index $values.pods $from }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $settings $name $value }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* What of these is in a pod's spec. */}}
{{- define "service.pod.spec" -}}
{{- $settings := include "service.pod.settings" . | fromYaml }}
{{- $spec := dict }}
{{- range $name := list "imagePullSecrets" "priorityClassName" "nodeSelector" "tolerations" "affinity" }}
{{- with index $settings $name }}{{ $_ := set $spec $name . }}{{ end }}
{{- end }}
{{- with include "service.withoutNull" $settings.podSecurityContext | fromYaml }}{{ $_ := set $spec "securityContext" . }}{{ end }}
{{- with $spec }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* The context of a pod's containers; nothing where it is empty. */}}
{{- define "service.pod.containerSecurityContext" -}}
{{- $settings := include "service.pod.settings" . | fromYaml }}
{{- with include "service.withoutNull" $settings.containerSecurityContext | fromYaml }}
{{- dict "securityContext" . | toYaml }}
{{- end }}
{{- end }}

{{/* Labels of a pod beside those that select it: the ones of all objects, and the ones of its kind. */}}
{{- define "service.pod.labels" -}}
{{- $settings := include "service.pod.settings" . | fromYaml }}
{{- with merge (dict) (default dict $settings.podLabels) (default dict (first .).Values.commonLabels) }}{{ toYaml . }}{{ end }}
{{- end }}

{{- define "service.pod.annotations" -}}
{{- with (include "service.pod.settings" . | fromYaml).podAnnotations }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Helm takes a field out of its default for a null, but leaves the null where there is no default. */}}
{{- define "service.withoutNull" -}}
{{- $kept := dict }}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $kept $name $value }}{{ end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}
