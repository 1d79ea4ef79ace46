{{- define "service.httproute" -}}
{{- include "service.defaults" . }}
{{- if .Values.httpRoute.enabled }}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- include "service.labels" . | nindent 4 }}
spec:
  parentRefs:
    {{- toYaml .Values.httpRoute.parentRefs | nindent 4 }}
  hostnames:
    {{- toYaml (prepend (default list .Values.ingress.extraHosts) .Values.ingress.host) | nindent 4 }}
  rules:
    - matches:
        - path:
            type: PathPrefix
            value: {{ .Values.ingress.path }}
      {{- if ne (toString .Values.ingress.path) "/" }}
      filters:
        - type: URLRewrite
          urlRewrite:
            path:
              type: ReplacePrefixMatch
              replacePrefixMatch: /
      {{- end }}
      backendRefs:
        # Group, kind and weight are what the server would fill in: a GitOps tool sees no difference.
        - group: ""
          kind: Service
          name: {{ include "service.fullname" . }}
          port: {{ .Values.service.port }}
          weight: 1
{{- end }}
{{- end }}
