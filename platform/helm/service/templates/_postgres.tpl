{{- define "service.postgres" -}}
{{- include "service.defaults" . }}
{{- if eq (include "service.database" .) "bundled" }}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "service.postgres.fullname" . }}
  labels:
    {{- include "service.postgres.labels" . | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ include "service.postgres.fullname" . }}
  selector:
    matchLabels:
      {{- include "service.postgres.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      {{- with include "service.pod.annotations" (list . "database") }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
      labels:
        {{- include "service.postgres.selectorLabels" . | nindent 8 }}
        {{- with include "service.pod.labels" (list . "database") }}
        {{- . | nindent 8 }}
        {{- end }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with include "service.pod.spec" (list . "database") }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: postgres
          image: {{ .Values.database.bundled.image | quote }}
          # The database must be able to restart while the registry is down.
          imagePullPolicy: IfNotPresent
          args: [postgres, -c, max_connections={{ .Values.database.maxConnections }}]
          env:
            - name: POSTGRES_USER
              value: {{ include "service.database.name" . }}
            - name: POSTGRES_DB
              value: {{ include "service.database.name" . }}
            - name: POSTGRES_PASSWORD_FILE
              value: /run/secrets/database/password
            # A subdirectory of the volume: a volume with its own file system has lost+found in its root.
            - name: PGDATA
              value: /var/lib/postgresql/data/pgdata
          ports:
            - name: postgres
              containerPort: 5432
              protocol: TCP
          # Over TCP: during initialisation the image's temporary server listens only on the socket. Exit code 1 means
          # alive but rejecting connections: killing it during recovery would make recovery start over.
          startupProbe:
            exec:
              command: [sh, -c, "pg_isready --quiet --host=127.0.0.1 --username={{ include "service.database.name" . }}; test $? -le 1"]
            periodSeconds: 2
            failureThreshold: 60
            successThreshold: 1
            timeoutSeconds: 1
          livenessProbe:
            exec:
              command: [sh, -c, "pg_isready --quiet --host=127.0.0.1 --username={{ include "service.database.name" . }}; test $? -le 1"]
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
            successThreshold: 1
          readinessProbe:
            exec:
              command: [pg_isready, --host=127.0.0.1, --username={{ include "service.database.name" . }}]
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 3
            successThreshold: 1
          terminationMessagePath: /dev/termination-log
          terminationMessagePolicy: File
          resources:
            {{- toYaml .Values.database.bundled.resources | nindent 12 }}
          {{- with include "service.pod.containerSecurityContext" (list . "database") }}
          {{- . | nindent 10 }}
          {{- end }}
          volumeMounts:
            - name: data
              mountPath: /var/lib/postgresql/data
            - name: password
              mountPath: /run/secrets/database
              readOnly: true
            - name: run
              mountPath: /var/run/postgresql
            - name: tmp
              mountPath: /tmp
      terminationGracePeriodSeconds: 60
      volumes:
        - name: password
          secret:
            secretName: {{ include "service.bundledSecret" . | quote }}
            defaultMode: 0440
            items:
              - key: password
                path: password
        - name: run
          emptyDir:
            sizeLimit: 16Mi
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
  volumeClaimTemplates:
    # With all API server defaults: the list is compared as a whole and is immutable.
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        volumeMode: Filesystem
        {{- with .Values.database.bundled.storageClassName }}
        storageClassName: {{ . | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ .Values.database.bundled.storage }}
      status:
        phase: Pending
{{- end }}
{{- end }}
