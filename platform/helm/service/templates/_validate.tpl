{{/*
Checks that values.schema.json cannot express, or not in a readable message: string formats and combinations of values. All errors
are reported at once.
*/}}
{{- define "service.validate" -}}
{{- $values := .Values }}
{{- $database := include "service.database" . }}
{{- $errors := list }}
{{- $name := include "service.name" . }}
{{- $storedData := include "service.storedData" . }}

{{- /* First, and separately: the checks below rely on strings. */}}
{{- $schema := .Subcharts.library.Files.Get "files/values.schema.json" | fromJson }}
{{- with include "service.nonStrings" (dict "schema" $schema "node" $schema "value" $values "path" "") | trim }}
{{- fail (printf "\n\nInvalid values:\n\n%s\n" .) }}
{{- end }}

{{- range $error := include "service.invalidNames" . | fromYamlArray }}
{{- $errors = append $errors $error }}
{{- end }}

{{- range $key := include "service.metadata" . | fromYaml | keys | sortAlpha }}
{{- if not (has $key (list "name" "environmentPrefix" "keeps" "stream" "runbooks" "test")) }}
{{- $errors = append $errors (printf "files/service.yaml of the chart has %s, which is not a key of the library, or it is not valid YAML." $key) }}
{{- end }}
{{- end }}

{{- $tag := toString $values.image.tag }}
{{- if not (regexMatch "^([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*$" $values.image.repository) }}
{{- $errors = append $errors (printf "image.repository is %q. It must be in lower case, without tag or digest: you/%s or registry.example.com/you/%s." $values.image.repository $name $name) }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" $tag) }}
{{- $errors = append $errors (printf "image.tag is %q. A tag consists of at most 128 letters, digits, dots, - and _." $tag) }}
{{- end }}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" (default "" $values.image.digest)) }}
{{- $errors = append $errors (printf "image.digest is %q. It must be sha256: and 64 hexadecimal digits, as `docker push` prints them, or empty." $values.image.digest) }}
{{- end }}

{{- range prepend (default list $values.ingress.extraHosts) $values.ingress.host }}
{{- if not (regexMatch "^(\\*\\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" .) }}
{{- $errors = append $errors (printf "ingress.host or ingress.extraHosts has %q. It must be a host name in lower case, without https://, port or path." .) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^(/|(/[A-Za-z0-9_-]+)+)$" $values.ingress.path) }}
{{- $errors = append $errors (printf "ingress.path is %q. It must be / or a prefix such as /%s: a leading slash, no trailing slash, and only letters, digits, - and _." $values.ingress.path $name) }}
{{- end }}

{{- if and (not $storedData) (ne (toJson $values.database) (toJson $values.library.exports.defaults.database)) }}
{{- $errors = append $errors (printf "A value of database is set, but %s has no database. Remove it." $name) }}
{{- end }}

{{- $chosen := list }}
{{- if $values.database.existingSecret }}{{ $chosen = append $chosen "database.existingSecret" }}{{ end }}
{{- if $values.database.cloudNativePG.enabled }}{{ $chosen = append $chosen "database.cloudNativePG.enabled" }}{{ end }}
{{- if $values.database.inMemory }}{{ $chosen = append $chosen "database.inMemory" }}{{ end }}
{{- if gt (len $chosen) 1 }}
{{- $errors = append $errors (printf "%s are mutually exclusive. %s are stored in one place: set one of them." (join " and " $chosen) (title $storedData)) }}
{{- end }}

{{- if and $values.database.inMemory (or $values.autoscaling.enabled (ne (int $values.replicaCount) 1)) }}
{{- $errors = append $errors (printf "database.inMemory is true and there may be more than one replica. Each pod would have its own %s, and clients would see different ones with every request. Set autoscaling.enabled=false and replicaCount=1, or choose a database." $storedData) }}
{{- end }}

{{- if has $database (list "bundled" "cloudNativePG" "external") }}
{{- $pods := include "service.maxPods" . | int }}
{{- $used := add (mul $pods (int $values.database.poolSize)) (int $values.database.reservedConnections) }}
{{- if ge $used (int64 $values.database.maxConnections) }}
{{- $errors = append $errors (printf "%d pods (the maximum, including maxSurge) x database.poolSize %d + database.reservedConnections %d = %d connections, which is not below database.maxConnections %d. Lower autoscaling.maxReplicas or database.poolSize, or raise max_connections of the database and database.maxConnections." $pods (int $values.database.poolSize) (int $values.database.reservedConnections) $used (int $values.database.maxConnections)) }}
{{- end }}
{{- end }}

{{- with $values.database.bundled.backup }}
{{- if and .enabled $storedData (ne $database "bundled") }}
{{- $errors = append $errors "database.bundled.backup.enabled is true, but the database is not the bundled one. Set it to false, and use the backups of your own database." }}
{{- end }}
{{- if and .s3.bucket (not .s3.existingSecret) }}
{{- $errors = append $errors "database.bundled.backup.s3.bucket is set without s3.existingSecret. Name the Secret with the keys access-key-id and secret-access-key." }}
{{- end }}
{{- if and .enabled (not (dig "limits" "ephemeral-storage" "" .resources)) }}
{{- $errors = append $errors "database.bundled.backup.resources.limits.ephemeral-storage is not set. It limits the size of a backup to a bucket: set it." }}
{{- end }}
{{- end }}

{{- with $values.shutdown }}
{{- $needed := add (int .preStopSeconds) (int .drainSeconds) (int .gracefulSeconds) 1 }}
{{- if ge $needed (int64 .terminationGracePeriodSeconds) }}
{{- $errors = append $errors (printf "shutdown: preStopSeconds %d + drainSeconds %d + gracefulSeconds %d + 1 to close the storage backend = %d s, which is not below terminationGracePeriodSeconds %d. Pods would be killed with requests in flight. Raise terminationGracePeriodSeconds." (int .preStopSeconds) (int .drainSeconds) (int .gracefulSeconds) $needed (int .terminationGracePeriodSeconds)) }}
{{- end }}
{{- end }}

{{- if and (has (toString $values.rollingUpdate.maxSurge) (list "0" "0%")) (has (toString $values.rollingUpdate.maxUnavailable) (list "0" "0%")) }}
{{- $errors = append $errors "rollingUpdate.maxSurge and rollingUpdate.maxUnavailable are both 0. A rollout could neither start nor terminate a pod: set one of them to 1 or more." }}
{{- end }}

{{- if has (toString $values.podDisruptionBudget.maxUnavailable) (list "0" "0%") }}
{{- $errors = append $errors "podDisruptionBudget.maxUnavailable is 0. No node that runs a pod of the API could be drained: set it to 1 or more." }}
{{- end }}

{{- $resources := dict "resources" $values.resources "database.bundled.resources" $values.database.bundled.resources "database.bundled.backup.resources" $values.database.bundled.backup.resources "database.cloudNativePG.resources" $values.database.cloudNativePG.resources "helmTest.resources" $values.helmTest.resources }}
{{- range $path, $of := $resources }}
{{- range $what, $request := dig "requests" dict ($of | default dict) | default dict }}
{{- $limit := dig "limits" $what "" $of | default "" }}
{{- if and (toString $limit) (gt (include "service.parseQuantity" $request | float64) (include "service.parseQuantity" $limit | float64)) }}
{{- $errors = append $errors (printf "%s.requests.%s is %v, and %s.limits.%s is %v. A request cannot exceed its limit: lower the request or raise the limit." $path $what $request $path $what $limit) }}
{{- end }}
{{- end }}
{{- end }}

{{- if $values.autoscaling.enabled }}
{{- if kindIs "invalid" $values.replicaCount }}
{{- $errors = append $errors "replicaCount is null and autoscaling.enabled is true. The chart's HorizontalPodAutoscaler needs replicaCount as minReplicas: set a number, or set autoscaling.enabled=false and use your own autoscaler." }}
{{- end }}
{{- if gt (int $values.replicaCount) (int $values.autoscaling.maxReplicas) }}
{{- $errors = append $errors (printf "replicaCount %d is above autoscaling.maxReplicas %d. With autoscaling replicaCount is minReplicas: raise one or lower the other." (int $values.replicaCount) (int $values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if not (dig "requests" "cpu" "" $values.resources) }}
{{- $errors = append $errors "resources.requests.cpu is not set. The HorizontalPodAutoscaler's target is relative to it, so it would never scale: set it, or autoscaling.enabled=false." }}
{{- end }}
{{- if and $values.autoscaling.containerResource (semverCompare "<1.27-0" .Capabilities.KubeVersion.Version) }}
{{- $errors = append $errors (printf "autoscaling.containerResource needs Kubernetes 1.27 or later, and this is %s. Set it to false." .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}

{{- if and $values.ingress.enabled $values.ingress.tls.clusterIssuer (not $values.ingress.tls.secretName) }}
{{- $errors = append $errors "ingress.tls.clusterIssuer is set without ingress.tls.secretName. Name the Secret for the certificate from cert-manager." }}
{{- end }}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) }}
{{- $errors = append $errors "httpRoute.enabled is true without httpRoute.parentRefs. Name the Gateway that serves the API: --set 'httpRoute.parentRefs[0].name=my-gateway'." }}
{{- end }}

{{- if and (eq $values.auth.mode "tokens") (not $values.auth.tokens.existingSecret) }}
{{- $errors = append $errors "auth.mode is tokens without auth.tokens.existingSecret. Name the Secret whose key `tokens` holds the lines that `app token new` prints." }}
{{- end }}
{{- if and (eq $values.auth.mode "oidc") (not (and $values.auth.oidc.issuer $values.auth.oidc.audience)) }}
{{- $errors = append $errors "auth.mode is oidc without auth.oidc.issuer and auth.oidc.audience. Set both." }}
{{- end }}
{{- if and $values.serviceMonitor.enabled (ne $values.auth.mode "none") (not $values.serviceMonitor.credential.secretName) }}
{{- $errors = append $errors (printf "serviceMonitor.enabled is true and auth.mode is %s, but serviceMonitor.credential.secretName is not set. Prometheus would get a 401 from /metrics: name the Secret with a token that has the scope read." $values.auth.mode) }}
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
{{- $errors = append $errors (printf "%s has %s. The chart sets that label: choose another name." $value $key) }}
{{- end }}
{{- end }}
{{- end }}

{{- $own := list "tmp" "tokens" "database-certificates" }}
{{- $volumes := $own }}
{{- range $values.extraVolumes }}
{{- if has .name $own }}
{{- $errors = append $errors (printf "extraVolumes has %s, which the chart defines. Choose another name." .name) }}
{{- else if has .name $volumes }}
{{- $errors = append $errors (printf "extraVolumes has %s twice. Remove one of them." .name) }}
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- $paths := list "/tmp" "/run/secrets/tokens" "/run/secrets/database" }}
{{- range $values.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- $errors = append $errors (printf "extraVolumeMounts has %s, but extraVolumes has no volume of that name. Add it there." .name) }}
{{- end }}
{{- if has (trimSuffix "/" .mountPath) $paths }}
{{- $errors = append $errors (printf "extraVolumeMounts has %s, where the chart or another entry mounts a volume. Choose another path." .mountPath) }}
{{- end }}
{{- $paths = append $paths (trimSuffix "/" .mountPath) }}
{{- end }}

{{- /* Of two variables with one name Kubernetes uses the last, so the checks above would not apply to the actual value. */}}
{{- $valueOf := dict "DRAIN_SECONDS" "shutdown.drainSeconds" "GRACEFUL_SECONDS" "shutdown.gracefulSeconds" "AUTH" "auth.mode" "AUTH_TOKEN_FILE" "auth.tokens.existingSecret" "OIDC_ISSUER" "auth.oidc.issuer" "OIDC_AUDIENCE" "auth.oidc.audience" }}
{{- range $setting, $value := dict "CLAIM" "claim" "READ" "read" "WRITE" "write" "READ_SUBJECTS" "readSubjects" "WRITE_SUBJECTS" "writeSubjects" "AUDIENCE_CLAIM" "audienceClaim" "SUBJECT_CLAIM" "subjectClaim" }}
{{- $_ := set $valueOf (printf "OIDC_%s" $setting) (printf "auth.oidc.%s" $value) }}
{{- end }}
{{- if $storedData }}
{{- $valueOf = mergeOverwrite $valueOf (dict "DATABASE_URL" "database.existingSecret" "DATABASE_POOL_SIZE" "database.poolSize") }}
{{- end }}
{{- if or $values.ingress.enabled $values.httpRoute.enabled }}
{{- $_ := set $valueOf "ROOT_PATH" "ingress.path" }}
{{- end }}
{{- $prefix := include "service.environmentPrefix" . }}
{{- if ne (int64 $values.maxBodyBytes) 1048576 }}
{{- $_ := set $valueOf "BODY_MAX_BYTES" "maxBodyBytes" }}
{{- end }}
{{- $seen := list }}
{{- range $values.extraEnv }}
{{- $setting := trimPrefix $prefix .name }}
{{- if and (hasPrefix $prefix .name) (hasKey $valueOf $setting) }}
{{- $errors = append $errors (printf "extraEnv has %s, which the chart sets. Set %s instead." .name (index $valueOf $setting)) }}
{{- else if has .name $seen }}
{{- $errors = append $errors (printf "extraEnv has %s twice. Remove one of them." .name) }}
{{- end }}
{{- $seen = append $seen .name }}
{{- end }}

{{- if not $errors }}
{{- $errors = concat (include "service.conflicts" . | fromYamlArray) (include "service.immutable" . | fromYamlArray) }}
{{- end }}
{{- if $errors }}
{{- fail (printf "\n\nInvalid values:\n\n- %s\n" (join "\n- " $errors)) }}
{{- end }}
{{- end }}

{{/*
Reports every value that is not a string where the schema requires one, one per line. Arguments: schema, its node, value, path.
--set keeps a whole number as typed, unlike YAML: it is accepted as an image tag.
*/}}
{{- define "service.nonStrings" -}}
{{- $all := . }}
{{- $node := .node }}
{{- with index $node "$ref" }}{{ $node = index $all.schema.definitions (base .) }}{{ end }}
{{- if kindIs "map" .value }}
{{- range $key, $value := .value }}
{{- $below := dig "properties" $key (get $node "additionalProperties") $node }}
{{- if kindIs "map" $below }}
{{- include "service.nonStrings" (dict "schema" $all.schema "node" $below "value" $value "path" (printf "%s.%s" $all.path $key | trimPrefix ".")) }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- range $number, $value := .value }}
{{- include "service.nonStrings" (dict "schema" $all.schema "node" ($node.items | default dict) "value" $value "path" (printf "%s[%d]" $all.path $number)) }}
{{- end }}
{{- else if and (kindIs "slice" $node.type) (has "string" ($node.type | default list)) (has "boolean" ($node.type | default list)) (has (kindOf .value) (list "bool" "float64" "int" "int64")) (not (and (eq .path "image.tag") (kindIs "int64" .value))) -}}
- {{ .path }} is {{ .value }}, a {{ ternary "boolean" "number" (kindIs "bool" .value) }}, but must be a string. YAML has parsed it, and the original text is lost (1.0 is 1, 0123 is 83, yes is true). Quote it in the file, {{ regexFind "[^.]*$" .path | trimSuffix "]" }}: "...", or use --set-string instead of --set.
{{ end }}
{{- end }}

{{/* A quantity as a number: 1Ki is 1024. */}}
{{- define "service.parseQuantity" -}}
{{- $unit := toString . | regexFind "[A-Za-z]*$" }}
{{- $units := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 }}
{{- $_ := mergeOverwrite $units (dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976) }}
{{- mulf (toString . | trimSuffix $unit | float64) (get $units $unit | default 1 | float64) }}
{{- end }}

{{/* Names and labels that Helm accepts and the API server rejects, which would happen with half of the release installed. */}}
{{- define "service.invalidNames" -}}
{{- $errors := list }}
{{- $fullname := include "service.fullname" . }}
{{- if .Values.fullnameOverride }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,39}[a-z0-9])?$" $fullname) }}
{{- $errors = append $errors (printf "fullnameOverride is %q. It is the name of a Service and a prefix of other names: start with a lower-case letter, followed by up to 40 lower-case letters, digits and -, not ending with -." $fullname) }}
{{- end }}
{{- else if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) }}
{{- $errors = append $errors (printf "The objects would be named %s, after the release %s and the chart %s. A Service's name starts with a lower-case letter and has only lower-case letters, digits and -: rename the release, or set fullnameOverride." $fullname .Release.Name (include "service.name" .)) }}
{{- end }}
{{- if has $fullname (list "y" "n" "yes" "no" "on" "off" "true" "false" "null") }}
{{- $errors = append $errors (printf "The objects would be named %s, which YAML does not parse as a string. Set another fullnameOverride." $fullname) }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" (include "service.name" .)) }}
{{- $errors = append $errors (printf "The chart is named %q, by nameOverride or its alias in the parent chart, which is not a valid label value. Use letters, digits, -, _ and ., with a letter or digit first and last." (include "service.name" .)) }}
{{- end }}

{{- $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "serviceMonitor.labels" .Values.serviceMonitor.labels "prometheusRule.labels" .Values.prometheusRule.labels "dashboard.labels" .Values.dashboard.labels "nodeSelector" .Values.nodeSelector }}
{{- $annotations := dict "podAnnotations" .Values.podAnnotations "service.annotations" .Values.service.annotations "ingress.annotations" .Values.ingress.annotations "serviceAccount.annotations" (dig "annotations" dict (.Values.serviceAccount | default dict)) }}
{{- range $kind, $of := .Values.pods }}
{{- range $value := list "podLabels" "nodeSelector" }}{{ $_ := set $labels (printf "pods.%s.%s" $kind $value) (get (default dict $of) $value) }}{{ end }}
{{- $_ := set $annotations (printf "pods.%s.podAnnotations" $kind) (default dict $of).podAnnotations }}
{{- end }}
{{- range $path, $given := merge (dict) $labels $annotations }}
{{- range $key, $value := $given | default dict }}
{{- $last := regexReplaceAll "^[^/]*/" $key "" }}
{{- if not (and (regexMatch "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" $key) (le (len $last) 63)) }}
{{- $errors = append $errors (printf "%s has the key %q. Use at most 63 letters, digits, -, _ and ., with a letter or digit first and last; optionally prefixed by a domain and /: example.com/team." $path $key) }}
{{- end }}
{{- if and (hasKey $labels $path) (not (and (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$" $value) (le (len $value) 63))) }}
{{- $errors = append $errors (printf "%s.%s is %q. A label value has at most 63 letters, digits, -, _ and ., with a letter or digit first and last. Use an annotation for anything else." $path $key $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- range .Values.extraEnv }}
{{- if not (regexMatch "^[-._a-zA-Z][-._a-zA-Z0-9]*$" .name) }}
{{- $errors = append $errors (printf "extraEnv has a variable named %q. Use letters, digits, _, - and ., not starting with a digit." .name) }}
{{- end }}
{{- if and .value .valueFrom }}
{{- $errors = append $errors (printf "extraEnv has both value and valueFrom for %s. Remove one of them." .name) }}
{{- end }}
{{- end }}
{{- if eq (toString .Values.enabled) "false" }}
{{- $errors = append $errors (printf "enabled is false, but has no effect. Remove it, or set `condition: %s.enabled` on the dependency in the parent chart." .Chart.Name) }}
{{- end }}
{{- toYaml $errors }}
{{- end }}

{{/*
What two charts of one release, such as two aliases of this one, must not share: object names, the name that selects pods, a host
and path, a database's Secret. `.Release` is one dictionary for all charts of a release: each records there what it uses.
*/}}
{{- define "service.conflicts" -}}
{{- $claimed := get .Release "claimed" | default dict }}
{{- $_ := set .Release "claimed" $claimed }}
{{- $chart := printf "%s (%s)" .Chart.Name (trimSuffix "/templates" .Template.BasePath) }}
{{- $fullname := include "service.fullname" . }}
{{- $claims := dict (printf "nameOverride or alias, %s" (include "service.name" .)) "nameOverride" }}
{{- range list "" "-postgres" "-database" "-backup" "-test" "-dashboard" "-redirect" }}
{{- $_ := set $claims (printf "name of objects, %s%s" $fullname .) "fullnameOverride" }}
{{- end }}
{{- if eq (include "service.database" .) "bundled" }}
{{- $_ := set $claims (printf "Secret of a bundled database, %s" (include "service.bundledSecret" .)) "database.bundled.existingSecret" }}
{{- end }}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- $entryPoints := list }}
{{- if .Values.ingress.enabled }}{{ $entryPoints = append $entryPoints .Values.ingress.className }}{{ end }}
{{- if .Values.httpRoute.enabled }}{{ $entryPoints = append $entryPoints (toJson .Values.httpRoute.parentRefs) }}{{ end }}
{{- range $host := prepend (default list .Values.ingress.extraHosts) .Values.ingress.host }}
{{- range $entryPoints }}
{{- $_ := set $claims (printf "host and path, %s%s of %s" $host $.Values.ingress.path .) "ingress.host or ingress.path" }}
{{- end }}
{{- end }}
{{- end }}
{{- $errors := list }}
{{- range $what, $value := $claims }}
{{- $claimant := get $claimed $what | default $chart }}
{{- if ne $claimant $chart }}
{{- $errors = append $errors (printf "%s and %s have the same %s. One would use the pods or the data of the other: set another %s for one of them." $chart $claimant $what $value) }}
{{- end }}
{{- $_ := set $claimed $what $claimant }}
{{- end }}
{{- toYaml $errors }}
{{- end }}

{{/*
Changes of immutable fields, which the API server would reject halfway through the upgrade, with the new image already running.
Without a cluster, as in `helm template`, there is nothing to compare with.
*/}}
{{- define "service.immutable" -}}
{{- $errors := list }}
{{- $kubectl := printf "kubectl --namespace %s" .Release.Namespace }}
{{- $fullname := include "service.fullname" . }}
{{- $postgres := include "service.postgres.fullname" . }}

{{- $untruncated := include "service.fullname.untruncated" . }}
{{- if and (not .Values.fullnameOverride) (gt (len $untruncated) 41) }}
{{- $before := $untruncated | trunc 41 | trimSuffix "-" }}
{{- $existing := lookup "apps/v1" "Deployment" .Release.Namespace $before }}
{{- if and $existing (eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $existing) .Release.Name) }}
{{- $errors = append $errors (printf "The objects of this release are named %s, as truncated by an earlier version of the chart, and would be named %s, with an empty database. To keep the names and the data set fullnameOverride=%s." $before $fullname $before) }}
{{- end }}
{{- end }}

{{- with lookup "apps/v1" "Deployment" .Release.Namespace $fullname }}
{{- if ne (toJson .spec.selector.matchLabels) (include "service.selectorLabels" $ | fromYaml | toJson) }}
{{- $errors = append $errors (printf "The Deployment %s selects its pods by other labels, from an earlier nameOverride, and its selector is immutable. Restore nameOverride; or delete the Deployment, with about a minute of downtime, and then upgrade: %s delete deployment %s" $fullname $kubectl $fullname) }}
{{- end }}
{{- end }}

{{- if eq (include "service.database" .) "bundled" }}
{{- $bundled := .Values.database.bundled }}
{{- $requested := include "service.parseQuantity" $bundled.storage | float64 }}
{{- $grow := printf "To resize it while the database keeps running: docs/operate.md#grow-the-volume-of-the-database. Or set database.bundled.storage back to" }}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace $postgres }}
{{- if $set }}
{{- if ne (toJson $set.spec.selector.matchLabels) (include "service.postgres.selectorLabels" . | fromYaml | toJson) }}
{{- $errors = append $errors (printf "The StatefulSet %s is from an earlier version of the chart, and its Service selects every database of the release. Its selector is immutable, so delete it, with about a minute without the database, and then upgrade; the volume is kept: %s delete statefulset %s" $postgres $kubectl $postgres) }}
{{- end }}
{{- $claim := (index $set.spec.volumeClaimTemplates 0).spec }}
{{- $existing := $claim.resources.requests.storage }}
{{- if ne (include "service.parseQuantity" $existing | float64) $requested }}
{{- $errors = append $errors (printf "database.bundled.storage is %v, but the database volume was created with %v. That is immutable in a StatefulSet, and the upgrade would fail halfway. %s %v." $bundled.storage $existing $grow $existing) }}
{{- end }}
{{- $class := dig "storageClassName" "" $claim }}
{{- if ne $class (default "" $bundled.storageClassName) }}
{{- $errors = append $errors (printf "database.bundled.storageClassName is %q, but the database volume was created with %q. That is immutable in a StatefulSet: change it back. To move to another class, back up, delete and restore: docs/operate.md#grow-the-volume-of-the-database." (default "" $bundled.storageClassName) $class) }}
{{- end }}
{{- else }}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "data-%s-0" $postgres) }}
{{- $existing := .spec.resources.requests.storage }}
{{- if lt (include "service.parseQuantity" $existing | float64) $requested }}
{{- $errors = append $errors (printf "database.bundled.storage is %v, but the existing volume, data-%s-0, has %v and would not be resized. %s %v." $bundled.storage $postgres $existing $grow $existing) }}
{{- end }}
{{- end }}
{{- end }}

{{- if and (eq (include "service.backup" .) "volume") (not $bundled.backup.volume.existingClaim) }}
{{- $volume := $bundled.backup.volume }}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace (include "service.backup.fullname" .) }}
{{- $existing := .spec.resources.requests.storage }}
{{- if lt (include "service.parseQuantity" $volume.size | float64) (include "service.parseQuantity" $existing | float64) }}
{{- $errors = append $errors (printf "database.bundled.backup.volume.size is %v, but the backup volume has %v. A volume cannot shrink: set it to %v." $volume.size $existing $existing) }}
{{- end }}
{{- if and $volume.storageClassName (ne $volume.storageClassName (dig "spec" "storageClassName" "" .)) }}
{{- $errors = append $errors (printf "database.bundled.backup.volume.storageClassName is %q, but that of the backup volume is %q. It is immutable: change it back, or set existingClaim to another claim." $volume.storageClassName (dig "spec" "storageClassName" "" .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $errors }}
{{- end }}
