// The operations of a client made with openapi-typescript and openapi-fetch; argument: the API's URL.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./schema.d.ts";

const url = process.argv[2];
assert(url, "the API's URL is missing");
const client = createClient<paths>({ baseUrl: url });

const { data: created } = await client.POST("/v1/tasks", {
  params: { header: { "Idempotency-Key": "typescript" } },
  body: { title: "TypeScript", percent_done: 40, position: 1234567.875, metadata: { a: "1" } },
});
assert(created);
const path = { task_id: created.id };
const { data: got } = await client.GET("/v1/tasks/{task_id}", { params: { path } });
assert(got);
assert.equal(got.position, 1234567.875);
assert.deepEqual(got.metadata, { a: "1" });

const change = { params: { path, header: { "If-Match": '"v1"' } }, body: { title: "TypeScript, changed" } };
const { data: patched } = await client.PATCH("/v1/tasks/{task_id}", change);
assert(patched);
assert.equal(patched.title, "TypeScript, changed");
assert.deepEqual([patched.percent_done, patched.position, patched.metadata], [40, 1234567.875, { a: "1" }]);

const { error, response } = await client.PATCH("/v1/tasks/{task_id}", change);
assert.equal(response.status, 412);
assert(error);
assert.equal(error.type, "/problems/version-mismatch");

const { data: cleared } = await client.PATCH("/v1/tasks/{task_id}", { params: { path }, body: { metadata: null } });
assert(cleared);
assert.deepEqual(cleared.metadata, {});

const { data: page } = await client.GET("/v1/tasks", { params: { query: { q: "typescript", sort: "title" } } });
assert(page);
assert.deepEqual(page.items.map((task) => task.id), [created.id]);

const { data: answered } = await client.POST("/v1/tasks:batch", {
  body: { items: [{ action: "update", id: created.id, if_version: 3, patch: { title: "TypeScript, again" } }] },
});
assert(answered?.results[0]);
assert.deepEqual([answered.results[0].status, answered.results[0].task?.percent_done], [200, 40]);

const { data: changes } = await client.GET("/v1/changes");
assert(changes && typeof changes !== "string"); // the other content type is a stream of text
const mine = changes.items.filter((each) => each.task.id === created.id).map((each) => each.type);
assert.deepEqual(mine, ["created", "updated", "updated", "updated"]);
