{{- define "service.postgres" -}}
{{- include "service.defaults" . }}
{{- if eq (include "service.database" .) "bundled" }}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "service.postgres.fullname" . }}
  labels:
    {{- include "service.postgres.labels" . | nindent 4 }}
  annotations:
    # What checkers ask for otherwise, each with the reason for not doing it. For kube-score it is those of checkov.
    kube-score/ignore: container-image-pull-policy,container-security-context-user-group-id
    checkov.io/skip1: CKV_K8S_15=a database does not start anew because a registry is down
    checkov.io/skip2: CKV_K8S_40=999 is the user that the official image is made for
spec:
  replicas: 1
  serviceName: {{ include "service.postgres.fullname" . }}
  selector:
    matchLabels:
      {{- include "service.postgres.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "service.postgres.selectorLabels" . | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: 999
        runAsGroup: 999
        fsGroup: 999
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: postgres
          image: {{ .Values.database.bundled.image | quote }}
          imagePullPolicy: IfNotPresent
          args: [postgres, -c, max_connections={{ .Values.database.maxConnections }}]
          env:
            - name: POSTGRES_USER
              value: {{ include "service.database.name" . }}
            - name: POSTGRES_DB
              value: {{ include "service.database.name" . }}
            - name: POSTGRES_PASSWORD_FILE
              value: /run/secrets/database/password
            # A folder below the volume: a volume of its own file system has lost+found in its root.
            - name: PGDATA
              value: /var/lib/postgresql/data/pgdata
          ports:
            - name: postgres
              containerPort: 5432
              protocol: TCP
          # Over TCP: while it initialises, the image's temporary server listens on the socket alone. Exit code 1 says
          # that it lives and lets nobody in yet: to kill it while it recovers would make it begin again.
          startupProbe:
            exec:
              command: [sh, -c, "pg_isready --quiet --host=127.0.0.1 --username={{ include "service.database.name" . }}; test $? -le 1"]
            periodSeconds: 2
            failureThreshold: 60
          livenessProbe:
            exec:
              command: [sh, -c, "pg_isready --quiet --host=127.0.0.1 --username={{ include "service.database.name" . }}; test $? -le 1"]
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            exec:
              command: [pg_isready, --host=127.0.0.1, --username={{ include "service.database.name" . }}]
            periodSeconds: 5
            timeoutSeconds: 5
          resources:
            {{- toYaml .Values.database.bundled.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
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
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .Values.database.bundled.storageClassName }}
        storageClassName: {{ . | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ .Values.database.bundled.storage }}
{{- end }}
{{- end }}
