{{- /* What the library has to know of this service; what each is stands in ../../service/templates/_hooks.tpl. */}}

{{/* Not TASK_API_: Kubernetes gives every pod beside a Service named task-api a variable TASK_API_PORT=tcp://... */}}
{{- define "service.environmentPrefix" -}}TASKS_{{- end }}

{{- define "service.keeps" -}}tasks{{- end }}

{{- define "service.stream" -}}/v1/changes{{- end }}

{{- define "service.runbooks" -}}docs/operate.md#taskapi{{- end }}

{{- define "service.test" -}}
if AUTH != "none" and not TOKEN:
    expect(401, *call("POST", "/v1/tasks", {"title": "helm test"}))
    print("ok: nobody writes without a token. To test writing, set helmTest.credential.secretName")
    raise SystemExit

status, text = call("POST", "/v1/tasks", {"title": "helm test"})
expect(201, status, text)
task = json.loads(text)
path = "/v1/tasks/" + task["id"]
status, text = call("GET", path)
expect(200, status, text)
if json.loads(text) != task:
    raise SystemExit(f"FAILED: wrote {task} and read {text.decode()}")
expect(204, *call("DELETE", path))
expect(404, *call("GET", path))
print("ok: a task was written, read and deleted")
{{- end }}
