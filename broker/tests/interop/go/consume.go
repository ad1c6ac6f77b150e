package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// push consumes everything with a push consumer and prints `subscribed` once it is a member.
func (r *Run) push() error {
	client, err := rocketmq.NewPushConsumer(
		consumer.WithGroupName("interop-go-push"),
		consumer.WithInstance("push"),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	)
	if err != nil {
		return err
	}
	received := newReceived()
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare("go.push", topic, m); number >= 0 {
				received.add(number)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	if err := client.Subscribe(topic, consumer.MessageSelector{}, take); err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	fmt.Println("subscribed")
	for !r.late() {
		if distinct, _ := received.count(); distinct == r.count {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	err = client.Shutdown()
	distinct, deliveries := received.count()
	r.that(distinct == r.count, "go.push", "distinct=%d duplicates=%d", distinct, deliveries-distinct)
	return err
}

// pull consumes everything by polling a subscription, then reads every queue again from its start by explicit
// offsets.
func (r *Run) pull() error {
	client, err := rocketmq.NewPullConsumer(
		consumer.WithGroupName("interop-go-pull"),
		consumer.WithInstance("pull"),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	)
	if err != nil {
		return err
	}
	if err := client.Subscribe(topic, consumer.MessageSelector{}); err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	ends := r.poll(client)
	r.pullFrom(client, ends)
	return client.Shutdown()
}

// poll returns the offset behind the last message of each queue.
func (r *Run) poll(client rocketmq.PullConsumer) map[primitive.MessageQueue]int64 {
	ends := make(map[primitive.MessageQueue]int64)
	received := newReceived()
	distinct := 0
	for distinct < r.count && !r.late() {
		request, err := client.Poll(context.Background(), time.Second)
		if err != nil {
			continue
		}
		for _, m := range request.GetMsgList() {
			if end := m.QueueOffset + 1; end > ends[*m.Queue] {
				ends[*m.Queue] = end
			}
			number := r.compare("go.pull", topic, m)
			if number < 0 {
				continue
			}
			fresh := false
			if distinct, fresh = received.add(number); fresh && distinct == r.count/2 {
				fmt.Println("halfway")
			}
		}
		client.ACK(context.Background(), request, consumer.ConsumeSuccess)
	}
	distinct, deliveries := received.count()
	r.that(distinct == r.count, "go.pull", "distinct=%d duplicates=%d", distinct, deliveries-distinct)
	return ends
}

// pullFrom stops at the ends: a pull beyond would be held by the broker until something comes.
func (r *Run) pullFrom(client rocketmq.PullConsumer, ends map[primitive.MessageQueue]int64) {
	received := newReceived()
	for queue, end := range ends {
		queue := queue
		for next := int64(0); next < end && !r.late(); {
			result, err := client.PullFrom(context.Background(), &queue, next, 32)
			if err != nil || result.Status != primitive.PullFound {
				r.fail("go.pull-from", "queue %d at %d of %d: %v, %v", queue.QueueId, next, end, result, err)
				break
			}
			for _, m := range result.GetMessageExts() {
				r.same("go.pull-from", "queue offset", next, m.QueueOffset)
				next++
				if number := r.compare("go.pull-from", topic, m); number >= 0 {
					received.add(number)
				}
			}
			r.same("go.pull-from", "next offset", next, result.NextBeginOffset)
		}
	}
	distinct, deliveries := received.count()
	r.that(distinct == r.count, "go.pull-from", "distinct=%d stored-twice=%d queues=%d", distinct, deliveries-distinct, len(ends))
}
