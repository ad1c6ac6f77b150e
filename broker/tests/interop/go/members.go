package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// listener is what an application consumes with.
type listener = func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

var instances atomic.Int32

// instance gives every client a connection and an identity of its own.
func instance() string {
	return fmt.Sprintf("%d-%d", os.Getpid(), instances.Add(1))
}

// byNumber chooses the queue by the message's number.
type byNumber struct{}

func (byNumber) Select(m *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	// A batch has no number of its own: it goes to the first queue.
	number, _ := strconv.Atoi(m.GetProperty("number"))
	return queues[number%len(queues)]
}

func (r *Run) producer(group string) (rocketmq.Producer, error) {
	client, err := rocketmq.NewProducer(
		producer.WithGroupName(group),
		producer.WithInstanceName(instance()),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		producer.WithQueueSelector(byNumber{}),
		producer.WithSendMsgTimeout(10*time.Second),
	)
	if err != nil {
		return nil, err
	}
	return client, client.Start()
}

// member starts a push consumer of everything in a topic that reads from the start; options go before what is said here.
func (r *Run) member(group, topic string, take listener, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	return r.subscriber(group, topic, consumer.MessageSelector{}, take, options...)
}

// subscriber is a member that wants what the selector selects.
func (r *Run) subscriber(group, topic string, selector consumer.MessageSelector, take listener,
	options ...consumer.Option) (rocketmq.PushConsumer, error) {
	options = append([]consumer.Option{
		consumer.WithGroupName(group),
		consumer.WithInstance(instance()),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, options...)
	client, err := rocketmq.NewPushConsumer(options...)
	if err != nil {
		return nil, err
	}
	if err := client.Subscribe(topic, selector, take); err != nil {
		return nil, err
	}
	return client, client.Start()
}

// introduce makes a group known before it is used: its retry topic exists and has a route, which a client that starts
// would otherwise learn half a minute later.
func (r *Run) introduce(group, topic string) error {
	refuse := func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		return consumer.ConsumeRetryLater, nil
	}
	first, err := r.member(group, topic, refuse)
	if err != nil {
		return err
	}
	if err := r.route("%RETRY%" + group); err != nil {
		return err
	}
	return first.Shutdown()
}

// route waits until the name server knows the topic.
func (r *Run) route(topic string) error {
	client, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{r.namesrv})))
	if err != nil {
		return err
	}
	defer client.Close()
	known := func() bool {
		time.Sleep(200 * time.Millisecond)
		found, err := client.FetchPublishMessageQueues(context.Background(), topic)
		return err == nil && len(found) > 0
	}
	if !r.await(60*time.Second, known) {
		return fmt.Errorf("no route of %s", topic)
	}
	return nil
}

// brokerName is that of the one broker with the topic.
func (r *Run) brokerName(topic string) (string, error) {
	client, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{r.namesrv})))
	if err != nil {
		return "", err
	}
	defer client.Close()
	found, err := client.FetchPublishMessageQueues(context.Background(), topic)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s has no queues", topic)
	}
	return found[0].BrokerName, nil
}

// deadLetters returns what stands in the group's dead letter queue once so many came, and a moment later.
func (r *Run) deadLetters(group string, count int) ([]*primitive.MessageExt, error) {
	topic := "%DLQ%" + group
	if err := r.route(topic); err != nil {
		return nil, err
	}
	received := newReceived()
	found := make(chan *primitive.MessageExt, 1000)
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			found <- m
			received.add(int(m.QueueOffset))
		}
		return consumer.ConsumeSuccess, nil
	}
	reader, err := r.member(group+"-dead", topic, take)
	if err != nil {
		return nil, err
	}
	r.await(time.Minute, func() bool {
		_, deliveries := received.count()
		return deliveries >= count
	})
	// One too many would come with the others.
	time.Sleep(time.Second)
	err = reader.Shutdown()
	var all []*primitive.MessageExt
	for len(found) > 0 {
		all = append(all, <-found)
	}
	return all, err
}
