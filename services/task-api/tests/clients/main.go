// What a client that oapi-codegen made does; argument: the API's URL.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"clients/api"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func expect(held bool, what string, got any) {
	if !held {
		log.Fatalf("%s: %+v", what, got)
	}
}

func pointer[T any](value T) *T { return &value }

func main() {
	ctx := context.Background()
	client := must(api.NewClientWithResponses(os.Args[1]))

	created := must(client.CreateTaskWithResponse(ctx, &api.CreateTaskParams{IdempotencyKey: pointer("go")}, api.NewTask{
		Title: "Golang", PercentDone: pointer(40), Position: pointer(1234567.875),
		Metadata: &map[string]string{"a": "1"},
	}))
	expect(created.JSON201 != nil, "created", string(created.Body))
	id := created.JSON201.Id

	got := must(client.GetTaskWithResponse(ctx, id, nil))
	expect(got.JSON200 != nil && got.JSON200.Position == 1234567.875 && got.JSON200.Metadata["a"] == "1", "got", got)

	params := &api.UpdateTaskParams{IfMatch: pointer(`"v1"`)}
	patch := api.TaskPatch{Title: pointer("Golang, changed")}
	patched := must(client.UpdateTaskWithApplicationMergePatchPlusJSONBodyWithResponse(ctx, id, params, patch))
	expect(patched.JSON200 != nil, "patched", string(patched.Body))
	task := patched.JSON200
	expect(task.Title == "Golang, changed" && task.PercentDone == 40 && task.Position == 1234567.875 &&
		task.Metadata["a"] == "1", "patched", task)

	late := must(client.UpdateTaskWithResponse(ctx, id, params, patch))
	expect(late.StatusCode() == http.StatusPreconditionFailed, "late", late.Status())
	expect(late.ApplicationproblemJSON412 != nil && late.ApplicationproblemJSON412.Type == "/problems/version-mismatch",
		"problem", string(late.Body))

	page := must(client.ListTasksWithResponse(ctx, &api.ListTasksParams{Q: pointer("golang"), Sort: pointer("title")}))
	expect(page.JSON200 != nil && len(page.JSON200.Items) == 1 && page.JSON200.Items[0].Id == id, "list", string(page.Body))

	var item api.Batch_Items_Item
	if err := item.FromUpdateItem(api.UpdateItem{
		Id: id, IfVersion: pointer(2), Patch: api.TaskPatch{Title: pointer("Golang, again")},
	}); err != nil {
		log.Fatal(err)
	}
	answered := must(client.BatchTasksWithResponse(ctx, nil, api.Batch{Items: []api.Batch_Items_Item{item}}))
	expect(answered.JSON207 != nil && answered.JSON207.Results[0].Status == 200 &&
		answered.JSON207.Results[0].Task.PercentDone == 40, "batch", string(answered.Body))

	changes := must(client.ListChangesWithResponse(ctx, nil))
	expect(changes.JSON200 != nil, "changes", string(changes.Body))
	var mine []api.ChangeType
	for _, change := range changes.JSON200.Items {
		if change.Task.Id == id {
			mine = append(mine, change.Type)
		}
	}
	expect(fmt.Sprint(mine) == "[created updated updated]", "changes", mine)
}
