package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	replayTopic    = "InteropGoReplay"
	replayGroup    = "interop-go-replay"
	replayMessages = 60
)

// replay has the driver send the group back to a moment, by `reset TOPIC GROUP TIME`: its member sees again what was
// stored since, and nothing else. The client waits ten seconds before it goes where it was sent, and looks every
// twenty for its queues.
func (r *Run) replay() error {
	r.count = replayMessages
	if err := r.createTopic(replayTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-replay")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	if err := sendNumbered(client, replayTopic, 0, replayMessages/2); err != nil {
		return err
	}
	// Nothing is stored in the same millisecond as this moment.
	time.Sleep(5 * time.Millisecond)
	halfway := time.Now().UnixMilli()
	time.Sleep(5 * time.Millisecond)
	if err := sendNumbered(client, replayTopic, replayMessages/2, replayMessages); err != nil {
		return err
	}
	received := newReceived()
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare("replay.again", replayTopic, m); number >= 0 {
				received.add(number)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(replayGroup, replayTopic, take)
	if err != nil {
		return err
	}
	r.everyOnce("replay.before", received, 0, replayMessages)
	fmt.Printf("reset %s %s %d\n", replayTopic, replayGroup, halfway)
	r.await(90*time.Second, func() bool { _, all := received.count(); return all >= replayMessages*3/2 })
	time.Sleep(time.Second)
	received.lock.Lock()
	holds := received.deliveries == replayMessages*3/2
	for number := 0; number < replayMessages; number++ {
		holds = holds && received.times[number] == 1+number/(replayMessages/2)
	}
	r.that(holds, "replay.again", "deliveries=%d of %d", received.deliveries, replayMessages*3/2)
	received.lock.Unlock()
	return member.Shutdown()
}
