{{- define "service.deployment" -}}
{{- include "service.defaults" . }}
{{- include "service.validate" . }}
{{- $database := include "service.database" . }}
{{- $environment := include "service.environmentPrefix" . }}
{{- $prefix := ternary .Values.ingress.path "" (and (or .Values.ingress.enabled .Values.httpRoute.enabled) (ne .Values.ingress.path "/")) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "service.fullname" . }}
  labels:
    {{- include "service.labels" . | nindent 4 }}
  annotations:
    # What checkers ask for otherwise, each with the reason for not doing it. For kube-score it is those of checkov.
    {{- $ignored := "container-image-tag,container-image-pull-policy,container-security-context-user-group-id" }}
    {{- if eq $database "memory" }}
    # And one pod that is never two, since its {{ include "service.keeps" . }} are in its memory.
    {{- $ignored = printf "%s,deployment-strategy,deployment-replicas" $ignored }}
    {{- end }}
    kube-score/ignore: {{ $ignored }}
    checkov.io/skip1: CKV_K8S_14=latest is a placeholder like the repository; a deploy names a commit or a digest
    checkov.io/skip2: CKV_K8S_15=IfNotPresent lets a local cluster use an image that was loaded into it
    checkov.io/skip3: CKV_K8S_35=the service reads its settings from the environment, and nothing else runs in the container
    checkov.io/skip4: CKV_K8S_40=1000 is the user that the image is made for
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicaCount }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "service.selectorLabels" . | nindent 6 }}
  minReadySeconds: {{ .Values.minReadySeconds }}
  {{- $probes := .Values.probes }}
  {{- $untilReady := add (mul $probes.startup.periodSeconds $probes.startup.failureThreshold) .Values.minReadySeconds }}
  {{- if ge $untilReady 600 }}
  # A pod may take so long until it counts; by its default of 600 the rollout would have failed before.
  progressDeadlineSeconds: {{ add $untilReady 60 }}
  {{- end }}
  strategy:
    {{- if eq $database "memory" }}
    # Two pods at once would have different {{ include "service.keeps" . }}.
    type: Recreate
    {{- else }}
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ .Values.rollingUpdate.maxSurge }}
      maxUnavailable: {{ .Values.rollingUpdate.maxUnavailable }}
    {{- end }}
  template:
    metadata:
      {{- with .Values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      labels:
        {{- include "service.selectorLabels" . | nindent 8 }}
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      serviceAccountName: {{ include "service.fullname" . }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with .Values.priorityClassName }}
      priorityClassName: {{ . | quote }}
      {{- end }}
      {{- with .Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      affinity:
        {{- if .Values.affinity }}
        {{- toYaml .Values.affinity | nindent 8 }}
        {{- else }}
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
          # Each release is spread by itself: the pods of the last one are about to go.
          matchLabelKeys: [pod-template-hash]
        {{- end }}
        {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        fsGroup: 1000
        seccompProfile:
          type: RuntimeDefault
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
                  # The operator makes this Secret for the database's owner.
                  name: {{ include "service.postgres.fullname" . }}-app
                  key: uri
                  {{- else }}
                  name: {{ include "service.bundledSecret" . | quote }}
                  key: url
                  {{- end }}
              {{- end }}
            - name: {{ $environment }}DATABASE_POOL_SIZE
              value: {{ .Values.database.poolSize | toString | quote }}
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
            {{- end }}
            {{- with .Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: http
              containerPort: 8000
              protocol: TCP
          # Time to wait for the database and bring its schema up to date, asked each second: with longer periods every new
          # pod would wait for the end of one.
          startupProbe:
            httpGet:
              path: /livez
              port: http
            {{- toYaml $probes.startup | nindent 12 }}
          livenessProbe:
            httpGet:
              path: /livez
              port: http
            {{- toYaml $probes.liveness | nindent 12 }}
          readinessProbe:
            httpGet:
              path: /readyz
              port: http
            {{- toYaml $probes.readiness | nindent 12 }}
          lifecycle:
            preStop:
              {{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
              # By the kubelet itself; before 1.30 a program of the image has to sleep.
              sleep:
                seconds: {{ .Values.shutdown.preStopSeconds }}
              {{- else }}
              exec:
                command: [sleep, {{ .Values.shutdown.preStopSeconds | toString | quote }}]
              {{- end }}
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if eq .Values.auth.mode "tokens" }}
            # A folder, not a subPath, which would never see a change of the Secret.
            - name: tokens
              mountPath: /run/secrets/tokens
              readOnly: true
            {{- end }}
            {{- if .Values.database.certificatesSecret }}
            - name: database-certificates
              mountPath: /run/secrets/database
              readOnly: true
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
{{- end }}
