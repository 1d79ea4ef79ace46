{{- define "service.ingress" -}}
{{- include "service.defaults" . }}
{{- if .Values.ingress.enabled }}
{{- $hosts := prepend (default list .Values.ingress.extraHosts) .Values.ingress.host }}
{{- $root := eq (toString .Values.ingress.path) "/" }}
{{- /* A dictionary, so that ingress.annotations may have one of these again. */}}
{{- $nginx := "nginx.ingress.kubernetes.io" }}
{{- $annotations := dict (printf "%s/backend-protocol" $nginx) "HTTP" }}
{{- /* A pod that is gone does not answer at all: so soon another is asked. nginx's own 5 s were the longest gap that
       clients saw when pods were deleted without grace. A SYN that got lost is sent again after 1 s. */}}
{{- $_ := set $annotations (printf "%s/proxy-connect-timeout" $nginx) "2" }}
{{- $_ := set $annotations (printf "%s/ssl-redirect" $nginx) (empty .Values.ingress.tls.secretName | not | toString) }}
{{- if $root }}
{{- /* With the path / this changes nothing; under another path the rest of the path has to be captured. */}}
{{- $_ := set $annotations (printf "%s/rewrite-target" $nginx) "/" }}
{{- else }}
{{- /* The second group of the path below: what comes after the prefix. */}}
{{- $_ := set $annotations (printf "%s/rewrite-target" $nginx) "/$2" }}
{{- $_ := set $annotations (printf "%s/use-regex" $nginx) "true" }}
{{- end }}
{{- if ne (int64 .Values.maxBodyBytes) 1048576 }}
{{- /* The service's own limit is as high; above nginx's 1 MiB it would never be reached. */}}
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
          # Since 1.12 ingress-nginx refuses a regular expression with any other pathType. (/|$) keeps
          # /prefix-of-others out.
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
