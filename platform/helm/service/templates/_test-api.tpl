{{- define "service.test-api" -}}
{{- include "service.defaults" . }}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "service.fullname" . }}-test
  labels:
    {{- $labels := include "service.commonLabels" . | fromYaml }}
    {{- mergeOverwrite $labels (include "service.pod.labels" (list . "test") | fromYaml) | toYaml | nindent 4 }}
    {{- include "service.test.selectorLabels" . | nindent 4 }}
    {{- include "service.clientLabel" . | nindent 4 }}
  annotations:
    {{- with include "service.pod.annotations" (list . "test") }}
    {{- . | nindent 4 }}
    {{- end }}
    helm.sh/hook: test
    # It is kept until the next test, for `kubectl logs`.
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 120
  serviceAccountName: {{ include "service.fullname" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with include "service.pod.spec" (list . "test") }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: test
      # The API's own image: it is already on the nodes and has Python.
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
                  with urllib.request.urlopen(request, timeout=10) as response:
                      status, text = response.status, response.read()
              except urllib.error.HTTPError as error:
                  status, text = error.code, error.read()
              print(method, path, status, flush=True)
              return status, text


          def expect(expected, status, text):
              if status != expected:
                  raise SystemExit(f"FAILED: expected {expected}, got {status}: {text.decode()}")


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
          print("ok: the API responds, and only authorized callers may read its metrics")
      resources:
        {{- toYaml .Values.helmTest.resources | nindent 8 }}
      {{- with include "service.pod.containerSecurityContext" (list . "test") }}
      {{- . | nindent 6 }}
      {{- end }}
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
