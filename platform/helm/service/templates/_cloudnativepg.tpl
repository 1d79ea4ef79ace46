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
