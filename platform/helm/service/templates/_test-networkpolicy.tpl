{{- define "service.test-networkpolicy" -}}
{{- include "service.defaults" . }}
{{- if .Values.networkPolicy.enabled }}
# The `helm test` pod calls the API; nothing may connect to it.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "service.fullname" . }}-test
  labels:
    {{- include "service.commonLabels" . | nindent 4 }}
    {{- include "service.test.selectorLabels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "service.test.selectorLabels" . | nindent 6 }}
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
              {{- include "service.selectorLabels" . | nindent 14 }}
      ports:
        - port: 8000
          protocol: TCP
{{- end }}
{{- end }}
