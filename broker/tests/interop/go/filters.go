package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	filterTopic    = "InteropGoFilters"
	filterMessages = 240
	filterPulled   = 32
	wantedBySql    = "number BETWEEN 20 AND 99 AND colour = 'rouge' OR TAGS = 'plain' AND colour IS NULL AND number > 120"
)

// The client hashes a tag byte by byte, the broker as Java does: they agree on ASCII alone, so nobody who writes in
// Go can subscribe to another tag.
const wantedByTag = "plain || nobody sends this"

// filtered is a message of which every third has a colour.
func filtered(number int) *primitive.Message {
	m := message(filterTopic, number)
	if number%3 == 0 {
		m.WithProperty("colour", "rouge")
	}
	return m
}

func isWantedByTag(number int) bool {
	return tag(number) == "plain"
}

func isWantedBySql(number int) bool {
	isRed := number%3 == 0
	return number >= 20 && number <= 99 && isRed || tag(number) == "plain" && !isRed && number > 120
}

// filters has members that want some messages by tag and by SQL92, half of them sent before they come: each gets
// exactly those, once.
func (r *Run) filters() error {
	r.count = filterMessages
	if err := r.createTopic(filterTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-filters")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	if err := sendFiltered(client, 0, filterMessages/2); err != nil {
		return err
	}
	wishes := []struct {
		check    string
		group    string
		selector consumer.MessageSelector
		isWanted func(int) bool
		received *Received
	}{
		{"filter.tag", "interop-go-filter-tag", consumer.MessageSelector{Type: consumer.TAG, Expression: wantedByTag},
			isWantedByTag, newReceived()},
		{"filter.sql", "interop-go-filter-sql", consumer.MessageSelector{Type: consumer.SQL92, Expression: wantedBySql},
			isWantedBySql, newReceived()},
	}
	for _, wish := range wishes {
		wish := wish
		take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, m := range messages {
				if number := r.compare(wish.check, filterTopic, m); number >= 0 {
					wish.received.add(number)
				}
			}
			return consumer.ConsumeSuccess, nil
		}
		member, err := r.subscriber(wish.group, filterTopic, wish.selector, take)
		if err != nil {
			return err
		}
		defer member.Shutdown()
	}
	if err := sendFiltered(client, filterMessages/2, filterMessages); err != nil {
		return err
	}
	for _, wish := range wishes {
		r.exactly(wish.check, wish.received, wish.isWanted)
	}
	return r.pullBySql()
}

func sendFiltered(client rocketmq.Producer, from, to int) error {
	for number := from; number < to; number++ {
		if _, err := client.SendSync(context.Background(), filtered(number)); err != nil {
			return err
		}
	}
	return nil
}

// exactly waits for the wanted ones, and a moment longer for those that nobody wants.
func (r *Run) exactly(check string, received *Received, isWanted func(int) bool) {
	wanted := 0
	for number := 0; number < r.count; number++ {
		if isWanted(number) {
			wanted++
		}
	}
	r.await(time.Minute, func() bool { distinct, _ := received.count(); return distinct >= wanted })
	time.Sleep(time.Second)
	received.lock.Lock()
	defer received.lock.Unlock()
	holds := received.deliveries == wanted
	for number := 0; number < r.count; number++ {
		holds = holds && (received.times[number] == 1) == isWanted(number)
	}
	r.that(holds, check, "wanted=%d distinct=%d deliveries=%d", wanted, len(received.times), received.deliveries)
}

// pullBySql reads one queue by explicit offsets. This client's Poll asks by tag whatever was subscribed to, so only
// PullFrom can be asked for SQL92.
func (r *Run) pullBySql() error {
	client, err := rocketmq.NewPullConsumer(
		consumer.WithGroupName("interop-go-filter-pull"),
		consumer.WithInstance(instance()),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
	)
	if err != nil {
		return err
	}
	if err := client.Subscribe(filterTopic, consumer.MessageSelector{Type: consumer.SQL92, Expression: wantedBySql}); err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	const end = filterMessages / queues
	found := newReceived()
	name, err := r.brokerName(filterTopic)
	if err != nil {
		return err
	}
	for queueId := 0; queueId < queues; queueId++ {
		queue := primitive.MessageQueue{Topic: filterTopic, BrokerName: name, QueueId: queueId}
		// A pull at the end would be held until something comes.
		for next := int64(0); next < end; {
			result, err := client.PullFrom(context.Background(), &queue, next, filterPulled)
			if err != nil {
				return err
			}
			if result.NextBeginOffset <= next {
				return fmt.Errorf("queue %d at %d: %v", queueId, next, result)
			}
			next = result.NextBeginOffset
			if result.Status != primitive.PullFound {
				continue
			}
			for _, m := range result.GetMessageExts() {
				if number := r.compare("filter.pull-sql", filterTopic, m); number >= 0 {
					found.add(number)
				}
			}
		}
	}
	r.exactly("filter.pull-sql", found, isWantedBySql)
	return client.Shutdown()
}
