package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	orderTopic   = "InteropGoOrder"
	orderGroup   = "interop-go-order"
	orderRetries = 2
	// The only message that is never accepted.
	neverAccepted = 21
)

// Order is what all members of the group see together.
type Order struct {
	run       *Run
	lock      sync.Mutex
	accepted  map[int]bool
	next      map[int]int64
	busy      map[int]bool
	suspended map[int]bool
	again     map[int]bool
	refusals  []int32
	skipped   int
	overlaps  int
}

// orderly lets members that lock their queues come and go: within a queue one message at a time and in the order
// stored, also where the application asks to see one again, and past one that it never accepts.
//
// The first leaves before the second comes, unless queues are to be handed over: this client does not unlock a queue
// that it loses to a new member, who then waits a minute for the lock to expire.
func (r *Run) orderly(handOver bool) error {
	if err := r.createTopic(orderTopic); err != nil {
		return err
	}
	if err := r.introduce(orderGroup, orderTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-order")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	order := &Order{run: r, accepted: make(map[int]bool), next: make(map[int]int64), busy: make(map[int]bool),
		suspended: make(map[int]bool), again: make(map[int]bool)}
	total, third := r.count, r.count/3
	// While a second member waits for its queues, messages go on; how many is not known before.
	r.count = 1 << 30

	first, err := order.member()
	if err != nil {
		return err
	}
	if err := r.sendInOrder(client, 0, third); err != nil {
		return err
	}
	order.await("orderly.alone", third)
	sent := third
	if handOver {
		if sent, err = order.handOver(client, sent); err != nil {
			return err
		}
	}
	if err := r.sendInOrder(client, sent, sent+third); err != nil {
		return err
	}
	sent += third
	if err := first.Shutdown(); err != nil {
		return err
	}
	second, err := order.member()
	if err != nil {
		return err
	}
	rest := total - 2*third
	if err := r.sendInOrder(client, sent, sent+rest); err != nil {
		return err
	}
	order.await("orderly.complete", sent+rest)
	if err := second.Shutdown(); err != nil {
		return err
	}
	return order.examine(handOver)
}

// handOver sends until a second member has got queues of the first, and lets it leave again.
func (o *Order) handOver(client rocketmq.Producer, sent int) (int, error) {
	joined := newReceived()
	second, err := o.run.member(orderGroup, orderTopic,
		func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			joined.add(int(messages[0].QueueOffset))
			return o.take(ctx, messages...)
		},
		consumer.WithConsumerOrder(true), consumer.WithMaxReconsumeTimes(orderRetries))
	if err != nil {
		return sent, err
	}
	took := o.run.await(3*time.Minute, func() bool {
		if err = o.run.sendInOrder(client, sent, sent+1); err != nil {
			return true
		}
		sent++
		_, deliveries := joined.count()
		return deliveries > 0
	})
	o.run.that(took && err == nil, "orderly.second-takes-over", "sent=%d", sent)
	if err != nil {
		return sent, err
	}
	return sent, second.Shutdown()
}

func (o *Order) member() (rocketmq.PushConsumer, error) {
	return o.run.member(orderGroup, orderTopic, o.take, consumer.WithConsumerOrder(true),
		consumer.WithMaxReconsumeTimes(orderRetries))
}

// await waits for everything but the message that is never accepted.
func (o *Order) await(check string, sent int) {
	accepted := func() int {
		o.lock.Lock()
		defer o.lock.Unlock()
		return len(o.accepted)
	}
	complete := o.run.await(2*time.Minute, func() bool { return accepted() >= sent-1 })
	o.run.that(complete, check, "sent=%d accepted=%d", sent, accepted())
}

func (r *Run) sendInOrder(client rocketmq.Producer, from, to int) error {
	for number := from; number < to; number++ {
		result, err := client.SendSync(context.Background(), message(orderTopic, number))
		if err != nil {
			return err
		}
		r.same("orderly.in-order", fmt.Sprintf("queue of message %d", number), number%queues, result.MessageQueue.QueueId)
	}
	return nil
}

func (o *Order) take(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	m := messages[0]
	o.enter(m.Queue.QueueId)
	defer o.leave(m.Queue.QueueId)
	number := o.run.compare("orderly.in-order", orderTopic, m)

	o.lock.Lock()
	defer o.lock.Unlock()
	// A queue that changes hands is read again from its committed offset: going back is legal, skipping is not.
	if m.QueueOffset > o.next[m.Queue.QueueId] {
		o.skipped++
	}
	if number == neverAccepted {
		o.refusals = append(o.refusals, m.ReconsumeTimes)
		o.advance(m)
		return consumer.SuspendCurrentQueueAMoment, nil
	}
	if number%50 == 7 && !o.accepted[number] {
		// The client counts, so a queue that changes hands in between begins anew.
		if m.ReconsumeTimes == 0 {
			o.suspended[number] = true
			return consumer.SuspendCurrentQueueAMoment, nil
		}
		o.again[number] = true
	}
	o.accepted[number] = true
	o.advance(m)
	return consumer.ConsumeSuccess, nil
}

func (o *Order) advance(m *primitive.MessageExt) {
	if m.QueueOffset+1 > o.next[m.Queue.QueueId] {
		o.next[m.Queue.QueueId] = m.QueueOffset + 1
	}
}

func (o *Order) enter(queue int) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.busy[queue] {
		o.overlaps++
	}
	o.busy[queue] = true
}

func (o *Order) leave(queue int) {
	o.lock.Lock()
	defer o.lock.Unlock()
	o.busy[queue] = false
}

func (o *Order) examine(handedOver bool) error {
	o.lock.Lock()
	defer o.lock.Unlock()
	r := o.run
	r.that(o.skipped == 0, "orderly.in-order", "violations=%d", o.skipped)
	r.that(o.overlaps == 0, "orderly.one-at-a-time", "violations=%d", o.overlaps)
	r.that(len(o.suspended) > 0 && len(o.again) == len(o.suspended), "orderly.suspended-comes-again",
		"suspended=%d again=%d", len(o.suspended), len(o.again))
	// This client gives up when the count is beyond the limit, not when it reaches it.
	rounds := len(o.refusals) / (orderRetries + 2)
	for at, times := range o.refusals {
		r.same("orderly.dead-letter", "refused with reconsume times", int32(at%(orderRetries+2)), times)
	}
	// Whoever reads a queue again from its committed offset may come past the message once more.
	r.same("orderly.dead-letter", "refused again", handedOver && rounds > 1, rounds != 1)
	letters, err := r.deadLetters(orderGroup, rounds)
	if err != nil {
		return err
	}
	for _, m := range letters {
		number := r.compare("orderly.dead-letter", "%DLQ%"+orderGroup, m)
		r.same("orderly.dead-letter", "number", neverAccepted, number)
		r.same("orderly.dead-letter", "RETRY_TOPIC", orderTopic, m.GetProperty(primitive.PropertyRetryTopic))
	}
	r.that(len(letters) == rounds && r.clean(), "orderly.dead-letter", "refused=%d copies=%d", rounds, len(letters))
	return nil
}
