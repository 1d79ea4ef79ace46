{{- define "service.postgres-backup-networkpolicy" -}}
{{- include "service.defaults" . }}
{{- if and .Values.networkPolicy.enabled (include "service.backup" .) }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "service.backup.fullname" . }}
  labels:
    {{- include "service.backup.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "service.backup.selectorLabels" . | nindent 6 }}
  # Ingress without a rule: nothing may connect to it.
  policyTypes: [Ingress, Egress]
  egress:
    - ports:
        - port: 53
          protocol: UDP
        - port: 53
          protocol: TCP
        - port: 5353
          protocol: UDP
        - port: 5353
          protocol: TCP
    - to:
        - podSelector:
            matchLabels:
              {{- include "service.database.podLabels" . | nindent 14 }}
      ports:
        - port: 5432
          protocol: TCP
    {{- if eq (include "service.backup" .) "s3" }}
    # The bucket: its address is a host name, so the rule allows its port.
    - ports:
        - port: {{ include "service.backup.s3Port" . }}
          protocol: TCP
    {{- end }}
{{- end }}
{{- end }}

{{- define "service.backup.s3Port" -}}
{{- $endpoint := default "" .Values.database.bundled.backup.s3.endpoint | toString }}
{{- regexFind ":[0-9]+/?$" $endpoint | trimPrefix ":" | trimSuffix "/" | default (ternary "80" "443" (hasPrefix "http://" $endpoint)) }}
{{- end }}
