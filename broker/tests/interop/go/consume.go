package main

import (
	"context"
	"fmt"
	"sort"
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
			if number := r.compare("go.push", m); number >= 0 {
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
	brokerName := r.poll(client)
	if brokerName != "" {
		r.pullFrom(client, brokerName)
	}
	return client.Shutdown()
}

func (r *Run) poll(client rocketmq.PullConsumer) (brokerName string) {
	received := newReceived()
	distinct := 0
	for distinct < r.count && !r.late() {
		request, err := client.Poll(context.Background(), time.Second)
		if err != nil {
			continue
		}
		for _, m := range request.GetMsgList() {
			brokerName = m.Queue.BrokerName
			number := r.compare("go.pull", m)
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
	return brokerName
}

func (r *Run) pullFrom(client rocketmq.PullConsumer, brokerName string) {
	received := newReceived()
	ends := make([]int64, queues)
	for id := range ends {
		queue := &primitive.MessageQueue{Topic: topic, BrokerName: brokerName, QueueId: id}
		for !r.late() {
			result, err := client.PullFrom(context.Background(), queue, ends[id], 32)
			if err != nil {
				r.fail("go.pull-from", "queue %d at %d: %v", id, ends[id], err)
				break
			}
			if result.Status != primitive.PullFound {
				break
			}
			messages := result.GetMessageExts()
			sort.Slice(messages, func(a, b int) bool { return messages[a].QueueOffset < messages[b].QueueOffset })
			for _, m := range messages {
				r.same("go.pull-from", "queue offset", ends[id], m.QueueOffset)
				ends[id]++
				if number := r.compare("go.pull-from", m); number >= 0 {
					received.add(number)
				}
			}
			r.same("go.pull-from", "next offset", ends[id], result.NextBeginOffset)
		}
	}
	distinct, deliveries := received.count()
	r.that(distinct == r.count, "go.pull-from", "distinct=%d stored-twice=%d ends=%v", distinct, deliveries-distinct, ends)
}
