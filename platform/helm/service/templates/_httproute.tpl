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
  # Group, kind and weight, here and below, are the API server's defaults: GitOps tools see no diff.
  parentRefs:
    {{- include "service.gateways" .Values.httpRoute.parentRefs | nindent 4 }}
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
        - group: ""
          kind: Service
          name: {{ include "service.fullname" . }}
          port: {{ .Values.service.port }}
          weight: 1
{{- with .Values.httpRoute.redirectParentRefs }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {{ include "service.fullname" $ }}-redirect
  labels:
    {{- include "service.labels" $ | nindent 4 }}
spec:
  parentRefs:
    {{- include "service.gateways" . | nindent 4 }}
  hostnames:
    {{- toYaml (prepend (default list $.Values.ingress.extraHosts) $.Values.ingress.host) | nindent 4 }}
  rules:
    - matches:
        - path:
            type: PathPrefix
            value: {{ $.Values.ingress.path }}
      filters:
        - type: RequestRedirect
          requestRedirect:
            scheme: https
            # Gateways need not support 308, which ingress-nginx returns.
            statusCode: 301
{{- end }}
{{- end }}
{{- end }}

{{- define "service.gateways" -}}
{{- $gateways := list }}
{{- range . }}
{{- $gateways = append $gateways (merge (dict) . (dict "group" "gateway.networking.k8s.io" "kind" "Gateway")) }}
{{- end }}
{{- toYaml $gateways }}
{{- end }}
