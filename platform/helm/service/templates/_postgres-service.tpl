{{- define "service.postgres-service" -}}
{{- include "service.defaults" . }}
{{- if eq (include "service.database" .) "bundled" }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "service.postgres.fullname" . }}
  labels:
    {{- include "service.postgres.labels" . | nindent 4 }}
spec:
  # Headless: the name resolves to the one pod.
  clusterIP: None
  selector:
    {{- include "service.postgres.selectorLabels" . | nindent 4 }}
  ports:
    - name: postgres
      port: 5432
      targetPort: postgres
      protocol: TCP
{{- end }}
{{- end }}
