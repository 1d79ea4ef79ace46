#!/usr/bin/env bash
# Guess: Go clients for server-sent events deliver an event if a block has data, as the standard says; a block with only `retry:` or `id:`
# changes the client's state and is not delivered.
# What happens: both well-known clients deliver an event without data for a lone `id:` and a lone `retry:`. go-sse's function Read skips a
# lone `retry:`; its client does not.
# Packages: github.com/r3labs/sse/v2 2.10.0, github.com/tmaxmax/go-sse 0.12.0, gopkg.in/cenkalti/backoff.v1 1.1.0
# Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

printf 'module example\n\ngo 1.23\n' > go.mod
cat > main.go << 'GO'
package main

import (
  "context"
  "fmt"
  "net/http"
  "net/http/httptest"
  "strings"
  "time"

  r3labs "github.com/r3labs/sse/v2"
  tmaxmax "github.com/tmaxmax/go-sse"
  "gopkg.in/cenkalti/backoff.v1"
)

// The server sends one block, then one whose data tells the client to stop.
func main() {
  for _, block := range []string{": a comment\n\n", "retry: 3000\n\n", "id: 7\n\n", "data: a\n\n"} {
    server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
      w.Header().Set("Content-Type", "text/event-stream")
      fmt.Fprint(w, block, "data: end\n\n")
      w.(http.Flusher).Flush()
      <-r.Context().Done()
    }))
    var events [3]int

    ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
    client := r3labs.NewClient(server.URL)
    client.ReconnectStrategy = &backoff.StopBackOff{}
    client.SubscribeRawWithContext(ctx, func(event *r3labs.Event) {
      if string(event.Data) == "end" {
        cancel()
      } else {
        events[0]++
      }
    })

    ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
    request, _ := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
    connection := (&tmaxmax.Client{Backoff: tmaxmax.Backoff{MaxRetries: -1}}).NewConnection(request)
    connection.SubscribeToAll(func(event tmaxmax.Event) {
      if event.Data == "end" {
        cancel()
      } else {
        events[1]++
      }
    })
    connection.Connect()
    cancel()
    server.Close()

    for range tmaxmax.Read(strings.NewReader(block), nil) {
      events[2]++
    }
    fmt.Printf("%q: r3labs %d, go-sse %d, its Read %d\n", block, events[0], events[1], events[2])
  }
}
GO
for each in github.com/r3labs/sse/v2@v2.10.0 github.com/tmaxmax/go-sse@v0.12.0 gopkg.in/cenkalti/backoff.v1@v1.1.0; do
  go get "$each" > log 2>&1 || { cat log && exit 1; }
done
go mod tidy > log 2>&1 || { cat log && exit 1; }
actual=$(go run .)
echo "$actual"
if [[ $actual != '": a comment\n\n": r3labs 0, go-sse 0, its Read 0
"retry: 3000\n\n": r3labs 1, go-sse 1, its Read 0
"id: 7\n\n": r3labs 1, go-sse 1, its Read 1
"data: a\n\n": r3labs 1, go-sse 1, its Read 1' ]]; then
  echo "Changed: expected events without data for a lone retry and a lone id" >&2
  exit 1
fi
