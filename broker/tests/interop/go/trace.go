package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	tracedTopic    = "InteropGoTraced"
	traceTopic     = "RMQ_SYS_TRACE_TOPIC"
	traceProducers = "interop-go-traced"
	traceConsumers = "interop-go-traced-consumer"
	traced         = 20
)

// Traces is what the trace topic holds, by message id and kind of line.
type Traces struct {
	lock   sync.Mutex
	fields map[string]map[string][][]string
	count  int
}

// trace has a producer and a consumer leave their traces: a line of each send, and two of each consumption, in the
// topic where consoles look for them.
func (r *Run) trace() error {
	r.count = traced
	if err := r.createTopic(tracedTopic); err != nil {
		return err
	}
	// The first message makes the topic, as with Java's client; this one only looks for a route.
	first, err := r.producer("interop-go-traces")
	if err != nil {
		return err
	}
	defer first.Shutdown()
	if _, err := first.SendSync(context.Background(), primitive.NewMessage(traceTopic, []byte("\x02"))); err != nil {
		return err
	}
	if err := r.route(traceTopic); err != nil {
		return err
	}
	traces := &Traces{fields: make(map[string]map[string][][]string)}
	reader, err := r.member("interop-go-traces-reader", traceTopic, traces.take)
	if err != nil {
		return err
	}
	sent, err := r.sendAndConsumeTraced()
	if err != nil {
		return err
	}
	r.await(90*time.Second, func() bool { return traces.total() >= 3*traced })
	r.examineTraces(traces, sent)
	return reader.Shutdown()
}

func (r *Run) sendAndConsumeTraced() ([traced]*primitive.SendResult, error) {
	var sent [traced]*primitive.SendResult
	config := primitive.TraceConfig{
		GroupName: traceProducers,
		Access:    primitive.Local,
		Resolver:  primitive.NewPassthroughResolver([]string{r.namesrv}),
	}
	received := newReceived()
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if number := r.compare("trace.consumed", tracedTopic, m); number >= 0 {
				received.add(number)
			}
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member(traceConsumers, tracedTopic, take, consumer.WithTrace(&config))
	if err != nil {
		return sent, err
	}
	client, err := rocketmq.NewProducer(
		producer.WithGroupName(traceProducers),
		producer.WithInstanceName(instance()),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		producer.WithQueueSelector(byNumber{}),
		producer.WithTrace(&config),
	)
	if err != nil {
		return sent, err
	}
	if err := client.Start(); err != nil {
		return sent, err
	}
	for number := range sent {
		if sent[number], err = client.SendSync(context.Background(), message(tracedTopic, number)); err != nil {
			return sent, err
		}
	}
	r.await(90*time.Second, func() bool { distinct, _ := received.count(); return distinct == traced })
	// Traces leave a few milliseconds after what they are about.
	time.Sleep(500 * time.Millisecond)
	if err := client.Shutdown(); err != nil {
		return sent, err
	}
	return sent, member.Shutdown()
}

func (t *Traces) take(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	// Where a message's id stands in a line.
	places := map[string]int{"Pub": 5, "SubBefore": 5, "SubAfter": 2}
	for _, m := range messages {
		for _, line := range strings.Split(string(m.Body), "\x02") {
			fields := strings.Split(line, "\x01")
			place, known := places[fields[0]]
			if !known || place >= len(fields) {
				continue
			}
			id := fields[place]
			if t.fields[id] == nil {
				t.fields[id] = make(map[string][][]string)
			}
			t.fields[id][fields[0]] = append(t.fields[id][fields[0]], fields)
			t.count++
		}
	}
	return consumer.ConsumeSuccess, nil
}

func (t *Traces) total() int {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.count
}

func (r *Run) examineTraces(traces *Traces, sent [traced]*primitive.SendResult) {
	traces.lock.Lock()
	defer traces.lock.Unlock()
	for number, result := range sent {
		lines := traces.fields[result.MsgID]
		who := fmt.Sprintf("of message %d", number)
		for _, kind := range []string{"Pub", "SubBefore", "SubAfter"} {
			r.same("trace.complete", kind+" lines "+who, 1, len(lines[kind]))
		}
		if !r.clean() {
			return
		}
		// Kind, time, region, group, topic, id, tags, keys, store host, body bytes, cost, type, offset id, success.
		published := lines["Pub"][0]
		r.same("trace.sent", "region "+who, "DefaultRegion", published[2])
		r.same("trace.sent", "group "+who, traceProducers, published[3])
		r.same("trace.sent", "topic "+who, tracedTopic, published[4])
		r.same("trace.sent", "tag "+who, tag(number), published[6])
		r.same("trace.sent", "keys "+who, strings.Join(keys(number), " "), published[7])
		r.same("trace.sent", "bytes "+who, strconv.Itoa(len(body(number))), published[9])
		r.same("trace.sent", "offset id "+who, result.OffsetMsgID, published[12])
		r.same("trace.sent", "success "+who, "true", published[13])
		// Kind, time, region, group, request, id, retries, keys.
		before := lines["SubBefore"][0]
		r.same("trace.consumed", "group "+who, traceConsumers, before[3])
		r.same("trace.consumed", "retries "+who, "0", before[6])
		r.same("trace.consumed", "keys "+who, strings.Join(keys(number), " "), before[7])
		// Kind, request, id, cost, success.
		after := lines["SubAfter"][0]
		r.same("trace.consumed", "request "+who, before[4], after[1])
		r.same("trace.consumed", "success "+who, "true", after[4])
	}
	if r.clean() {
		r.ok("trace.complete", "lines=%d", traces.count)
		r.ok("trace.sent", "messages=%d", traced)
		r.ok("trace.consumed", "messages=%d", traced)
	}
}
