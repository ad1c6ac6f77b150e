package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	retryTopic    = "InteropGoRetry"
	retryGroup    = "interop-go-retry"
	retryMessages = 16
	levelOne      = time.Second
	// A busy machine, not a broker that forgets.
	retryLate = 60 * time.Second
)

// Of the levels 3, 4, 5, ...: the first retry waits for level 3.
var retryDelays = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute}

const (
	succeeds = iota
	failsOnce
	failsAlways
	failsOnceAtLevelOne
	fates
)

type delivery struct {
	message        *primitive.MessageExt
	reconsumeTimes int
	at             time.Time
}

// Deliveries keeps all copies of each message that came.
type Deliveries struct {
	lock     sync.Mutex
	byNumber map[int][]delivery
	count    int
}

func (d *Deliveries) add(number int, m *primitive.MessageExt) {
	d.lock.Lock()
	defer d.lock.Unlock()
	// The client counts in what it has handed out when it cannot send it back.
	d.byNumber[number] = append(d.byNumber[number], delivery{m, int(m.ReconsumeTimes), time.Now()})
	d.count++
}

func (d *Deliveries) total() int {
	d.lock.Lock()
	defer d.lock.Unlock()
	return d.count
}

// retry lets a listener fail: it gets the message again after the level's delay, never before it, as often as the
// group allows; then the message is a dead letter. All that an application set comes back with it.
func (r *Run) retry() error {
	r.count = retryMessages
	if err := r.createTopic(retryTopic); err != nil {
		return err
	}
	if err := r.introduce(retryGroup, retryTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-retry")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	came := &Deliveries{byNumber: make(map[int][]delivery)}
	take := func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		m := messages[0]
		number := r.compare("retry.properties", retryTopic, m)
		fate := number % fates
		if fate == failsOnceAtLevelOne {
			if choice, ok := primitive.GetConcurrentlyCtx(ctx); ok {
				choice.DelayLevelWhenNextConsume = 1
			}
		}
		came.add(number, m)
		if fate == failsAlways || fate != succeeds && m.ReconsumeTimes == 0 {
			return consumer.ConsumeRetryLater, nil
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(retryGroup, retryTopic, take, consumer.WithMaxReconsumeTimes(int32(r.retries)))
	if err != nil {
		return err
	}
	expected := 0
	for number := 0; number < retryMessages; number++ {
		if _, err := client.SendSync(context.Background(), message(retryTopic, number)); err != nil {
			return err
		}
		expected += r.deliveriesOf(number)
	}
	patience := time.Minute
	for _, delay := range retryDelays[:r.retries] {
		patience += delay + retryLate
	}
	r.await(patience, func() bool { return came.total() >= expected })
	came.lock.Lock()
	for number := 0; number < retryMessages; number++ {
		r.examineRetries(number, came.byNumber[number])
	}
	came.lock.Unlock()
	if r.clean() {
		r.ok("retry.deliveries", "messages=%d deliveries=%d", retryMessages, expected)
		r.ok("retry.delays", "retries=%d", r.retries)
		r.ok("retry.properties", "messages=%d", retryMessages)
	}
	if err := r.examineDeadLetters(came); err != nil {
		return err
	}
	r.same("retry.dead-letters", "deliveries to the group afterwards", expected, came.total())
	return member.Shutdown()
}

func (r *Run) deliveriesOf(number int) int {
	switch number % fates {
	case succeeds:
		return 1
	case failsAlways:
		return 1 + r.retries
	default:
		return 2
	}
}

func (r *Run) examineRetries(number int, found []delivery) {
	if len(found) != r.deliveriesOf(number) {
		r.fail("retry.deliveries", "message %d came %d times instead of %d", number, len(found), r.deliveriesOf(number))
		return
	}
	first := found[0].message
	for times, delivery := range found {
		which := fmt.Sprintf("message %d delivery %d ", number, times)
		r.same("retry.deliveries", which+"reconsume times", times, delivery.reconsumeTimes)
		r.same("retry.properties", which+"id", first.MsgId, delivery.message.MsgId)
		if times == 0 {
			continue
		}
		r.same("retry.properties", which+"RETRY_TOPIC", retryTopic, delivery.message.GetProperty(primitive.PropertyRetryTopic))
		r.same("retry.properties", which+"ORIGIN_MESSAGE_ID", first.OffsetMsgId, delivery.message.GetProperty("ORIGIN_MESSAGE_ID"))
		delay := retryDelays[times-1]
		if number%fates == failsOnceAtLevelOne {
			delay = levelOne
		}
		// The broker counts whole milliseconds.
		waited := delivery.at.Sub(found[times-1].at)
		if waited < delay-time.Millisecond || waited > delay+retryLate {
			r.fail("retry.delays", "%scame after %v instead of %v", which, waited, delay)
		}
	}
}

func (r *Run) examineDeadLetters(came *Deliveries) error {
	var expected []int
	for number := failsAlways; number < retryMessages; number += fates {
		expected = append(expected, number)
	}
	letters, err := r.deadLetters(retryGroup, len(expected))
	if err != nil {
		return err
	}
	var found []int
	for _, m := range letters {
		number := r.compare("retry.dead-letters", "%DLQ%"+retryGroup, m)
		found = append(found, number)
		who := fmt.Sprintf("dead letter %d ", number)
		r.same("retry.dead-letters", who+"RETRY_TOPIC", retryTopic, m.GetProperty(primitive.PropertyRetryTopic))
		r.same("retry.dead-letters", who+"reconsume times", int32(1+r.retries), m.ReconsumeTimes)
		came.lock.Lock()
		first := came.byNumber[number][0].message.OffsetMsgId
		came.lock.Unlock()
		r.same("retry.dead-letters", who+"ORIGIN_MESSAGE_ID", first, m.GetProperty("ORIGIN_MESSAGE_ID"))
	}
	sort.Ints(found)
	r.that(fmt.Sprint(found) == fmt.Sprint(expected), "retry.dead-letters", "expected=%v found=%v", expected, found)
	return nil
}
