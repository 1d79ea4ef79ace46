{{/*
What values.schema.json cannot say, or not so that a person understands it: how a text has to look, and which values do
not go together. All of it is said at once, so that nobody repairs one value after the other.
*/}}
{{- define "service.validate" -}}
{{- $values := .Values }}
{{- $database := include "service.database" . }}
{{- $wrong := list }}
{{- $name := include "service.name" . }}
{{- $keeps := include "service.keeps" . }}

{{- range $key := include "service.self" . | fromYaml | keys | sortAlpha }}
{{- if not (has $key (list "environmentPrefix" "keeps" "stream" "runbooks" "test")) }}
{{- $wrong = append $wrong (printf "files/service.yaml of the chart has %s, which says nothing to the library, or is no YAML." $key) }}
{{- end }}
{{- end }}

{{- $tag := include "service.tag" . }}
{{- if not (regexMatch "^([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*$" $values.image.repository) }}
{{- $wrong = append $wrong (printf "image.repository is %q. Give it in lower case, without tag and digest: you/%s or registry.example.com/you/%s." $values.image.repository $name $name) }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" $tag) }}
{{- $wrong = append $wrong (printf "image.tag is %q. A tag has letters, digits, dots, - and _, and 128 of them at most." $tag) }}
{{- end }}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" (default "" $values.image.digest)) }}
{{- $wrong = append $wrong (printf "image.digest is %q. Give sha256: and 64 hexadecimal digits, as `docker push` prints them, or nothing." $values.image.digest) }}
{{- end }}

{{- range prepend (default list $values.ingress.extraHosts) $values.ingress.host }}
{{- if not (regexMatch "^(\\*\\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" .) }}
{{- $wrong = append $wrong (printf "ingress.host or ingress.extraHosts has %q. Give a host name alone, in lower case: without https://, port and path." .) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^(/|(/[A-Za-z0-9_-]+)+)$" $values.ingress.path) }}
{{- $wrong = append $wrong (printf "ingress.path is %q. Give / or a prefix such as /%s: with a slash before it and none after it, of letters, digits, - and _." $values.ingress.path $name) }}
{{- end }}

{{- if and (not $keeps) (ne (toJson $values.database) (toJson $values.library.exports.defaults.database)) }}
{{- $wrong = append $wrong (printf "A value of database is set, and %s keeps nothing in a database. Take it out." $name) }}
{{- end }}

{{- $chosen := list }}
{{- if $values.database.existingSecret }}{{ $chosen = append $chosen "database.existingSecret" }}{{ end }}
{{- if $values.database.cloudNativePG.enabled }}{{ $chosen = append $chosen "database.cloudNativePG.enabled" }}{{ end }}
{{- if $values.database.inMemory }}{{ $chosen = append $chosen "database.inMemory" }}{{ end }}
{{- if gt (len $chosen) 1 }}
{{- $wrong = append $wrong (printf "%s are set together. %s are kept in one place: set one of them." (join " and " $chosen) (title $keeps)) }}
{{- end }}

{{- if and $values.database.inMemory (or $values.autoscaling.enabled (ne (int $values.replicaCount) 1)) }}
{{- $wrong = append $wrong (printf "database.inMemory is true and there may be more than one replica. Each pod would have %s of its own, and which of them a client sees would change with every request. Set autoscaling.enabled=false and replicaCount=1, or choose a database." $keeps) }}
{{- end }}

{{- if has $database (list "bundled" "cloudNativePG" "external") }}
{{- $pods := include "service.mostPods" . | int }}
{{- $used := add (mul $pods (int $values.database.poolSize)) (int $values.database.reservedConnections) }}
{{- if ge $used (int64 $values.database.maxConnections) }}
{{- $wrong = append $wrong (printf "%d pods (the most, maxSurge included) x database.poolSize %d + database.reservedConnections %d = %d connections, which is not below database.maxConnections %d. Lower autoscaling.maxReplicas or database.poolSize, or raise max_connections of the database and database.maxConnections." $pods (int $values.database.poolSize) (int $values.database.reservedConnections) $used (int $values.database.maxConnections)) }}
{{- end }}
{{- end }}

{{- with $values.database.bundled.backup }}
{{- if and .enabled $keeps (ne $database "bundled") }}
{{- $wrong = append $wrong "database.bundled.backup.enabled is true, and the database is not the bundled one. Set it to false: a database of your own has backups of its own kind." }}
{{- end }}
{{- if and .s3.bucket (not .s3.existingSecret) }}
{{- $wrong = append $wrong "database.bundled.backup.s3.bucket is set without s3.existingSecret. Name the Secret with the keys access-key-id and secret-access-key." }}
{{- end }}
{{- if and .enabled (not (dig "limits" "ephemeral-storage" "" .resources)) }}
{{- $wrong = append $wrong "database.bundled.backup.resources.limits.ephemeral-storage is not set. It is how big a backup may be on its way to a bucket: set it." }}
{{- end }}
{{- end }}

{{- with $values.shutdown }}
{{- $needed := add (int .preStopSeconds) (int .drainSeconds) (int .gracefulSeconds) 1 }}
{{- if ge $needed (int64 .terminationGracePeriodSeconds) }}
{{- $wrong = append $wrong (printf "shutdown: preStopSeconds %d + drainSeconds %d + gracefulSeconds %d + 1 to close the storage = %d s, which is not below terminationGracePeriodSeconds %d. Pods would be killed in the middle of requests. Raise terminationGracePeriodSeconds." (int .preStopSeconds) (int .drainSeconds) (int .gracefulSeconds) $needed (int .terminationGracePeriodSeconds)) }}
{{- end }}
{{- end }}

{{- if and (has (toString $values.rollingUpdate.maxSurge) (list "0" "0%")) (has (toString $values.rollingUpdate.maxUnavailable) (list "0" "0%")) }}
{{- $wrong = append $wrong "rollingUpdate.maxSurge and rollingUpdate.maxUnavailable are both 0. A rollout could neither start a pod nor end one: set one of them to 1 or more." }}
{{- end }}

{{- if $values.autoscaling.enabled }}
{{- if kindIs "invalid" $values.replicaCount }}
{{- $wrong = append $wrong "replicaCount is null and autoscaling.enabled is true. The chart's autoscaler needs replicaCount as the fewest replicas: give a number, or set autoscaling.enabled=false and leave the number to an autoscaler of your own." }}
{{- end }}
{{- if gt (int $values.replicaCount) (int $values.autoscaling.maxReplicas) }}
{{- $wrong = append $wrong (printf "replicaCount %d is above autoscaling.maxReplicas %d. With autoscaling replicaCount is the fewest replicas: raise one or lower the other." (int $values.replicaCount) (int $values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if not (dig "requests" "cpu" "" $values.resources) }}
{{- $wrong = append $wrong "resources.requests.cpu is not set. The HorizontalPodAutoscaler measures against it and would never scale: set it, or autoscaling.enabled=false." }}
{{- end }}
{{- if and $values.autoscaling.containerResource (semverCompare "<1.27-0" .Capabilities.KubeVersion.Version) }}
{{- $wrong = append $wrong (printf "autoscaling.containerResource needs Kubernetes 1.27 or later, and this is %s. Set it to false." .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}

{{- if and $values.ingress.enabled $values.ingress.tls.clusterIssuer (not $values.ingress.tls.secretName) }}
{{- $wrong = append $wrong "ingress.tls.clusterIssuer is set without ingress.tls.secretName. Name the Secret into which cert-manager is to write the certificate." }}
{{- end }}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "httpRoute.enabled is true without httpRoute.parentRefs. Name the Gateway that is to serve the API: --set 'httpRoute.parentRefs[0].name=my-gateway'." }}
{{- end }}

{{- if and (eq $values.auth.mode "tokens") (not $values.auth.tokens.existingSecret) }}
{{- $wrong = append $wrong "auth.mode is tokens without auth.tokens.existingSecret. Name the Secret whose key `tokens` has the lines that `app token new` prints." }}
{{- end }}
{{- if and (eq $values.auth.mode "oidc") (not (and $values.auth.oidc.issuer $values.auth.oidc.audience)) }}
{{- $wrong = append $wrong "auth.mode is oidc without auth.oidc.issuer and auth.oidc.audience. Set both." }}
{{- end }}
{{- if and $values.serviceMonitor.enabled (ne $values.auth.mode "none") (not $values.serviceMonitor.credential.secretName) }}
{{- $wrong = append $wrong (printf "serviceMonitor.enabled is true and auth.mode is %s, but serviceMonitor.credential.secretName is not set. Prometheus would be answered 401 at /metrics: name the Secret with a token that has the scope read." $values.auth.mode) }}
{{- end }}

{{- $ofPods := include "service.selectorLabels" . | fromYaml | keys }}
{{- $ofAll := concat $ofPods (list "app.kubernetes.io/managed-by" "app.kubernetes.io/version" "helm.sh/chart" (printf "%s-client" (include "service.fullname" .))) }}
{{- $labels := dict "commonLabels" $values.commonLabels "podLabels" $values.podLabels }}
{{- range $kind, $of := $values.pods }}
{{- $_ := set $labels (printf "pods.%s.podLabels" $kind) (default dict $of).podLabels }}
{{- end }}
{{- range $value, $given := $labels }}
{{- range $key := $given | default dict | keys | sortAlpha }}
{{- if has $key (ternary $ofAll $ofPods (eq $value "commonLabels")) }}
{{- $wrong = append $wrong (printf "%s has %s. The chart writes that label itself: choose another name." $value $key) }}
{{- end }}
{{- end }}
{{- end }}

{{- $own := list "tmp" "tokens" "database-certificates" }}
{{- $there := $own }}
{{- range $values.extraVolumes }}
{{- if has .name $own }}
{{- $wrong = append $wrong (printf "extraVolumes has %s, which the chart makes itself. Choose another name." .name) }}
{{- else if has .name $there }}
{{- $wrong = append $wrong (printf "extraVolumes has %s twice. Take one of them out." .name) }}
{{- end }}
{{- $there = append $there .name }}
{{- end }}
{{- $paths := list "/tmp" "/run/secrets/tokens" "/run/secrets/database" }}
{{- range $values.extraVolumeMounts }}
{{- if not (has .name $there) }}
{{- $wrong = append $wrong (printf "extraVolumeMounts has %s, and extraVolumes has no volume of that name. Add it there." .name) }}
{{- end }}
{{- if has (trimSuffix "/" .mountPath) $paths }}
{{- $wrong = append $wrong (printf "extraVolumeMounts has %s, where the chart or another line has a volume. Choose another path." .mountPath) }}
{{- end }}
{{- $paths = append $paths (trimSuffix "/" .mountPath) }}
{{- end }}

{{- /* Of two variables of one name Kubernetes takes the last, and what is checked above would not be what is so. */}}
{{- $valueOf := dict "DRAIN_SECONDS" "shutdown.drainSeconds" "GRACEFUL_SECONDS" "shutdown.gracefulSeconds" "AUTH" "auth.mode" "AUTH_TOKEN_FILE" "auth.tokens.existingSecret" "OIDC_ISSUER" "auth.oidc.issuer" "OIDC_AUDIENCE" "auth.oidc.audience" }}
{{- if $keeps }}
{{- $valueOf = mergeOverwrite $valueOf (dict "DATABASE_URL" "database.existingSecret" "DATABASE_POOL_SIZE" "database.poolSize") }}
{{- end }}
{{- if or $values.ingress.enabled $values.httpRoute.enabled }}
{{- $_ := set $valueOf "ROOT_PATH" "ingress.path" }}
{{- end }}
{{- $prefix := include "service.environmentPrefix" . }}
{{- $seen := list }}
{{- range $values.extraEnv }}
{{- $setting := trimPrefix $prefix .name }}
{{- if and (hasPrefix $prefix .name) (hasKey $valueOf $setting) }}
{{- $wrong = append $wrong (printf "extraEnv has %s, which the chart writes itself. Set %s instead." .name (index $valueOf $setting)) }}
{{- else if has .name $seen }}
{{- $wrong = append $wrong (printf "extraEnv has %s twice. Take one of them out." .name) }}
{{- end }}
{{- $seen = append $seen .name }}
{{- end }}

{{- if $wrong }}
{{- fail (printf "\n\nThese values cannot work:\n\n- %s\n" (join "\n- " $wrong)) }}
{{- end }}
{{- end }}
