{{- define "service.postgres-networkpolicy" -}}
{{- include "service.defaults" . }}
{{- $database := include "service.database" . }}
{{- if and .Values.networkPolicy.enabled (has $database (list "bundled" "cloudNativePG")) }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "service.postgres.fullname" . }}
  labels:
    {{- include "service.postgres.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "service.database.podLabels" . | nindent 6 }}
  {{- if eq $database "bundled" }}
  # Egress without a rule: it opens no connections. The API server would drop an empty list, a permanent diff.
  policyTypes: [Ingress, Egress]
  {{- else }}
  # Not Egress: each instance calls the Kubernetes API and the other instances.
  policyTypes: [Ingress]
  {{- end }}
  ingress:
    - from:
        - podSelector:
            matchLabels:
              {{- include "service.selectorLabels" . | nindent 14 }}
        {{- if include "service.backup" . }}
        - podSelector:
            matchLabels:
              {{- include "service.backup.selectorLabels" . | nindent 14 }}
        {{- end }}
      ports:
        - port: 5432
          protocol: TCP
    {{- if eq $database "cloudNativePG" }}
    # Replication between the instances, and the operator, which checks each one's status.
    - from:
        - podSelector:
            matchLabels:
              {{- include "service.database.podLabels" . | nindent 14 }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ .Values.database.cloudNativePG.operatorNamespace | quote }}
      ports:
        - port: 5432
          protocol: TCP
        - port: 8000
          protocol: TCP
    {{- with .Values.networkPolicy.monitoringNamespaces }}
    # The instances' metrics.
    - from:
        {{- range . }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ . | quote }}
        {{- end }}
      ports:
        - port: 9187
          protocol: TCP
    {{- end }}
    {{- end }}
{{- end }}
{{- end }}
