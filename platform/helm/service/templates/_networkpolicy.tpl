{{- define "service.networkpolicy" -}}
{{- include "service.defaults" . }}
{{- if .Values.networkPolicy.enabled }}
{{- $database := include "service.database" . }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- include "service.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "service.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        # The ingress controller, for external clients, and Prometheus.
        {{- range concat .Values.networkPolicy.ingressNamespaces .Values.networkPolicy.monitoringNamespaces | uniq }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ . | quote }}
        {{- end }}
        # Pods of this namespace with the label, including `helm test`.
        - podSelector:
            matchLabels:
              {{- include "service.clientLabel" . | nindent 14 }}
        {{- with .Values.networkPolicy.extraIngress }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - port: 8000
          protocol: TCP
  egress:
    # DNS at any address: a node-local cache has one that belongs to no pod. Behind its Service it may listen on 5353, as on
    # OpenShift, and a policy applies to the target port.
    - ports:
        - port: 53
          protocol: UDP
        - port: 53
          protocol: TCP
        - port: 5353
          protocol: UDP
        - port: 5353
          protocol: TCP
    {{- if eq $database "external" }}
    # PostgreSQL: its address is in a Secret, so the rule allows its port.
    - ports:
        - port: 5432
          protocol: TCP
    {{- else if has $database (list "bundled" "cloudNativePG") }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "service.database.podLabels" . | nindent 14 }}
      ports:
        - port: 5432
          protocol: TCP
    {{- end }}
    {{- if eq .Values.auth.mode "oidc" }}
    # The issuer's keys.
    - ports:
        - port: 443
          protocol: TCP
    {{- end }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
