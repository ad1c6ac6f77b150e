package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	policyTopic    = "InteropGoPolicy"
	policyGroup    = "interop-go-policy"
	policyMessages = 12
	policyRetries  = 3
	policyLate     = 20 * time.Second
)

// What the driver has set as the group's policy.
var policyDelays = [policyRetries]time.Duration{300 * time.Millisecond, 700 * time.Millisecond, 1500 * time.Millisecond}

// policy fails every message always: it comes again after what its group's policy says, this client's own list of
// levels notwithstanding, and then is a dead letter.
func (r *Run) policy() error {
	r.count = policyMessages
	if err := r.createTopic(policyTopic); err != nil {
		return err
	}
	if err := r.introduce(policyGroup, policyTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-policy")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	if err := sendNumbered(client, policyTopic, 0, policyMessages); err != nil {
		return err
	}
	came := &Deliveries{byNumber: make(map[int][]delivery)}
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare("policy.delays", policyTopic, m); number >= 0 {
				came.add(number, m)
			}
		}
		return consumer.ConsumeRetryLater, nil
	}
	member, err := r.member(policyGroup, policyTopic, take, consumer.WithMaxReconsumeTimes(policyRetries))
	if err != nil {
		return err
	}
	const expected = policyMessages * (1 + policyRetries)
	r.await(time.Minute, func() bool { return came.total() >= expected })
	letters, err := r.deadLetters(policyGroup, policyMessages)
	if err != nil {
		return err
	}
	for _, m := range letters {
		r.compare("policy.dead-letters", "%DLQ%"+policyGroup, m)
	}
	r.that(len(letters) == policyMessages, "policy.dead-letters", "messages=%d", len(letters))
	came.lock.Lock()
	for number := 0; number < policyMessages; number++ {
		found := came.byNumber[number]
		r.same("policy.delays", fmt.Sprintf("deliveries of %d", number), 1+policyRetries, len(found))
		for times := 1; times < len(found); times++ {
			// The broker counts whole milliseconds.
			waited, delay := found[times].at.Sub(found[times-1].at), policyDelays[times-1]
			if waited < delay-time.Millisecond || waited > delay+policyLate {
				r.fail("policy.delays", "message %d came again after %v instead of %v", number, waited, delay)
			}
		}
	}
	came.lock.Unlock()
	if r.clean() {
		r.ok("policy.delays", "messages=%d retries=%d", policyMessages, policyRetries)
	}
	return member.Shutdown()
}
