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
    # The operator deletes the volumes with the Cluster: an uninstall leaves it.
    helm.sh/resource-policy: keep
spec:
  instances: {{ $cluster.instances }}
  {{- $settings := include "service.pod.settings" (list . "database") | fromYaml }}
  {{- $labels := include "service.pod.labels" (list . "database") | fromYaml }}
  {{- if or $labels $settings.podAnnotations }}
  # The operator gives it to the pods, and to all else that it makes.
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
  # Beside the operator's own, by which instances prefer different nodes.
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  bootstrap:
    initdb:
      database: {{ include "service.database.name" . }}
      owner: {{ include "service.database.name" . }}
  postgresql:
    parameters:
      # While no second instance is there the server holds commits that nobody waits for any more, and a connection
      # with each: of every pod up to as many as its pool has.
      {{- $held := mul (include "service.mostPods" . | int) (int .Values.database.poolSize) }}
      max_connections: {{ add (int .Values.database.maxConnections) $held | toString | quote }}
    # A write is answered once any second instance has it, and never before.
    synchronous:
      method: any
      number: 1
      dataDurability: required
      # Only an instance that surely has all of them is made the primary.
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
