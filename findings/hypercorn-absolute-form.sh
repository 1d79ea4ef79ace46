#!/usr/bin/env bash
# Guess: a server treats the absolute form of a request target, `GET http://localhost/tasks HTTP/1.1`, like `/tasks`, as RFC 9112
# requires; the `path` of an ASGI scope never contains scheme and host.
# What happens: hypercorn passes the whole target as the path, so a router finds no route and returns 404. uvicorn passes only the path.
# Packages: hypercorn 0.18.0, uvicorn 0.54.0, httptools 0.9.0
# Source: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
server=''
stop() {
  if [[ $server ]]; then kill "$server" && wait "$server" || true; fi
  rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check hypercorn==0.18.0 uvicorn==0.54.0 httptools==0.9.0

cat > app.py << 'PYTHON'
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = scope["path"].encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
PYTHON
cat > request.py << 'PYTHON'
import socket
import sys
import time

deadline = time.monotonic() + 60
while True:
    try:
        connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        break
    except ConnectionRefusedError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
with connection:
    connection.sendall(b"GET http://localhost/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    print(connection.makefile("rb").read().decode().partition("\r\n\r\n")[2])
PYTHON
actual=''
for name in hypercorn uvicorn; do
  port=$(v/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  if [[ $name == hypercorn ]]; then
    v/bin/hypercorn --bind "127.0.0.1:$port" app:app > "$name.log" 2>&1 &
  else
    v/bin/uvicorn --http httptools --host 127.0.0.1 --port "$port" app:app > "$name.log" 2>&1 &
  fi
  server=$!
  response=$(v/bin/python request.py "$port")
  echo "$name: $response"
  actual+=" $response"
  kill "$server"
  wait "$server" || true
  server=''
done
if [[ $actual != " http://localhost/tasks /tasks" ]]; then
  echo "Changed: expected the whole target from hypercorn and /tasks from uvicorn" >&2
  exit 1
fi
