{{/*
What a service's chart says of the service, in its files/service.yaml, and what holds where it says nothing. In a file, not in
templates of names agreed upon: in a chart around two services, Helm would take one service's for both.
*/}}
{{- define "service.self" -}}
{{- .Files.Get "files/service.yaml" }}
{{- end }}

{{/* name: what the service is called whatever alias a chart around this one gives it. It needs one that may get an alias. */}}
{{- define "service.called" -}}
{{- include "service.self" . | fromYaml | dig "name" .Chart.Name }}
{{- end }}

{{/* environmentPrefix: what the names of its settings begin with, as in ORDERS_AUTH. */}}
{{- define "service.environmentPrefix" -}}
{{- $own := printf "%s_" (include "service.name.snake" . | upper) }}
{{- include "service.self" . | fromYaml | dig "environmentPrefix" $own }}
{{- end }}

{{/* keeps: what it keeps in a database, in one word for people, such as orders. Nothing: it has no database. */}}
{{- define "service.keeps" -}}
{{- include "service.self" . | fromYaml | dig "keeps" "" }}
{{- end }}

{{/* stream: a route that streams for as long as its reader stays, such as /v1/events: its duration says nothing. */}}
{{- define "service.stream" -}}
{{- include "service.self" . | fromYaml | dig "stream" "" }}
{{- end }}

{{/* runbooks: where those of its alerts are, up to the alert's name without the service's, in small letters. */}}
{{- define "service.runbooks" -}}
{{- include "service.self" . | fromYaml | dig "runbooks" "docs/operate.md#" }}
{{- end }}

{{/*
test: what `helm test` does once the service answers. Lines of Python, which have call(METHOD, PATH, BODY) for a status and a
text, expect(STATUS, *call(...)), and AUTH and TOKEN, the value auth.mode and the test's token or "".
*/}}
{{- define "service.test" -}}
{{- include "service.self" . | fromYaml | dig "test" "" | trim }}
{{- end }}
