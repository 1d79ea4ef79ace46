"""What a client that openapi-python-client made does; arguments: the API's URL and a token."""

from __future__ import annotations

import json
import sys

from tasks_client.api.changes import list_changes
from tasks_client.api.tasks import batch_tasks, create_task, get_task, list_tasks, update_task
from tasks_client.client import AuthenticatedClient
from tasks_client.models.batch import Batch
from tasks_client.models.batch_answer import BatchAnswer
from tasks_client.models.change_page import ChangePage
from tasks_client.models.new_task import NewTask
from tasks_client.models.new_task_metadata import NewTaskMetadata
from tasks_client.models.problem_document import ProblemDocument
from tasks_client.models.task import Task
from tasks_client.models.task_page import TaskPage
from tasks_client.models.task_patch import TaskPatch
from tasks_client.models.update_item import UpdateItem

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])

new = NewTask(title="Python", percent_done=40, position=1234567.875, metadata=NewTaskMetadata.from_dict({"a": "1"}))
created = create_task.sync(client=client, body=new, idempotency_key="python")
assert isinstance(created, Task), created
got = get_task.sync(created.id, client=client)
assert isinstance(got, Task), got
assert (got.position, got.metadata.to_dict()) == (1234567.875, {"a": "1"}), got

patched = update_task.sync(created.id, client=client, body=TaskPatch(title="Python, changed"), if_match='"v1"')
assert isinstance(patched, Task), patched
assert (patched.title, patched.percent_done, patched.position) == ("Python, changed", 40, 1234567.875), patched
assert patched.metadata.to_dict() == {"a": "1"}, patched

late = update_task.sync_detailed(created.id, client=client, body=TaskPatch(title="late"), if_match='"v1"')
assert late.status_code == 412, late
assert isinstance(late.parsed, ProblemDocument), late
assert json.loads(late.content)["detail"] == late.parsed.detail

page = list_tasks.sync(client=client, q="python", sort="title")
assert isinstance(page, TaskPage), page
assert [task.id for task in page.items] == [created.id], page

item = UpdateItem(action="update", id=created.id, if_version=2, patch=TaskPatch(title="Python, again"))
answered = batch_tasks.sync(client=client, body=Batch(items=[item]))
assert isinstance(answered, BatchAnswer), answered
assert isinstance(answered.results[0].task, Task), answered
assert (answered.results[0].status, answered.results[0].task.percent_done) == (200, 40), answered

changes = list_changes.sync(client=client)
assert isinstance(changes, ChangePage), changes
mine = [change.type_.value for change in changes.items if change.task.id == created.id]
assert mine == ["created", "updated", "updated"], changes
