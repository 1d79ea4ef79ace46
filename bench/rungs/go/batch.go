package main

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

const maxBatchSize = 100

// batcher executes operations of one kind that wait at the same time together, with the rules of the service's Batcher
// (packages/chassis/src/chassis/postgres/batching.py): the first operation leads, and its statement takes all that
// arrived until it is sent; later ones wait for the next, which the first of them leads.
type batcher[Item, Result any] struct {
	pool    *pgxpool.Pool
	one     func(context.Context, querier, Item) (Result, error)
	many    func(context.Context, querier, []Item) ([]Result, error) // all or nothing, committed when it returns
	mutex   sync.Mutex
	led     bool
	waiters []waiter[Item, Result]
}

type waiter[Item, Result any] struct {
	item    Item
	replies chan reply[Result]
}

type reply[Result any] struct {
	handoff handoff
	result  Result
}

type handoff int

const (
	served handoff = iota // result is the waiter's
	lead                  // the waiter leads the next batch
	retry                 // its batch failed: the waiter executes its item alone
)

func newBatcher[Item, Result any](
	pool *pgxpool.Pool,
	one func(context.Context, querier, Item) (Result, error),
	many func(context.Context, querier, []Item) ([]Result, error),
) *batcher[Item, Result] {
	return &batcher[Item, Result]{pool: pool, one: one, many: many}
}

func (b *batcher[Item, Result]) submit(ctx context.Context, item Item) (Result, error) {
	b.mutex.Lock()
	if !b.led {
		b.led = true
		b.mutex.Unlock()
		return b.lead(ctx, item)
	}
	w := waiter[Item, Result]{item, make(chan reply[Result], 1)}
	b.waiters = append(b.waiters, w)
	b.mutex.Unlock()
	r := <-w.replies
	switch r.handoff {
	case lead:
		return b.lead(ctx, item)
	case retry:
		return b.one(ctx, b.pool, item)
	}
	return r.result, nil
}

func (b *batcher[Item, Result]) lead(ctx context.Context, item Item) (result Result, err error) {
	defer b.handOver()
	connection, err := b.pool.Acquire(ctx)
	if err != nil {
		return result, err
	}
	defer connection.Release()
	followers := b.take()
	if len(followers) == 0 {
		return b.one(ctx, connection, item)
	}
	items := make([]Item, 1, 1+len(followers))
	items[0] = item
	for _, follower := range followers {
		items = append(items, follower.item)
	}
	results, err := b.many(ctx, connection, items)
	if err != nil {
		for _, follower := range followers {
			follower.replies <- reply[Result]{handoff: retry}
		}
		return b.one(ctx, b.pool, item)
	}
	for n, follower := range followers {
		follower.replies <- reply[Result]{result: results[n+1]}
	}
	return results[0], nil
}

// take returns the waiters that join the leader's statement.
func (b *batcher[Item, Result]) take() []waiter[Item, Result] {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	n := min(len(b.waiters), maxBatchSize-1)
	taken := b.waiters[:n]
	b.waiters = b.waiters[n:]
	return taken
}

func (b *batcher[Item, Result]) handOver() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if len(b.waiters) == 0 {
		b.led = false
		return
	}
	b.waiters[0].replies <- reply[Result]{handoff: lead}
	b.waiters = b.waiters[1:]
}
