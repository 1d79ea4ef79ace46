{{/*
A service's metadata from files/service.yaml of its chart, and the defaults. In a file, not in named templates: in a parent chart
of two services, Helm would use one service's for both.
*/}}
{{- define "service.metadata" -}}
{{- .Files.Get "files/service.yaml" }}
{{- end }}

{{/* name: the service's name, whatever alias a parent chart gives it. Required if it may get an alias. */}}
{{- define "service.canonicalName" -}}
{{- include "service.metadata" . | fromYaml | dig "name" .Chart.Name }}
{{- end }}

{{/* environmentPrefix: the prefix of its environment variables, as in ORDERS_AUTH. */}}
{{- define "service.environmentPrefix" -}}
{{- $own := printf "%s_" (include "service.name.snake" . | upper) }}
{{- include "service.metadata" . | fromYaml | dig "environmentPrefix" $own }}
{{- end }}

{{/* keeps: what it stores in a database, in one word for messages, such as orders. Empty: it has no database. */}}
{{- define "service.storedData" -}}
{{- include "service.metadata" . | fromYaml | dig "keeps" "" }}
{{- end }}

{{/* stream: a route that streams until the client disconnects, such as /v1/events: its duration is excluded. */}}
{{- define "service.streamingRoute" -}}
{{- include "service.metadata" . | fromYaml | dig "stream" "" }}
{{- end }}

{{/* runbooks: the URL prefix of its alerts' runbooks; the alert's name in lower case, without the service's, follows. */}}
{{- define "service.runbooks" -}}
{{- include "service.metadata" . | fromYaml | dig "runbooks" "docs/operate.md#" }}
{{- end }}

{{/*
test: what `helm test` runs once the service responds. Python code with call(METHOD, PATH, BODY), which returns status and text,
expect(STATUS, *call(...)), and AUTH and TOKEN: the value auth.mode, and the test's token or "".
*/}}
{{- define "service.test" -}}
{{- include "service.metadata" . | fromYaml | dig "test" "" | trim }}
{{- end }}
