{{- define "service.ingress" -}}
{{- include "service.defaults" . }}
{{- if .Values.ingress.enabled }}
{{- $hosts := prepend (default list .Values.ingress.extraHosts) .Values.ingress.host }}
{{- $root := eq (toString .Values.ingress.path) "/" }}
{{- /* A dictionary, so that ingress.annotations can override these. */}}
{{- $nginx := "nginx.ingress.kubernetes.io" }}
{{- $annotations := dict (printf "%s/backend-protocol" $nginx) "HTTP" }}
{{- /* A connection to a deleted pod times out: nginx then tries another. Its default of 5 s was the longest gap that clients
       saw when pods were deleted without grace. A lost SYN is retransmitted after 1 s. */}}
{{- $_ := set $annotations (printf "%s/proxy-connect-timeout" $nginx) "2" }}
{{- $_ := set $annotations (printf "%s/ssl-redirect" $nginx) (empty .Values.ingress.tls.secretName | not | toString) }}
{{- if $root }}
{{- /* With the path / this has no effect; under another path the rest of the path must be captured. */}}
{{- $_ := set $annotations (printf "%s/rewrite-target" $nginx) "/" }}
{{- else }}
{{- /* The second group of the path below: the part after the prefix. */}}
{{- $_ := set $annotations (printf "%s/rewrite-target" $nginx) "/$2" }}
{{- $_ := set $annotations (printf "%s/use-regex" $nginx) "true" }}
{{- end }}
{{- if ne (int64 .Values.maxBodyBytes) 1048576 }}
{{- /* The same as the service's limit, which could never be reached above nginx's default of 1 MiB. */}}
{{- $_ := set $annotations (printf "%s/proxy-body-size" $nginx) (int64 .Values.maxBodyBytes | toString) }}
{{- end }}
{{- with .Values.ingress.tls.clusterIssuer }}
{{- $_ := set $annotations "cert-manager.io/cluster-issuer" . }}
{{- end }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- include "service.labels" . | nindent 4 }}
  annotations:
    {{- mergeOverwrite $annotations (default dict .Values.ingress.annotations) | toYaml | nindent 4 }}
spec:
  ingressClassName: {{ .Values.ingress.className | quote }}
  {{- if .Values.ingress.tls.secretName }}
  tls:
    - hosts:
        {{- toYaml $hosts | nindent 8 }}
      secretName: {{ .Values.ingress.tls.secretName | quote }}
  {{- end }}
  rules:
    {{- range $hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          {{- if $root }}
          - path: /
            pathType: Prefix
          {{- else }}
          # Since 1.12 ingress-nginx rejects a regular expression with any other pathType. (/|$) excludes
          # /prefix-of-others.
          - path: {{ $.Values.ingress.path }}(/|$)(.*)
            pathType: ImplementationSpecific
          {{- end }}
            backend:
              service:
                name: {{ include "service.fullname" $ }}
                port:
                  name: http
    {{- end }}
{{- end }}
{{- end }}
