// Rung 7: the same three endpoints in idiomatic Go, with net/http and pgx.
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
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

type fixture struct {
	Get        string   `json:"get"`
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

type server struct {
	fixture
	pool *pgxpool.Pool
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

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	var id pgtype.UUID
	if id.Scan(r.PathValue("id")) != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	t, err := s.read(s.pool.QueryRow(r.Context(), s.Get, id))
	if err == pgx.ErrNoRows || err == nil && t.DeletedAt != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	respond(w, http.StatusOK, t, err, fmt.Sprintf(`"v%d"`, t.Version))
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	rows, err := s.pool.Query(r.Context(), s.List)
	if err == nil {
		defer rows.Close()
	}
	tasks := make([]task, 0, 51)
	for err == nil && rows.Next() {
		var t task
		t, err = s.read(rows)
		tasks = append(tasks, t)
	}
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
		_, err = s.pool.Exec(r.Context(), s.Post, t.ID, t.Title, t.Description, t.Status, rank, t.DueAt, dueOn,
			t.StartAt, t.Labels, t.Project, t.Parent, t.Assignee, t.PercentDone, t.Recurrence, t.TimeZone,
			t.FollowedBy, t.Position, t.Metadata, t.CreatedAt, t.UpdatedAt, t.CompletedAt, t.DeletedAt, t.Version, due, words, "created", string(text))
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
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/tasks", s.list)
	mux.HandleFunc("POST /v1/tasks", s.create)
	mux.HandleFunc("GET /v1/tasks/{id}", s.get)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}
