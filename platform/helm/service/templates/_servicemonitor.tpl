{{- define "service.servicemonitor" -}}
{{- include "service.defaults" . }}
{{- if .Values.serviceMonitor.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- $labels := include "service.labels" . | fromYaml }}
    {{- mergeOverwrite $labels (default dict .Values.serviceMonitor.labels) | toYaml | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "service.selectorLabels" . | nindent 6 }}
  {{- with .Values.serviceMonitor.fallbackScrapeProtocol }}
  fallbackScrapeProtocol: {{ . }}
  {{- end }}
  endpoints:
    {{- range list "/health" "/metrics" }}
    - port: http
      path: {{ . }}
      interval: {{ $.Values.serviceMonitor.interval }}
      scrapeTimeout: 10s
      {{- if and (eq . "/metrics") $.Values.serviceMonitor.credential.secretName }}
      authorization:
        credentials:
          name: {{ $.Values.serviceMonitor.credential.secretName | quote }}
          key: {{ $.Values.serviceMonitor.credential.key | quote }}
      {{- end }}
      relabelings:
        # Both endpoints have the same job and instance; without this label one would overwrite the other's `up`.
        - action: replace
          sourceLabels: [__metrics_path__]
          targetLabel: metrics_path
    {{- end }}
{{- end }}
{{- end }}
