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

{{- /* First, and alone: what comes after it takes texts for texts. */}}
{{- $schema := .Subcharts.library.Files.Get "files/values.schema.json" | fromJson }}
{{- with include "service.noTexts" (dict "schema" $schema "node" $schema "value" $values "path" "") | trim }}
{{- fail (printf "\n\nThese values cannot work:\n\n%s\n" .) }}
{{- end }}

{{- range $wrongName := include "service.wrongNames" . | fromYamlArray }}
{{- $wrong = append $wrong $wrongName }}
{{- end }}

{{- range $key := include "service.self" . | fromYaml | keys | sortAlpha }}
{{- if not (has $key (list "name" "environmentPrefix" "keeps" "stream" "runbooks" "test")) }}
{{- $wrong = append $wrong (printf "files/service.yaml of the chart has %s, which says nothing to the library, or is no YAML." $key) }}
{{- end }}
{{- end }}

{{- $tag := toString $values.image.tag }}
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

{{- if has (toString $values.podDisruptionBudget.maxUnavailable) (list "0" "0%") }}
{{- $wrong = append $wrong "podDisruptionBudget.maxUnavailable is 0. No node with a pod of the API on it could ever be drained: set it to 1 or more." }}
{{- end }}

{{- $resources := dict "resources" $values.resources "database.bundled.resources" $values.database.bundled.resources "database.bundled.backup.resources" $values.database.bundled.backup.resources "database.cloudNativePG.resources" $values.database.cloudNativePG.resources "helmTest.resources" $values.helmTest.resources }}
{{- range $path, $of := $resources }}
{{- range $what, $request := dig "requests" dict ($of | default dict) | default dict }}
{{- $limit := dig "limits" $what "" $of | default "" }}
{{- if and (toString $limit) (gt (include "service.amount" $request | float64) (include "service.amount" $limit | float64)) }}
{{- $wrong = append $wrong (printf "%s.requests.%s is %v, and %s.limits.%s is %v. A pod cannot ask for more than it may use: lower the one or raise the other." $path $what $request $path $what $limit) }}
{{- end }}
{{- end }}
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
{{- range $setting, $value := dict "CLAIM" "claim" "READ" "read" "WRITE" "write" "READ_SUBJECTS" "readSubjects" "WRITE_SUBJECTS" "writeSubjects" "AUDIENCE_CLAIM" "audienceClaim" "SUBJECT_CLAIM" "subjectClaim" }}
{{- $_ := set $valueOf (printf "OIDC_%s" $setting) (printf "auth.oidc.%s" $value) }}
{{- end }}
{{- if $keeps }}
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
{{- $wrong = append $wrong (printf "extraEnv has %s, which the chart writes itself. Set %s instead." .name (index $valueOf $setting)) }}
{{- else if has .name $seen }}
{{- $wrong = append $wrong (printf "extraEnv has %s twice. Take one of them out." .name) }}
{{- end }}
{{- $seen = append $seen .name }}
{{- end }}

{{- if not $wrong }}
{{- $wrong = concat (include "service.taken" . | fromYamlArray) (include "service.immutable" . | fromYamlArray) }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\nThese values cannot work:\n\n- %s\n" (join "\n- " $wrong)) }}
{{- end }}
{{- end }}

{{/*
Every value that is no text where the schema wants one, in a sentence a line. It takes schema, the node of it, value and path.
A whole number that --set made is as it was typed, which YAML's are not: of the tag of an image it is taken.
*/}}
{{- define "service.noTexts" -}}
{{- $all := . }}
{{- $node := .node }}
{{- with index $node "$ref" }}{{ $node = index $all.schema.definitions (base .) }}{{ end }}
{{- if kindIs "map" .value }}
{{- range $key, $value := .value }}
{{- $below := dig "properties" $key (get $node "additionalProperties") $node }}
{{- if kindIs "map" $below }}
{{- include "service.noTexts" (dict "schema" $all.schema "node" $below "value" $value "path" (printf "%s.%s" $all.path $key | trimPrefix ".")) }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- range $number, $value := .value }}
{{- include "service.noTexts" (dict "schema" $all.schema "node" ($node.items | default dict) "value" $value "path" (printf "%s[%d]" $all.path $number)) }}
{{- end }}
{{- else if and (kindIs "slice" $node.type) (has "string" ($node.type | default list)) (has "boolean" ($node.type | default list)) (has (kindOf .value) (list "bool" "float64" "int" "int64")) (not (and (eq .path "image.tag") (kindIs "int64" .value))) -}}
- {{ .path }} is {{ .value }}, a {{ ternary "boolean" "number" (kindIs "bool" .value) }}, where a text is wanted. YAML has read it as that, and how it was written is lost (1.0 is 1, 0123 is 83, yes is true). Quote it in the file, {{ regexFind "[^.]*$" .path | trimSuffix "]" }}: "...", or use --set-string in the place of --set.
{{ end }}
{{- end }}

{{/* A quantity as a number: 1Ki is 1024. */}}
{{- define "service.amount" -}}
{{- $unit := toString . | regexFind "[A-Za-z]*$" }}
{{- $units := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 }}
{{- $_ := mergeOverwrite $units (dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976) }}
{{- mulf (toString . | trimSuffix $unit | float64) (get $units $unit | default 1 | float64) }}
{{- end }}

{{/* Names and labels that Helm takes and the server does not. It would say so when half of the release is there. */}}
{{- define "service.wrongNames" -}}
{{- $wrong := list }}
{{- $fullname := include "service.fullname" . }}
{{- if .Values.fullnameOverride }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,39}[a-z0-9])?$" $fullname) }}
{{- $wrong = append $wrong (printf "fullnameOverride is %q. It is the name of a Service, with more behind it for others: take a small letter, and then up to 40 small letters, digits and -, the last of them no -." $fullname) }}
{{- end }}
{{- else if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) }}
{{- $wrong = append $wrong (printf "The objects would be named %s, after the release %s and the chart %s. A Service's name begins with a small letter and has small letters, digits and - alone: give the release another name, or set fullnameOverride." $fullname .Release.Name (include "service.name" .)) }}
{{- end }}
{{- if has $fullname (list "y" "n" "yes" "no" "on" "off" "true" "false" "null") }}
{{- $wrong = append $wrong (printf "The objects would be named %s, which YAML does not read as a text. Set another fullnameOverride." $fullname) }}
{{- end }}
{{- if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" (include "service.name" .)) }}
{{- $wrong = append $wrong (printf "The chart is called %q by nameOverride or by its alias in the chart around it, which cannot be the value of a label. Take letters, digits, -, _ and ., the first and the last a letter or a digit." (include "service.name" .)) }}
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
{{- $wrong = append $wrong (printf "%s has the key %q. Take at most 63 letters, digits, -, _ and ., the first and the last a letter or a digit; before them a domain and / where you like: example.com/team." $path $key) }}
{{- end }}
{{- if and (hasKey $labels $path) (not (and (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$" $value) (le (len $value) 63))) }}
{{- $wrong = append $wrong (printf "%s.%s is %q. The value of a label has at most 63 letters, digits, -, _ and ., the first and the last a letter or a digit. What does not fit belongs in an annotation." $path $key $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- range .Values.extraEnv }}
{{- if not (regexMatch "^[-._a-zA-Z][-._a-zA-Z0-9]*$" .name) }}
{{- $wrong = append $wrong (printf "extraEnv has a variable named %q. Take letters, digits, _, - and ., and no digit first." .name) }}
{{- end }}
{{- if and .value .valueFrom }}
{{- $wrong = append $wrong (printf "extraEnv has value and valueFrom of %s. Take one of them out." .name) }}
{{- end }}
{{- end }}
{{- if eq (toString .Values.enabled) "false" }}
{{- $wrong = append $wrong (printf "enabled is false, and nothing heeds it. Take it out, or give the dependency in the chart around this one `condition: %s.enabled`." .Chart.Name) }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}

{{/*
What two charts of one release, such as two aliases of this one, may not share: names, the name that selects pods, a path of
a host, the Secret of a database. `.Release` is one dictionary for all of a release's charts: each writes into it what it takes.
*/}}
{{- define "service.taken" -}}
{{- $taken := get .Release "taken" | default dict }}
{{- $_ := set .Release "taken" $taken }}
{{- $mine := printf "%s (%s)" .Chart.Name (trimSuffix "/templates" .Template.BasePath) }}
{{- $fullname := include "service.fullname" . }}
{{- $takes := dict (printf "nameOverride or alias, %s" (include "service.name" .)) "nameOverride" }}
{{- range list "" "-postgres" "-database" "-backup" "-test" "-dashboard" "-redirect" }}
{{- $_ := set $takes (printf "name of objects, %s%s" $fullname .) "fullnameOverride" }}
{{- end }}
{{- if eq (include "service.database" .) "bundled" }}
{{- $_ := set $takes (printf "Secret of a bundled database, %s" (include "service.bundledSecret" .)) "database.bundled.existingSecret" }}
{{- end }}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- $of := list }}
{{- if .Values.ingress.enabled }}{{ $of = append $of .Values.ingress.className }}{{ end }}
{{- if .Values.httpRoute.enabled }}{{ $of = append $of (toJson .Values.httpRoute.parentRefs) }}{{ end }}
{{- range $host := prepend (default list .Values.ingress.extraHosts) .Values.ingress.host }}
{{- range $of }}
{{- $_ := set $takes (printf "host and path, %s%s of %s" $host $.Values.ingress.path .) "ingress.host or ingress.path" }}
{{- end }}
{{- end }}
{{- end }}
{{- $wrong := list }}
{{- range $what, $value := $takes }}
{{- $whose := get $taken $what | default $mine }}
{{- if ne $whose $mine }}
{{- $wrong = append $wrong (printf "%s and %s have the same %s. One would be led to the pods or the data of the other: set another %s for one of them." $mine $whose $what $value) }}
{{- end }}
{{- $_ := set $taken $what $whose }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}

{{/*
What the server would refuse when half of the upgrade is done, with the new image already running: changes of what is there
and cannot change. Without a cluster, as by `helm template`, there is nothing to compare with.
*/}}
{{- define "service.immutable" -}}
{{- $wrong := list }}
{{- $kubectl := printf "kubectl --namespace %s" .Release.Namespace }}
{{- $fullname := include "service.fullname" . }}
{{- $postgres := include "service.postgres.fullname" . }}

{{- $whole := include "service.fullname.whole" . }}
{{- if and (not .Values.fullnameOverride) (gt (len $whole) 41) }}
{{- $before := $whole | trunc 41 | trimSuffix "-" }}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace $before }}
{{- if and $there (eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there) .Release.Name) }}
{{- $wrong = append $wrong (printf "The objects of this release are named %s, as an earlier version of the chart cut its name, and would be named %s, with a database of no data. To keep the names and the data set fullnameOverride=%s." $before $fullname $before) }}
{{- end }}
{{- end }}

{{- with lookup "apps/v1" "Deployment" .Release.Namespace $fullname }}
{{- if ne (toJson .spec.selector.matchLabels) (include "service.selectorLabels" $ | fromYaml | toJson) }}
{{- $wrong = append $wrong (printf "The Deployment %s selects its pods by other labels, by an earlier nameOverride, and that cannot change. Set nameOverride back; or take the Deployment away, for a minute without answers, and then upgrade: %s delete deployment %s" $fullname $kubectl $fullname) }}
{{- end }}
{{- end }}

{{- if eq (include "service.database" .) "bundled" }}
{{- $bundled := .Values.database.bundled }}
{{- $wanted := include "service.amount" $bundled.storage | float64 }}
{{- $grow := printf "The way to another size, with the database running on: docs/operate.md#grow-the-volume-of-the-database. Or set database.bundled.storage back to" }}
{{- $set := lookup "apps/v1" "StatefulSet" .Release.Namespace $postgres }}
{{- if $set }}
{{- if ne (toJson $set.spec.selector.matchLabels) (include "service.postgres.selectorLabels" . | fromYaml | toJson) }}
{{- $wrong = append $wrong (printf "The StatefulSet %s is of an earlier version of the chart, and its Service leads to every database of the release. Its selector cannot change, so take it away, for a minute without the database, and then upgrade; the volume stays: %s delete statefulset %s" $postgres $kubectl $postgres) }}
{{- end }}
{{- $claim := (index $set.spec.volumeClaimTemplates 0).spec }}
{{- $there := $claim.resources.requests.storage }}
{{- if ne (include "service.amount" $there | float64) $wanted }}
{{- $wrong = append $wrong (printf "database.bundled.storage is %v, and the volume of the database was made with %v. A StatefulSet cannot change that, and the upgrade would stop half done. %s %v." $bundled.storage $there $grow $there) }}
{{- end }}
{{- $class := dig "storageClassName" "" $claim }}
{{- if ne $class (default "" $bundled.storageClassName) }}
{{- $wrong = append $wrong (printf "database.bundled.storageClassName is %q, and the volume of the database was made with %q. A StatefulSet cannot change that: set it back. To move to another class, back up, remove and restore: docs/operate.md#grow-the-volume-of-the-database." (default "" $bundled.storageClassName) $class) }}
{{- end }}
{{- else }}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "data-%s-0" $postgres) }}
{{- $there := .spec.resources.requests.storage }}
{{- if lt (include "service.amount" $there | float64) $wanted }}
{{- $wrong = append $wrong (printf "database.bundled.storage is %v, and the volume that is there, data-%s-0, has %v and would stay so. %s %v." $bundled.storage $postgres $there $grow $there) }}
{{- end }}
{{- end }}
{{- end }}

{{- if and (eq (include "service.backup" .) "volume") (not $bundled.backup.volume.existingClaim) }}
{{- $volume := $bundled.backup.volume }}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace (include "service.backup.fullname" .) }}
{{- $there := .spec.resources.requests.storage }}
{{- if lt (include "service.amount" $volume.size | float64) (include "service.amount" $there | float64) }}
{{- $wrong = append $wrong (printf "database.bundled.backup.volume.size is %v, and the volume of the backups has %v. A volume cannot shrink: set it to %v." $volume.size $there $there) }}
{{- end }}
{{- if and $volume.storageClassName (ne $volume.storageClassName (dig "spec" "storageClassName" "" .)) }}
{{- $wrong = append $wrong (printf "database.bundled.backup.volume.storageClassName is %q, and the volume of the backups is of %q. That cannot change: set it back, or name a claim of your own by existingClaim." $volume.storageClassName (dig "spec" "storageClassName" "" .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $wrong }}
{{- end }}
