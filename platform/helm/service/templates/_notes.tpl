{{- define "service.notes" -}}
{{- include "service.defaults" . }}
{{- $name := include "service.fullname" . }}
{{- $kubectl := printf "kubectl --namespace %s" .Release.Namespace }}
{{- $scheme := ternary "http" "https" (empty .Values.ingress.tls.secretName) }}
{{- $path := trimSuffix "/" .Values.ingress.path }}
{{- $reachable := or .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- $port := ternary "" (printf ":%d" (int .Values.service.port)) (eq (int .Values.service.port) 80) }}
{{- $namespaces := concat .Values.networkPolicy.ingressNamespaces .Values.networkPolicy.monitoringNamespaces | uniq }}
{{- if .Values.ingress.enabled -}}
The API:           {{ $scheme }}://{{ .Values.ingress.host }}{{ $path }}/docs
{{- else if .Values.httpRoute.enabled -}}
The API:           {{ .Values.ingress.host }}{{ $path }}/docs, through the Gateway's listeners
{{- end }}

Follow rollout:    {{ $kubectl }} rollout status deployment/{{ $name }}
Pods:              {{ $kubectl }} get pods -l app={{ include "service.name" . }}
{{- if .Values.autoscaling.enabled }}
Autoscaler:        {{ $kubectl }} get hpa {{ $name }}
{{- end }}
From this machine: {{ $kubectl }} port-forward svc/{{ $name }} 8000:{{ .Values.service.port }}
{{- if .Values.networkPolicy.enabled }}
In the namespace:  http://{{ $name }}{{ $port }}, from pods with the label {{ $name }}-client=true
Other ingress:     {{ with $namespaces }}pods of the namespaces {{ join ", " . }}{{ else }}no namespace{{ end }}
{{- with .Values.networkPolicy.extraIngress }}, and networkPolicy.extraIngress{{ end }}
{{- end }}
Test:              helm test {{ .Release.Name }} --namespace {{ .Release.Namespace }} --logs

{{- if hasPrefix "your-dockerhub-username/" .Values.image.repository }}

WARNING: image.repository is the placeholder. The pods start only if an image of that name was loaded into the cluster;
  otherwise: helm upgrade {{ .Release.Name }} ... --set image.repository=<yours> --set image.tag=<commit>
{{- end }}
{{- if and (eq (toString .Values.image.tag) "latest") (not .Values.image.digest) }}

WARNING: image.tag is latest. Re-pushing a tag does not trigger a rollout; deploy a commit's tag.
{{- end }}
{{- if eq .Values.auth.mode "none" }}

WARNING: auth.mode is none. Anonymous callers can read and change everything in the API{{ if $reachable }}, and it is reachable
  as {{ .Values.ingress.host }}{{ end }}. Set auth.mode to tokens or oidc.
{{- end }}
{{- if .Values.ingress.enabled }}
{{- if not .Values.ingress.tls.secretName }}

WARNING: ingress.tls.secretName is empty. Requests and tokens are sent unencrypted.
{{- else if not .Values.ingress.tls.clusterIssuer }}

NOTE: the certificate is the Secret {{ .Values.ingress.tls.secretName }}. Without it ingress-nginx serves its default, which no
  client trusts: {{ $kubectl }} create secret tls {{ .Values.ingress.tls.secretName }} --cert=tls.crt --key=tls.key
{{- end }}
{{- end }}
{{- if eq (include "service.database" .) "memory" }}

WARNING: database.inMemory is true. All {{ include "service.storedData" . }} are lost whenever the pod stops.
{{- else if eq (include "service.database" .) "bundled" }}

NOTE: {{ include "service.storedData" . }} are in the bundled PostgreSQL, a single pod. For production use your own: database.existingSecret.
  Its volume and password are kept after an uninstall, for the next install under the same name.
{{- if not (include "service.backup" .) }}
  It is not backed up: set database.bundled.backup.enabled, or run `make backup` (docs/operate.md).
{{- end }}
{{- end }}
{{- if not .Values.networkPolicy.enabled }}

WARNING: networkPolicy.enabled is false. Every pod of the cluster can connect to the API
{{- if eq (include "service.database" .) "bundled" }} and the database{{ end }}.
{{- end }}
{{- $replicas := include "service.replicas" . }}
{{- if and (not .Values.autoscaling.enabled) .Values.replicaCount (ne $replicas (toString .Values.replicaCount)) }}

NOTE: autoscaling is off now; its {{ $replicas }} replicas are kept. The next upgrade scales to {{ .Values.replicaCount }} (replicaCount).
{{- end }}
{{- $single := eq (int .Values.replicaCount) 1 }}
{{- if eq (include "service.database" .) "memory" }}{{ $single = false }}{{ end }}
{{- if $single }}

WARNING: replicaCount is 1. Requests fail while the pod restarts or its node is drained. Set it to 2 or more.
{{- end }}
{{- $seconds := include "service.rolloutSeconds" . | int }}
{{- if gt $seconds 90 }}

NOTE: a rollout of the maximum number of replicas takes about {{ $seconds }} s, plus the image pull: run `helm upgrade --wait` with a
  --timeout of {{ add $seconds 60 }}s or more, or raise rollingUpdate.maxSurge.
{{- end }}
{{- if .Values.autoscaling.enabled }}

NOTE: the autoscaler needs metrics-server. Without it TARGETS shows <unknown>, and replicas stay at {{ .Values.replicaCount }}.
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.labels) }}

NOTE: serviceMonitor.labels is empty. A Prometheus that selects ServiceMonitors by label, such as kube-prometheus-stack's
  by `release`, ignores this one.
{{- end }}
{{- if and (ne .Values.auth.mode "none") (not .Values.helmTest.credential.secretName) }}

NOTE: helmTest.credential.secretName is empty. `helm test` can only check that writes without a token are rejected.
{{- end }}
{{- end }}

{{/*
The duration of a rollout at the maximum number of replicas: in each wave 4 s until a new pod responds, up to
startup.periodSeconds until the kubelet notices, and minReadySeconds.
*/}}
{{- define "service.rolloutSeconds" -}}
{{- $replicas := int (ternary .Values.autoscaling.maxReplicas .Values.replicaCount .Values.autoscaling.enabled) }}
{{- /* If both round to 0, Kubernetes makes one pod unavailable. */}}
{{- $wave := max 1 (add (include "service.podCount" (list $replicas .Values.rollingUpdate.maxSurge 99)) (include "service.podCount" (list $replicas .Values.rollingUpdate.maxUnavailable 0))) }}
{{- mul (div (sub (add $replicas $wave) 1) $wave) (add 4 (int .Values.probes.startup.periodSeconds) (int .Values.minReadySeconds)) }}
{{- end }}
