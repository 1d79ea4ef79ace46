-- wrk script: sends requests, and prints the results as one line of JSON. wrk ... -s load.lua URL -- get|post|keyed|list ROWS ID_FORMAT
-- or with a fixed path: -- path PATH
local kind, rows, id
local fixed
local started, count = os.time(), 0
local new = '{"title":"Water the plants","priority":"high","due_on":"2026-12-01","labels":["home"]}'

function init(args)
  kind, rows, id = args[1], tonumber(args[2]), args[3]
  math.randomseed(os.time())
  if kind == "path" then fixed = wrk.format("GET", args[2]) end
  if kind == "list" then fixed = wrk.format("GET", "/v1/tasks") end
  if kind == "post" then
    fixed = wrk.format("POST", "/v1/tasks", {["Content-Type"] = "application/json"}, new)
  end
end

function request()
  if kind == "keyed" then
    count = count + 1
    local headers = {["Content-Type"] = "application/json", ["Idempotency-Key"] = started .. "-" .. count}
    return wrk.format("POST", "/v1/tasks", headers, new)
  end
  return fixed or wrk.format("GET", "/v1/tasks/" .. string.format(id, math.random(rows)))
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"failed":%d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
