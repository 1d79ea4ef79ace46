{{- define "service.test-api" -}}
{{- include "service.defaults" . }}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "service.fullname" . }}-test
  labels:
    {{- include "service.commonLabels" . | nindent 4 }}
    {{- include "service.test.selectorLabels" . | nindent 4 }}
    {{- include "service.clientLabel" . | nindent 4 }}
  annotations:
    helm.sh/hook: test
    # It stays until the next test, for `kubectl logs`.
    helm.sh/hook-delete-policy: before-hook-creation
    # What checkers ask for otherwise, each with the reason for not doing it. For kube-score it is those of checkov.
    kube-score/ignore: container-image-tag,container-image-pull-policy,container-security-context-user-group-id
    checkov.io/skip1: CKV_K8S_8=it runs once and ends; activeDeadlineSeconds ends it otherwise
    checkov.io/skip2: CKV_K8S_9=it serves nobody
    checkov.io/skip3: CKV_K8S_14=it tests the image that is deployed
    checkov.io/skip4: CKV_K8S_15=it tests the image that is deployed
    checkov.io/skip5: CKV_K8S_40=1000 is the user that the image is made for
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 120
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  serviceAccountName: {{ include "service.fullname" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: test
      # The API's own image: it is there already, and has Python.
      image: {{ include "service.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - name: API
          value: http://{{ include "service.fullname" . }}:{{ .Values.service.port }}
        - name: AUTH
          value: {{ .Values.auth.mode }}
      command: [python, -c]
      args:
        - |
          import json, os, pathlib, time, urllib.error, urllib.request

          API, AUTH = os.environ["API"], os.environ["AUTH"]
          token_file = pathlib.Path("/run/secrets/token/token")
          TOKEN = token_file.read_text().strip() if token_file.exists() else ""


          def call(method, path, body=None):
              headers = {"Content-Type": "application/json"}
              if TOKEN:
                  headers["Authorization"] = f"Bearer {TOKEN}"
              data = json.dumps(body).encode() if body else None
              request = urllib.request.Request(API + path, data, headers, method=method)
              try:
                  with urllib.request.urlopen(request, timeout=10) as answer:
                      status, text = answer.status, answer.read()
              except urllib.error.HTTPError as answer:
                  status, text = answer.code, answer.read()
              print(method, path, status, flush=True)
              return status, text


          def expect(wanted, status, text):
              if status != wanted:
                  raise SystemExit(f"FAILED: expected {wanted}, was answered {status}: {text.decode()}")


          deadline = time.monotonic() + 60
          while True:
              try:
                  expect(200, *call("GET", "/readyz"))
                  break
              except OSError as error:
                  if time.monotonic() > deadline:
                      raise SystemExit(f"FAILED: {API} cannot be reached: {error}. See: kubectl get pods,endpoints")
                  time.sleep(1)

          expect(401 if AUTH != "none" and not TOKEN else 200, *call("GET", "/metrics"))
          {{- include "service.test" . | nindent 10 }}
          print("ok: it answers, and shows its metrics only to those who may see them")
      resources:
        requests:
          cpu: 50m
          memory: 64Mi
          ephemeral-storage: 16Mi
        limits:
          cpu: 500m
          memory: 128Mi
          ephemeral-storage: 64Mi
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if .Values.helmTest.credential.secretName }}
        - name: token
          mountPath: /run/secrets/token
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 16Mi
    {{- if .Values.helmTest.credential.secretName }}
    - name: token
      secret:
        secretName: {{ .Values.helmTest.credential.secretName | quote }}
        defaultMode: 0440
        items:
          - key: {{ .Values.helmTest.credential.key | quote }}
            path: token
    {{- end }}
{{- end }}
