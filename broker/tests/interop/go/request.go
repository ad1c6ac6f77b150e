package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	requestTopic   = "InteropGoRequests"
	requestGroup   = "interop-go-requests"
	requests       = 20
	repliesWithin  = 15 * time.Second
	noReplyWithin  = 2 * time.Second
	neverRepliedTo = requests
)

// request sends messages that wait for their replies, all at once: each gets its own, pushed by the broker, and one
// that nobody replies to fails when its time is over.
func (r *Run) request() error {
	r.count = requests + 1
	if err := r.createTopic(requestTopic); err != nil {
		return err
	}
	replier, err := r.producer("interop-go-replier")
	if err != nil {
		return err
	}
	defer replier.Shutdown()
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			number := r.compare("request.reply", requestTopic, m)
			if number < 0 || number == neverRepliedTo {
				continue
			}
			// This version reads the body it is given as properties, so the reply would have none.
			reply, err := consumer.CreateReplyMessage(m, nil)
			if err == nil {
				reply.Body = replyTo(number)
				_, err = replier.SendSync(context.Background(), reply)
			}
			if err != nil {
				r.fail("request.reply", "replying to %d: %v", number, err)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(requestGroup, requestTopic, take)
	if err != nil {
		return err
	}
	requester, err := r.producer("interop-go-requester")
	if err != nil {
		return err
	}
	defer requester.Shutdown()
	// Replies are pushed to those whose heartbeat was heard. This client sends its first a second after its start, to
	// the brokers that it knows by then: those it has sent to.
	if _, err := requester.SendSync(context.Background(), message(requestTopic, neverRepliedTo)); err != nil {
		return err
	}
	time.Sleep(1500 * time.Millisecond)

	var waiting sync.WaitGroup
	for number := 0; number < requests; number++ {
		number := number
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			reply, err := requester.Request(context.Background(), repliesWithin, message(requestTopic, number))
			if err != nil {
				r.fail("request.reply", "request %d: %v", number, err)
				return
			}
			r.same("request.reply", fmt.Sprintf("reply to %d", number), string(replyTo(number)), string(reply.Body))
		}()
	}
	waiting.Wait()
	if r.clean() {
		r.ok("request.reply", "replies=%d", requests)
	}
	begun := time.Now()
	_, err = requester.Request(context.Background(), noReplyWithin, message(requestTopic, neverRepliedTo))
	waited := time.Since(begun)
	r.that(err != nil && waited >= noReplyWithin && waited < repliesWithin, "request.times-out", "after=%v %v", waited, err)
	return member.Shutdown()
}

func replyTo(number int) []byte {
	return []byte(fmt.Sprintf("réponse %d, 回答\x00", number))
}
