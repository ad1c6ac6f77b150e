package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	pushTopic = "InteropGoPush"
	pushGroup = "interop-go-send-push"
	batch     = 16
	// This client's default.
	compressedFrom = 4096
)

// Answers keeps what the broker said about each message.
type Answers struct {
	lock     sync.Mutex
	byNumber map[int]*primitive.SendResult
}

// sendAndPush sends in every mode, half before a push consumer starts and half while it runs: it gets each message
// once and as it was sent, from where the answer said it is, and the next member of the group goes on behind it.
func (r *Run) sendAndPush() error {
	if err := r.createTopic(pushTopic); err != nil {
		return err
	}
	client, err := r.producer("interop-go-send-push")
	if err != nil {
		return err
	}
	defer client.Shutdown()
	answers := &Answers{byNumber: make(map[int]*primitive.SendResult)}
	total := r.count
	r.count += batch
	if err := r.sendBlocks(client, answers, 0, total/2); err != nil {
		return err
	}

	received := newReceived()
	var lock sync.Mutex
	messages := make(map[int]*primitive.MessageExt)
	take := func(_ context.Context, got ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range got {
			if number := r.compare("push.as-sent", pushTopic, m); number >= 0 {
				lock.Lock()
				messages[number] = m
				lock.Unlock()
				received.add(number)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(pushGroup, pushTopic, take)
	if err != nil {
		return err
	}
	if err := r.sendBlocks(client, answers, total/2, total); err != nil {
		return err
	}
	r.await(2*time.Minute, func() bool { distinct, _ := received.count(); return distinct == total })
	distinct, deliveries := received.count()
	r.that(distinct == total && deliveries == total, "push.each-once", "distinct=%d deliveries=%d", distinct, deliveries)
	lock.Lock()
	r.compareWithAnswers(messages, answers)
	lock.Unlock()
	if err := member.Shutdown(); err != nil {
		return err
	}
	return r.goOn(client, answers, total)
}

// goOn lets another member consume what is sent behind everything that was consumed.
func (r *Run) goOn(client rocketmq.Producer, answers *Answers, from int) error {
	rest := newReceived()
	take := func(_ context.Context, got ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range got {
			if number := r.compare("push.goes-on-behind-commit", pushTopic, m); number >= 0 {
				rest.add(number)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	next, err := r.member(pushGroup, pushTopic, take)
	if err != nil {
		return err
	}
	if err := r.sendBlocks(client, answers, from, from+batch); err != nil {
		return err
	}
	r.await(time.Minute, func() bool { distinct, _ := rest.count(); return distinct == batch })
	distinct, deliveries := rest.count()
	r.that(distinct == batch && deliveries == batch, "push.goes-on-behind-commit", "distinct=%d deliveries=%d", distinct, deliveries)
	return next.Shutdown()
}

// sendBlocks sends blocks of messages, each in another mode.
func (r *Run) sendBlocks(client rocketmq.Producer, answers *Answers, from, to int) error {
	for start := from; start < to; start += batch {
		var block []*primitive.Message
		for number := start; number < start+batch && number < to; number++ {
			block = append(block, message(pushTopic, number))
		}
		var err error
		switch start / batch % 4 {
		case 0:
			err = sendSync(client, answers, start, block)
		case 1:
			err = r.sendAsync(client, answers, start, block)
		case 2:
			err = sendOneWay(client, block)
		default:
			_, err = client.SendSync(context.Background(), block...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sendSync(client rocketmq.Producer, answers *Answers, start int, block []*primitive.Message) error {
	for at, m := range block {
		result, err := client.SendSync(context.Background(), m)
		if err != nil {
			return err
		}
		answers.keep(start+at, result)
	}
	return nil
}

func (r *Run) sendAsync(client rocketmq.Producer, answers *Answers, start int, block []*primitive.Message) error {
	var outstanding sync.WaitGroup
	for at, m := range block {
		number := start + at
		outstanding.Add(1)
		answered := func(_ context.Context, result *primitive.SendResult, err error) {
			defer outstanding.Done()
			if err != nil {
				r.fail("push.as-sent", "message %d is refused: %v", number, err)
				return
			}
			answers.keep(number, result)
		}
		if err := client.SendAsync(context.Background(), answered, m); err != nil {
			return err
		}
	}
	outstanding.Wait()
	return nil
}

func sendOneWay(client rocketmq.Producer, block []*primitive.Message) error {
	for _, m := range block {
		if err := client.SendOneWay(context.Background(), m); err != nil {
			return err
		}
	}
	return nil
}

func (a *Answers) keep(number int, result *primitive.SendResult) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.byNumber[number] = result
}

func (r *Run) compareWithAnswers(messages map[int]*primitive.MessageExt, answers *Answers) {
	answers.lock.Lock()
	defer answers.lock.Unlock()
	ends := make(map[int]int64)
	stored := make(map[int]int64)
	compressed := 0
	for number, m := range messages {
		who := fmt.Sprintf("message %d ", number)
		r.same("push.as-sent", who+"reconsume times", int32(0), m.ReconsumeTimes)
		stored[m.Queue.QueueId]++
		if m.QueueOffset+1 > ends[m.Queue.QueueId] {
			ends[m.Queue.QueueId] = m.QueueOffset + 1
		}
		answer, known := answers.byNumber[number]
		if !known {
			continue
		}
		// The client compresses what is long, but for batches, of which no answers are kept.
		isLong := len(m.Body) >= compressedFrom
		r.same("push.compressed", who+"is", isLong, m.SysFlag&int32(primitive.CompressedFlag) != 0)
		if isLong {
			compressed++
		}
		r.same("push.as-sent", who+"status", primitive.SendOK, answer.Status)
		r.same("push.as-sent", who+"id", answer.MsgID, m.MsgId)
		r.same("push.as-sent", who+"offset id", answer.OffsetMsgID, m.OffsetMsgId)
		r.same("push.as-sent", who+"queue", answer.MessageQueue.QueueId, m.Queue.QueueId)
		r.same("push.as-sent", who+"queue offset", answer.QueueOffset, m.QueueOffset)
	}
	// One queue's offsets are 0, 1, 2, ... with nothing between.
	for queue, end := range ends {
		r.same("push.as-sent", fmt.Sprintf("messages of queue %d", queue), end, stored[queue])
	}
	if r.clean() {
		r.that(compressed > 0, "push.compressed", "messages=%d", compressed)
		r.ok("push.as-sent", "messages=%d answers=%d", len(messages), len(answers.byNumber))
	}
}
