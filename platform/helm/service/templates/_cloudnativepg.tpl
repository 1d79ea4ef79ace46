{{- define "service.cloudnativepg" -}}
{{- include "service.defaults" . }}
{{- if eq (include "service.database" .) "cloudNativePG" }}
{{- $cluster := .Values.database.cloudNativePG }}
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
metadata:
  name: {{ include "service.postgres.fullname" . }}
  labels:
    {{- include "service.postgres.labels" . | nindent 4 }}
  annotations:
    # The operator deletes the volumes with the Cluster, so an uninstall keeps it.
    helm.sh/resource-policy: keep
spec:
  instances: {{ $cluster.instances }}
  {{- $settings := include "service.pod.settings" (list . "database") | fromYaml }}
  {{- $labels := include "service.pod.labels" (list . "database") | fromYaml }}
  {{- if or $labels $settings.podAnnotations }}
  # The operator applies it to the pods and everything else that it creates.
  inheritedMetadata:
    {{- with $labels }}
    labels:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $settings.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- with $settings.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $settings.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- $affinity := pick $settings "nodeSelector" "tolerations" }}
  {{- range $ours, $theirs := dict "nodeAffinity" "nodeAffinity" "podAffinity" "additionalPodAffinity" "podAntiAffinity" "additionalPodAntiAffinity" }}
  {{- with index (default dict $settings.affinity) $ours }}{{ $_ := set $affinity $theirs . }}{{ end }}
  {{- end }}
  {{- range $name, $value := $affinity }}
  {{- if empty $value }}{{ $_ := unset $affinity $name }}{{ end }}
  {{- end }}
  {{- with $affinity }}
  # In addition to the operator's own, by which instances prefer different nodes.
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  bootstrap:
    initdb:
      database: {{ include "service.database.name" . }}
      owner: {{ include "service.database.name" . }}
  postgresql:
    parameters:
      # While no second instance is available, the server holds commits whose clients are gone, each with a connection:
      # up to a full pool per pod.
      {{- $connections := mul (include "service.maxPods" . | int) (int .Values.database.poolSize) }}
      max_connections: {{ add (int .Values.database.maxConnections) $connections | toString | quote }}
    # A write is acknowledged once any second instance has it, and never before.
    synchronous:
      method: any
      number: 1
      dataDurability: required
      # Only an instance that is guaranteed to have all of them is promoted.
      failoverQuorum: true
  storage:
    size: {{ $cluster.storage }}
    {{- with $cluster.storageClassName }}
    storageClass: {{ . | quote }}
    {{- end }}
  resources:
    {{- toYaml $cluster.resources | nindent 4 }}
{{- end }}
{{- end }}
