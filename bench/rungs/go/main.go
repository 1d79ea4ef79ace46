// Rung 7: the same three endpoints in idiomatic Go, with net/http and pgx.
//
//	server PORT            a statement per request
//	server PORT batched    concurrent GETs by id share a statement, concurrent POSTs a transaction
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

type fixture struct {
	Get        string   `json:"get"`
	GetMany    string   `json:"get_many"`
	List       string   `json:"list"`
	Post       string   `json:"post"`
	Priorities []string `json:"priorities"`
	Cursor     string   `json:"cursor"`
}

type date struct{ time.Time }

func (d date) MarshalJSON() ([]byte, error) { return []byte(d.Format(`"2006-01-02"`)), nil }

func (d *date) UnmarshalJSON(text []byte) (err error) {
	d.Time, err = time.Parse(`"2006-01-02"`, string(text))
	return err
}

type task struct {
	ID          pgtype.UUID       `json:"id"`
	Title       string            `json:"title"`
	Description *string           `json:"description"`
	Status      string            `json:"status"`
	Priority    string            `json:"priority"`
	DueAt       *time.Time        `json:"due_at"`
	DueOn       *date             `json:"due_on"`
	StartAt     *time.Time        `json:"start_at"`
	Labels      []string          `json:"labels"`
	Project     *string           `json:"project"`
	Parent      *pgtype.UUID      `json:"parent"`
	Assignee    *string           `json:"assignee"`
	PercentDone int               `json:"percent_done"`
	Recurrence  *string           `json:"recurrence"`
	TimeZone    *string           `json:"time_zone"`
	FollowedBy  *pgtype.UUID      `json:"followed_by"`
	Position    float64           `json:"position"`
	Metadata    map[string]string `json:"metadata"`
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
	CompletedAt *time.Time        `json:"completed_at"`
	DeletedAt   *time.Time        `json:"deleted_at"`
	Version     int               `json:"version"`
}

type page struct {
	Items      []task  `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// querier is a pool or one of its connections.
type querier interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

type server struct {
	fixture
	pool   *pgxpool.Pool
	fetch  func(context.Context, pgtype.UUID) (*task, error) // nil if there is no such task
	insert func(context.Context, []any) (struct{}, error)    // the arguments of the statement
}

func (s *server) read(row pgx.Row) (task, error) {
	var t task
	var rank int
	var dueOn *time.Time
	err := row.Scan(&t.ID, &t.Title, &t.Description, &t.Status, &rank, &t.DueAt, &dueOn, &t.StartAt, &t.Labels,
		&t.Project, &t.Parent, &t.Assignee, &t.PercentDone, &t.Recurrence, &t.TimeZone, &t.FollowedBy,
		&t.Position, &t.Metadata, &t.CreatedAt, &t.UpdatedAt, &t.CompletedAt, &t.DeletedAt, &t.Version)
	if err != nil {
		return t, err
	}
	t.Priority = s.Priorities[rank]
	if dueOn != nil {
		t.DueOn = &date{*dueOn}
	}
	t.CreatedAt, t.UpdatedAt = t.CreatedAt.UTC(), t.UpdatedAt.UTC()
	for _, instant := range []*time.Time{t.DueAt, t.StartAt, t.CompletedAt, t.DeletedAt} {
		if instant != nil {
			*instant = instant.UTC()
		}
	}
	return t, nil
}

func (s *server) readAll(rows pgx.Rows, capacity int) ([]task, error) {
	return pgx.AppendRows(make([]task, 0, capacity), rows, func(row pgx.CollectableRow) (task, error) { return s.read(row) })
}

func (s *server) fetchOne(ctx context.Context, db querier, id pgtype.UUID) (*task, error) {
	t, err := s.read(db.QueryRow(ctx, s.Get, id))
	if err == pgx.ErrNoRows {
		return nil, nil
	}
	return &t, err
}

func (s *server) fetchMany(ctx context.Context, db querier, ids []pgtype.UUID) ([]*task, error) {
	rows, _ := db.Query(ctx, s.GetMany, ids) // AppendRows returns the error
	tasks, err := s.readAll(rows, len(ids))
	byID := make(map[pgtype.UUID]*task, len(tasks))
	for n := range tasks {
		byID[tasks[n].ID] = &tasks[n]
	}
	results := make([]*task, len(ids))
	for n, id := range ids {
		results[n] = byID[id]
	}
	return results, err
}

func (s *server) insertOne(ctx context.Context, db querier, values []any) (none struct{}, err error) {
	_, err = db.Exec(ctx, s.Post, values...)
	return none, err
}

// insertMany sends one Execute per task and one Sync: a single transaction, which is committed when Close returns.
func (s *server) insertMany(ctx context.Context, db querier, tasks [][]any) ([]struct{}, error) {
	batch := &pgx.Batch{}
	for _, values := range tasks {
		batch.Queue(s.Post, values...)
	}
	return make([]struct{}, len(tasks)), db.SendBatch(ctx, batch).Close()
}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	var id pgtype.UUID
	if id.Scan(r.PathValue("id")) != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	t, err := s.fetch(r.Context(), id)
	switch {
	case err != nil:
		respond(w, http.StatusOK, nil, err, "")
	case t == nil || t.DeletedAt != nil:
		http.Error(w, "not found", http.StatusNotFound)
	default:
		respond(w, http.StatusOK, t, nil, fmt.Sprintf(`"v%d"`, t.Version))
	}
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	rows, _ := s.pool.Query(r.Context(), s.List) // AppendRows returns the error
	tasks, err := s.readAll(rows, 51)
	p := page{Items: tasks}
	if len(tasks) > 50 {
		p = page{tasks[:50], &s.Cursor}
	}
	respond(w, http.StatusOK, p, err, "")
}

func (s *server) create(w http.ResponseWriter, r *http.Request) {
	now := time.Now().UTC()
	t := task{Status: "todo", Priority: "none", Labels: []string{}, Metadata: map[string]string{}}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	if err := decoder.Decode(&t); err != nil || t.Title == "" || len(t.Title) > 200 {
		http.Error(w, "bad request", http.StatusUnprocessableEntity)
		return
	}
	t.ID, t.CreatedAt, t.UpdatedAt, t.Version = uuid7(now), now, now, 1
	rank := 0
	for n, name := range s.Priorities {
		if name == t.Priority {
			rank = n
		}
	}
	due := t.DueAt
	var dueOn *time.Time
	if t.DueOn != nil {
		due, dueOn = &t.DueOn.Time, &t.DueOn.Time
	}
	words := strings.Fields(strings.ToLower(t.Title))
	text, err := json.Marshal(t)
	if err == nil {
		_, err = s.insert(r.Context(), []any{t.ID, t.Title, t.Description, t.Status, rank, t.DueAt, dueOn, t.StartAt,
			t.Labels, t.Project, t.Parent, t.Assignee, t.PercentDone, t.Recurrence, t.TimeZone, t.FollowedBy, t.Position,
			t.Metadata, t.CreatedAt, t.UpdatedAt, t.CompletedAt, t.DeletedAt, t.Version, due, words, "created", string(text)})
	}
	respond(w, http.StatusCreated, t, err, `"v1"`)
}

func respond(w http.ResponseWriter, status int, value any, err error, etag string) {
	if err != nil {
		slog.Error("failed", "error", err)
		http.Error(w, "failed", http.StatusServiceUnavailable)
		return
	}
	body, _ := json.Marshal(value)
	w.Header().Set("Content-Type", "application/json")
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	w.WriteHeader(status)
	w.Write(body)
}

func uuid7(now time.Time) (id pgtype.UUID) {
	rand.Read(id.Bytes[6:])
	var milliseconds [8]byte
	binary.BigEndian.PutUint64(milliseconds[:], uint64(now.UnixMilli())<<16)
	copy(id.Bytes[:6], milliseconds[:6])
	id.Bytes[6] = id.Bytes[6]&0x0f | 0x70
	id.Bytes[8] = id.Bytes[8]&0x3f | 0x80
	id.Valid = true
	return id
}

func main() {
	s := &server{}
	if err := json.Unmarshal([]byte(os.Getenv("BENCH_FIXTURE")), &s.fixture); err != nil {
		log.Fatal(err)
	}
	var err error
	s.pool, err = pgxpool.New(context.Background(), os.Getenv("BENCH_DATABASE_URL")+"?pool_max_conns="+os.Getenv("BENCH_POOL"))
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 2 && os.Args[2] == "batched" {
		s.fetch = newBatcher(s.pool, s.fetchOne, s.fetchMany).submit
		s.insert = newBatcher(s.pool, s.insertOne, s.insertMany).submit
	} else {
		s.fetch = func(ctx context.Context, id pgtype.UUID) (*task, error) { return s.fetchOne(ctx, s.pool, id) }
		s.insert = func(ctx context.Context, values []any) (struct{}, error) { return s.insertOne(ctx, s.pool, values) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/tasks", s.list)
	mux.HandleFunc("POST /v1/tasks", s.create)
	mux.HandleFunc("GET /v1/tasks/{id}", s.get)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}
