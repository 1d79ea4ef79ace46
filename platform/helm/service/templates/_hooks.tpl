{{/*
What a service's chart tells this library, with what holds for a service that tells nothing. A chart defines those that
are otherwise in its templates/_service.tpl: of two templates of one name Helm takes that of the outer chart. Beside them
a chart may have two files: files/alerts.yaml, rules of its own beside those of this library, and files/dashboard.json, a
dashboard in the place of this library's.
*/}}

{{/* What the names of its settings begin with, as in ORDERS_AUTH. */}}
{{- define "service.environmentPrefix" -}}
{{ include "service.name.snake" . | upper }}_
{{- end }}

{{/* What it keeps in a database, in one word for people, such as orders. Nothing: it has no database. */}}
{{- define "service.keeps" -}}{{- end }}

{{/*
What `helm test` does once the service answers: lines of Python, which have call(METHOD, PATH, BODY) for a status and a
text, expect(STATUS, *call(...)), and AUTH and TOKEN, the value auth.mode and the test's token or "".
*/}}
{{- define "service.test" -}}{{- end }}

{{/* A route that streams for as long as its reader stays, such as /v1/events: its duration says nothing. */}}
{{- define "service.stream" -}}{{- end }}

{{/* Where the runbooks of the alerts are: before the alert's name without the service's, in small letters. */}}
{{- define "service.runbooks" -}}
docs/operate.md#
{{- end }}
