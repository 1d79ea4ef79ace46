{{- define "service.deployment" -}}
{{- include "service.defaults" . }}
{{- include "service.validate" . }}
{{- $database := include "service.database" . }}
{{- $environment := include "service.environmentPrefix" . }}
{{- $replicas := include "service.replicas" . }}
{{- $prefix := ternary .Values.ingress.path "" (and (or .Values.ingress.enabled .Values.httpRoute.enabled) (ne .Values.ingress.path "/")) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- include "service.labels" . | nindent 4 }}
  {{- if $replicas }}
  annotations:
    service/replicas: written
  {{- end }}
spec:
  {{- with $replicas }}
  replicas: {{ . }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "service.selectorLabels" . | nindent 6 }}
  {{- /* The API server omits a zero. */}}
  {{- with .Values.minReadySeconds }}
  minReadySeconds: {{ . }}
  {{- end }}
  {{- $probes := .Values.probes }}
  {{- $untilReady := add (mul $probes.startup.periodSeconds $probes.startup.failureThreshold) .Values.minReadySeconds }}
  {{- if ge $untilReady 600 }}
  # A pod may take that long to become available; with the default of 600 the rollout would have failed before.
  progressDeadlineSeconds: {{ add $untilReady 60 }}
  {{- end }}
  strategy:
    {{- if eq $database "memory" }}
    # Two concurrent pods would have different {{ include "service.storedData" . }}.
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ .Values.rollingUpdate.maxSurge }}
      maxUnavailable: {{ .Values.rollingUpdate.maxUnavailable }}
    {{- end }}
  template:
    metadata:
      {{- with include "service.pod.annotations" (list . "api") }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
      labels:
        {{- include "service.selectorLabels" . | nindent 8 }}
        {{- with include "service.pod.labels" (list . "api") }}
        {{- . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "service.fullname" . }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- $spec := include "service.pod.spec" (list . "api") }}
      {{- with $spec }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- if not ($spec | fromYaml).affinity }}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    {{- include "service.selectorLabels" . | nindent 20 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range .Values.topologySpreadConstraints }}
        {{- $selector := dict "matchLabels" (include "service.selectorLabels" $ | fromYaml) }}
        - {{- set (deepCopy .) "labelSelector" (.labelSelector | default $selector) | toYaml | nindent 10 }}
        {{- else }}
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "service.selectorLabels" $ | nindent 14 }}
          # Each revision is spread separately: the pods of the last one are about to terminate.
          matchLabelKeys: [pod-template-hash]
        {{- end }}
        {{- end }}
      containers:
        - name: api
          image: {{ include "service.image" . | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          env:
            {{- if ne $database "none" }}
            - name: {{ $environment }}DATABASE_URL
              {{- if eq $database "memory" }}
              value: memory://
              {{- else }}
              valueFrom:
                secretKeyRef:
                  {{- if eq $database "external" }}
                  name: {{ .Values.database.existingSecret | quote }}
                  key: {{ .Values.database.existingSecretKey }}
                  {{- else if eq $database "cloudNativePG" }}
                  # The operator creates this Secret for the database's owner.
                  name: {{ include "service.postgres.fullname" . }}-app
                  key: uri
                  {{- else }}
                  name: {{ include "service.bundledSecret" . | quote }}
                  key: url
                  {{- end }}
              {{- end }}
            - name: {{ $environment }}DATABASE_POOL_SIZE
              value: {{ .Values.database.poolSize | toString | quote }}
            {{- $wait := printf "%sDATABASE_WAIT_SECONDS" $environment }}
            {{- $waits := false }}
            {{- range .Values.extraEnv }}{{ $waits = or $waits (eq .name $wait) }}{{ end }}
            {{- if and (ne $database "memory") (not $waits) }}
            # A pod that exited without its database would be restarted with increasing back-off.
            - name: {{ $wait }}
              value: inf
            {{- end }}
            {{- end }}
            - name: {{ $environment }}DRAIN_SECONDS
              value: {{ .Values.shutdown.drainSeconds | toString | quote }}
            - name: {{ $environment }}GRACEFUL_SECONDS
              value: {{ .Values.shutdown.gracefulSeconds | toString | quote }}
            {{- with $prefix }}
            - name: {{ $environment }}ROOT_PATH
              value: {{ . }}
            {{- end }}
            {{- if ne (int64 .Values.maxBodyBytes) 1048576 }}
            - name: {{ $environment }}BODY_MAX_BYTES
              value: {{ int64 .Values.maxBodyBytes | toString | quote }}
            {{- end }}
            {{- if ne .Values.auth.mode "none" }}
            - name: {{ $environment }}AUTH
              value: {{ .Values.auth.mode }}
            {{- end }}
            {{- if eq .Values.auth.mode "tokens" }}
            - name: {{ $environment }}AUTH_TOKEN_FILE
              value: /run/secrets/tokens/tokens
            {{- else if eq .Values.auth.mode "oidc" }}
            - name: {{ $environment }}OIDC_ISSUER
              value: {{ .Values.auth.oidc.issuer | quote }}
            - name: {{ $environment }}OIDC_AUDIENCE
              value: {{ .Values.auth.oidc.audience | quote }}
            {{- with .Values.auth.oidc.claim }}
            - name: {{ $environment }}OIDC_CLAIM
              value: {{ . | quote }}
            {{- end }}
            {{- with .Values.auth.oidc.read }}
            - name: {{ $environment }}OIDC_READ
              value: {{ . | quote }}
            {{- end }}
            {{- with .Values.auth.oidc.write }}
            - name: {{ $environment }}OIDC_WRITE
              value: {{ . | quote }}
            {{- end }}
            {{- with .Values.auth.oidc.readSubjects }}
            - name: {{ $environment }}OIDC_READ_SUBJECTS
              value: {{ . | quote }}
            {{- end }}
            {{- with .Values.auth.oidc.writeSubjects }}
            - name: {{ $environment }}OIDC_WRITE_SUBJECTS
              value: {{ . | quote }}
            {{- end }}
            {{- with .Values.auth.oidc.audienceClaim }}
            - name: {{ $environment }}OIDC_AUDIENCE_CLAIM
              value: {{ . | quote }}
            {{- end }}
            {{- with .Values.auth.oidc.subjectClaim }}
            - name: {{ $environment }}OIDC_SUBJECT_CLAIM
              value: {{ . | quote }}
            {{- end }}
            {{- end }}
            {{- with .Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: http
              containerPort: 8000
              protocol: TCP
          # The process responds before its database is there. Probed every second: with a longer period every new pod would
          # wait for the next probe.
          startupProbe:
            httpGet:
              path: /livez
              port: http
              scheme: HTTP
            {{- toYaml $probes.startup | nindent 12 }}
            successThreshold: 1
          livenessProbe:
            httpGet:
              path: /livez
              port: http
              scheme: HTTP
            {{- toYaml $probes.liveness | nindent 12 }}
            successThreshold: 1
          readinessProbe:
            httpGet:
              path: /readyz
              port: http
              scheme: HTTP
            {{- toYaml $probes.readiness | nindent 12 }}
            successThreshold: 1
          terminationMessagePath: /dev/termination-log
          terminationMessagePolicy: File
          lifecycle:
            preStop:
              {{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
              # The kubelet sleeps; before 1.30 a program in the image has to.
              sleep:
                seconds: {{ .Values.shutdown.preStopSeconds }}
              {{- else }}
              exec:
                command: [sleep, {{ .Values.shutdown.preStopSeconds | toString | quote }}]
              {{- end }}
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
          {{- with include "service.pod.containerSecurityContext" (list . "api") }}
          {{- . | nindent 10 }}
          {{- end }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if eq .Values.auth.mode "tokens" }}
            # A directory, not a subPath, which would never see changes of the Secret.
            - name: tokens
              mountPath: /run/secrets/tokens
              readOnly: true
            {{- end }}
            {{- if .Values.database.certificatesSecret }}
            - name: database-certificates
              mountPath: /run/secrets/database
              readOnly: true
            {{- end }}
            {{- with .Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      terminationGracePeriodSeconds: {{ .Values.shutdown.terminationGracePeriodSeconds }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
        {{- if eq .Values.auth.mode "tokens" }}
        - name: tokens
          secret:
            secretName: {{ .Values.auth.tokens.existingSecret | quote }}
            defaultMode: 0440
            items:
              - key: tokens
                path: tokens
        {{- end }}
        {{- with .Values.database.certificatesSecret }}
        - name: database-certificates
          secret:
            secretName: {{ . | quote }}
            defaultMode: 0440
        {{- end }}
        {{- with .Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{/*
The number of replicas that the release sets; empty if an autoscaler owns it.

Switching autoscaling on or off keeps the current number. Helm sets a field that the next revision omits to null, which the API
server reads as 1: nine of ten pods would terminate at once. So once a release has set the number, it sets the current one, and an
annotation records that. Without a cluster, as in `helm template`, none of this is known.
*/}}
{{- define "service.replicas" -}}
{{- $owner := "release" }}
{{- if .Values.autoscaling.enabled }}{{ $owner = "hpa" }}{{ else if kindIs "invalid" .Values.replicaCount }}{{ $owner = "other" }}{{ end }}
{{- $name := include "service.fullname" . }}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace $name }}
{{- $hpa := dict }}
{{- if and $live (ne $owner "other") }}
{{- $hpa = lookup "autoscaling/v2" "HorizontalPodAutoscaler" .Release.Namespace $name }}
{{- end }}
{{- $written := and $live (dig "metadata" "annotations" "service/replicas" "" $live) }}
{{- if eq $owner "release" }}
{{- if and $hpa (ne (include "service.database" .) "memory") }}
{{- max (int .Values.replicaCount) (int $live.spec.replicas) }}
{{- else }}
{{- .Values.replicaCount }}
{{- end }}
{{- else if or $written (and (eq $owner "hpa") $live (not $hpa)) }}
{{- int $live.spec.replicas }}
{{- end }}
{{- end }}
