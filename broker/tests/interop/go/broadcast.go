package main

import (
	"context"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	broadcastTopic = "InteropGoBroadcast"
	broadcastGroup = "interop-go-broadcast"
	broadcastEach  = 60
)

// broadcast lets every member of a group get everything, half of it sent before they come; one that comes back under
// its name goes on where it was, from the offsets in its own file.
func (r *Run) broadcast() error {
	r.count = 3 * broadcastEach
	if err := r.createTopic(broadcastTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-broadcast")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	if err := sendNumbered(client, broadcastTopic, 0, broadcastEach); err != nil {
		return err
	}
	names := []string{instance(), instance()}
	var received []*Received
	var members []rocketmq.PushConsumer
	for _, name := range names {
		all := newReceived()
		member, err := r.listener("broadcast.everything-to-everyone", name, all)
		if err != nil {
			return err
		}
		received, members = append(received, all), append(members, member)
	}
	if err := sendNumbered(client, broadcastTopic, broadcastEach, 2*broadcastEach); err != nil {
		return err
	}
	for at, all := range received {
		r.everyOnce("broadcast.everything-to-everyone", all, 0, 2*broadcastEach)
		if err := members[at].Shutdown(); err != nil {
			return err
		}
	}
	if err := sendNumbered(client, broadcastTopic, 2*broadcastEach, 3*broadcastEach); err != nil {
		return err
	}
	rest := newReceived()
	again, err := r.listener("broadcast.goes-on", names[0], rest)
	if err != nil {
		return err
	}
	r.everyOnce("broadcast.goes-on", rest, 2*broadcastEach, 3*broadcastEach)
	return again.Shutdown()
}

func (r *Run) listener(check, name string, all *Received) (rocketmq.PushConsumer, error) {
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare(check, broadcastTopic, m); number >= 0 {
				all.add(number)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	return r.member(broadcastGroup, broadcastTopic, take, consumer.WithConsumerModel(consumer.BroadCasting),
		consumer.WithInstance(name))
}

// everyOnce waits until each of the numbers has come, and a moment longer: once, and no other.
func (r *Run) everyOnce(check string, received *Received, from, to int) {
	r.await(time.Minute, func() bool { distinct, _ := received.count(); return distinct >= to-from })
	time.Sleep(time.Second)
	received.lock.Lock()
	defer received.lock.Unlock()
	holds := received.deliveries == to-from
	for number := from; number < to; number++ {
		holds = holds && received.times[number] == 1
	}
	r.that(holds, check, "expected=%d distinct=%d deliveries=%d", to-from, len(received.times), received.deliveries)
}

func sendNumbered(client rocketmq.Producer, topic string, from, to int) error {
	for number := from; number < to; number++ {
		if _, err := client.SendSync(context.Background(), message(topic, number)); err != nil {
			return err
		}
	}
	return nil
}
