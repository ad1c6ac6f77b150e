package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	timerTopic    = "InteropGoTimers"
	timerGroup    = "interop-go-timers"
	timerMessages = 36
	timerLate     = 60 * time.Second
	tooLong       = 400 * 24 * time.Hour
	illegal       = "CODE: 13,"
)

// timed asks in one of the three ways for a delay, which this client has no methods for, and says when it is due.
func timed(number int, m *primitive.Message) time.Time {
	delay := 1500*time.Millisecond + time.Duration(number*137)*time.Millisecond
	now := time.Now()
	switch number % 3 {
	case 0:
		m.WithProperty("TIMER_DELAY_MS", strconv.FormatInt(delay.Milliseconds(), 10))
	case 1:
		m.WithProperty("TIMER_DELIVER_MS", strconv.FormatInt(now.Add(delay).UnixMilli(), 10))
	default:
		delay = delay.Truncate(time.Second)
		m.WithProperty("TIMER_DELAY_SEC", strconv.FormatInt(int64(delay/time.Second), 10))
	}
	return now.Add(delay)
}

// timers sends messages that ask for a delay of their own by property: they come once, to their queue, not before
// they are due and not much later. One that asks for too much is refused.
func (r *Run) timers() error {
	r.count = timerMessages + 1
	if err := r.createTopic(timerTopic); err != nil {
		return err
	}
	came := &Deliveries{byNumber: make(map[int][]delivery)}
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare("timer.as-sent", timerTopic, m); number >= 0 {
				came.add(number, m)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(timerGroup, timerTopic, take)
	if err != nil {
		return err
	}
	client, err := r.producer("interop-go-timers")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	var due, answered [timerMessages]time.Time
	for number := 0; number < timerMessages; number++ {
		m := message(timerTopic, number)
		due[number] = timed(number, m)
		if _, err := client.SendSync(context.Background(), m); err != nil {
			return err
		}
		answered[number] = time.Now()
	}
	never := message(timerTopic, timerMessages)
	never.WithProperty("TIMER_DELAY_SEC", strconv.FormatInt(int64(tooLong/time.Second), 10))
	_, refused := client.SendSync(context.Background(), never)
	r.that(refused != nil && strings.Contains(refused.Error(), illegal), "timer.too-long", "%v", refused)
	r.await(time.Minute, func() bool { return came.total() >= timerMessages })
	// A second copy would come with the first.
	time.Sleep(time.Second)
	err = member.Shutdown()
	r.examineTimers(came, due, answered)
	return err
}

func (r *Run) examineTimers(came *Deliveries, due, answered [timerMessages]time.Time) {
	came.lock.Lock()
	defer came.lock.Unlock()
	earliest, latest := timerLate, -timerLate
	for number := 0; number < timerMessages; number++ {
		found := came.byNumber[number]
		if len(found) != 1 {
			r.fail("timer.each-once", "message %d came %d times", number, len(found))
			continue
		}
		r.same("timer.as-sent", "queue of "+strconv.Itoa(number), number%queues, found[0].message.Queue.QueueId)
		if early := found[0].at.Sub(due[number]); early < earliest {
			earliest = early
		}
		slack := answered[number].Sub(due[number])
		if slack < 0 {
			slack = 0
		}
		if late := found[0].at.Sub(due[number]) - slack; late > latest {
			latest = late
		}
	}
	// The broker counts whole milliseconds.
	r.that(earliest >= -r.precision-time.Millisecond, "timer.never-early", "after-due-min=%v", earliest)
	r.that(latest <= timerLate, "timer.in-time", "after-due-max=%v", latest)
	r.same("timer.each-once", "a message that was refused", 0, len(came.byNumber[timerMessages]))
	if r.clean() {
		r.ok("timer.each-once", "messages=%d", timerMessages)
		r.ok("timer.as-sent", "messages=%d", timerMessages)
	}
}
