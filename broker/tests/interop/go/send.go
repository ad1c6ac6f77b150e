package main

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func (r *Run) createTopic(topic string) error {
	client, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{r.namesrv})))
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(r.broker),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	if err != nil {
		return err
	}
	// A push consumer does not start without a route, and a name server may learn of it a moment later.
	for {
		found, err := client.FetchPublishMessageQueues(context.Background(), topic)
		if err == nil && len(found) == queues {
			return nil
		}
		if r.late() {
			return fmt.Errorf("no route: %d queues, %v", len(found), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// send sends every message synchronously; one that fails while the broker is away is sent again, so it may be
// stored twice but never not at all.
func (r *Run) send() error {
	client, err := rocketmq.NewProducer(
		producer.WithGroupName("interop-go-send"),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		producer.WithSendMsgTimeout(3*time.Second),
	)
	if err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	defer client.Shutdown()

	again := 0
	for number := 0; number < r.count; number++ {
		if number == r.count/2 {
			fmt.Println("halfway")
		}
		for {
			result, err := client.SendSync(context.Background(), message(topic, number))
			if err == nil && result.Status == primitive.SendOK {
				break
			}
			if r.late() {
				return fmt.Errorf("message %d is still refused: %v", number, err)
			}
			again++
			time.Sleep(50 * time.Millisecond)
		}
	}
	r.ok("go.send", "messages=%d again=%d", r.count, again)
	return nil
}
