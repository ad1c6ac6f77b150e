package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	delayTopic    = "InteropGoDelay"
	delayGroup    = "interop-go-delay"
	delayMessages = 24
	delayLate     = 60 * time.Second
)

var levels = []time.Duration{0, time.Second, 5 * time.Second, 10 * time.Second}

func level(number int) int {
	return number / queues % len(levels)
}

// delay sends messages with a delay level: they come once, to their queue, never early and not much too late.
func (r *Run) delay() error {
	r.count = delayMessages
	if err := r.createTopic(delayTopic); err != nil {
		return err
	}
	came := &Deliveries{byNumber: make(map[int][]delivery)}
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare("delay.as-sent", delayTopic, m); number >= 0 {
				came.add(number, m)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(delayGroup, delayTopic, take)
	if err != nil {
		return err
	}
	client, err := r.producer("interop-go-delay")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	var sent, answered [delayMessages]time.Time
	for number := 0; number < delayMessages; number++ {
		m := message(delayTopic, number)
		if level(number) > 0 {
			m.WithDelayTimeLevel(level(number))
		}
		sent[number] = time.Now()
		if _, err := client.SendSync(context.Background(), m); err != nil {
			return err
		}
		answered[number] = time.Now()
	}
	r.await(time.Minute, func() bool { return came.total() >= delayMessages })
	// A second copy would come with the first.
	time.Sleep(time.Second)
	err = member.Shutdown()
	came.lock.Lock()
	defer came.lock.Unlock()
	for number := 0; number < delayMessages; number++ {
		found := came.byNumber[number]
		if len(found) != 1 {
			r.fail("delay.each-once", "message %d came %d times", number, len(found))
			continue
		}
		who := fmt.Sprintf("message %d ", number)
		r.same("delay.as-sent", who+"queue", number%queues, found[0].message.Queue.QueueId)
		r.same("delay.as-sent", who+"reconsume times", 0, found[0].reconsumeTimes)
		delay := levels[level(number)]
		// The broker counts whole milliseconds.
		if waited := found[0].at.Sub(sent[number]); waited < delay-time.Millisecond {
			r.fail("delay.in-time", "%scame after %v instead of %v", who, waited, delay)
		}
		if waited := found[0].at.Sub(answered[number]); waited > delay+delayLate {
			r.fail("delay.in-time", "%scame after %v instead of %v", who, waited, delay)
		}
	}
	if r.clean() {
		r.ok("delay.each-once", "messages=%d", delayMessages)
		r.ok("delay.as-sent", "messages=%d", delayMessages)
		r.ok("delay.in-time", "levels=%d", len(levels)-1)
	}
	return err
}
