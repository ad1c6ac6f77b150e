package main

import (
	"context"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	pollTopic    = "InteropGoPolls"
	pollGroup    = "interop-go-polls"
	pollMessages = 60
)

// polls consumes by Poll and ACK, half by half with a member each: the second goes on behind what the first has
// acknowledged. PullFrom then reads from the middle of a queue, whatever was committed.
func (r *Run) polls() error {
	r.count = pollMessages
	if err := r.createTopic(pollTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-polls")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	for half := 0; half < 2; half++ {
		from, to := half*pollMessages/2, (half+1)*pollMessages/2
		if err := sendNumbered(client, pollTopic, from, to); err != nil {
			return err
		}
		member, err := r.puller(pollGroup, pollTopic)
		if err != nil {
			return err
		}
		received := newReceived()
		polled := make(chan struct{})
		go func() {
			for {
				select {
				case <-polled:
					return
				default:
				}
				request, err := member.Poll(context.Background(), 200*time.Millisecond)
				if err != nil {
					continue
				}
				for _, m := range request.GetMsgList() {
					if number := r.compare("poll.goes-on-behind-ack", pollTopic, m); number >= 0 {
						received.add(number)
					}
				}
				member.ACK(context.Background(), request, consumer.ConsumeSuccess)
			}
		}()
		r.everyOnce("poll.goes-on-behind-ack", received, from, to)
		close(polled)
		if half == 1 {
			err = r.pullMiddle(member)
		}
		if err != nil {
			return err
		}
		if err := member.PersistOffset(context.Background(), pollTopic); err != nil {
			return err
		}
		if err := member.Shutdown(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) pullMiddle(member rocketmq.PullConsumer) error {
	name, err := r.brokerName(pollTopic)
	if err != nil {
		return err
	}
	const each, middle, few = pollMessages / queues, 4, 3
	for queueId := 0; queueId < queues; queueId++ {
		queue := primitive.MessageQueue{Topic: pollTopic, BrokerName: name, QueueId: queueId}
		result, err := member.PullFrom(context.Background(), &queue, middle, few)
		if err != nil {
			return err
		}
		r.same("poll.seeks", "status", primitive.PullFound, result.Status)
		r.same("poll.seeks", "next offset", int64(middle+few), result.NextBeginOffset)
		r.same("poll.seeks", "end of the queue", int64(each), result.MaxOffset)
		for at, m := range result.GetMessageExts() {
			r.same("poll.seeks", "offset", int64(middle+at), m.QueueOffset)
			// Each queue has every sixth number.
			r.same("poll.seeks", "number", (middle+at)*queues+queueId, r.compare("poll.seeks", pollTopic, m))
		}
		r.same("poll.seeks", "messages", few, len(result.GetMessageExts()))
	}
	if r.clean() {
		r.ok("poll.seeks", "queues=%d", queues)
	}
	return nil
}

func (r *Run) puller(group, topic string) (rocketmq.PullConsumer, error) {
	member, err := rocketmq.NewPullConsumer(
		consumer.WithGroupName(group),
		consumer.WithInstance(instance()),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	)
	if err != nil {
		return nil, err
	}
	if err := member.Subscribe(topic, consumer.MessageSelector{}); err != nil {
		return nil, err
	}
	return member, member.Start()
}
