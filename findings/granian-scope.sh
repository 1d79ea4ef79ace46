#!/usr/bin/env bash
# Guess: the scope that an ASGI server passes to an application has the types and values of the specification: the port in `server` is an
# integer, and an HTTP/1.0 request has the version "1.0".
# What happens: with granian the port is a string, and the version of HTTP/1.0 is "1". With uvicorn both follow the specification.
# Packages: granian 2.8.9, uvicorn 0.54.0
# Source: https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope
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
v/bin/pip install --quiet --disable-pip-version-check granian==2.8.9 uvicorn==0.54.0

cat > app.py << 'PYTHON'
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = repr((scope["http_version"], type(scope["server"][1]).__name__)).encode()
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
    connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    print(connection.makefile("rb").read().decode().partition("\r\n\r\n")[2])
PYTHON
actual=''
for name in granian uvicorn; do
  port=$(v/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  if [[ $name == granian ]]; then
    v/bin/granian --interface asgi --host 127.0.0.1 --port "$port" app:app > "$name.log" 2>&1 &
  else
    v/bin/uvicorn --host 127.0.0.1 --port "$port" app:app > "$name.log" 2>&1 &
  fi
  server=$!
  response=$(v/bin/python request.py "$port")
  echo "$name: $response"
  actual+=" $response"
  kill "$server"
  wait "$server" || true
  server=''
done
if [[ $actual != " ('1', 'str') ('1.0', 'int')" ]]; then
  echo "Changed: expected '1' and a string from granian, '1.0' and an integer from uvicorn" >&2
  exit 1
fi
