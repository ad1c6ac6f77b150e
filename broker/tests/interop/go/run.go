package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	topic         = "InteropGo"
	queues        = 6
	failuresShown = 20
)

var tags = []string{"标签", "étiquette", "Ярлык", "plain"}

// Run is one scenario: where to go, how much, until when, and what failed.
type Run struct {
	namesrv   string
	broker    string
	count     int
	retries   int
	precision time.Duration
	deadline  time.Time

	lock     sync.Mutex
	failures int
}

func (r *Run) ok(name, format string, values ...any) {
	fmt.Printf("ok %s %s\n", name, fmt.Sprintf(format, values...))
}

func (r *Run) fail(name, format string, values ...any) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.failures++
	if r.failures <= failuresShown {
		fmt.Printf("FAILED %s %s\n", name, fmt.Sprintf(format, values...))
	}
}

func (r *Run) that(holds bool, name, format string, values ...any) {
	if holds {
		r.ok(name, format, values...)
	} else {
		r.fail(name, format, values...)
	}
}

func (r *Run) same(name, what string, expected, found any) {
	if expected != found {
		r.fail(name, "%s: expected %#v, found %#v", what, expected, found)
	}
}

// clean says whether everything has held so far: a scenario compares much and reports once.
func (r *Run) clean() bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.failures == 0
}

// await looks until the condition holds; false when the limit or the run's deadline passed first.
func (r *Run) await(limit time.Duration, condition func() bool) bool {
	until := time.Now().Add(limit)
	for !condition() {
		if r.late() || time.Now().After(until) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

func (r *Run) late() bool {
	return time.Now().After(r.deadline)
}

// A message is a function of its number, so that a receiver can make it again and compare.

func tag(number int) string {
	return tags[number%len(tags)]
}

func keys(number int) []string {
	return []string{fmt.Sprintf("ключ-%d", number), fmt.Sprintf("键%d", number)}
}

func body(number int) []byte {
	text := fmt.Sprintf("message %d: grüße, 你好, \x00\xff ", number)
	// Now and then long enough for the client to compress it.
	return []byte(strings.Repeat(text, 1+number%7*number%300))
}

func message(topic string, number int) *primitive.Message {
	m := primitive.NewMessage(topic, body(number))
	m.WithTag(tag(number)).WithKeys(keys(number))
	m.WithProperty("number", strconv.Itoa(number))
	m.WithProperty("größe", "мера "+strconv.Itoa(number))
	return m
}

// compare checks every part an application set and returns the message's number, or -1.
func (r *Run) compare(name, topic string, m *primitive.MessageExt) int {
	number, err := strconv.Atoi(m.GetProperty("number"))
	if err != nil || number < 0 || number >= r.count {
		r.fail(name, "a message nobody sent: %v", m)
		return -1
	}
	who := fmt.Sprintf("message %d ", number)
	r.same(name, who+"topic", topic, m.Topic)
	r.same(name, who+"tag", tag(number), m.GetTags())
	r.same(name, who+"keys", strings.Join(keys(number), " "), strings.TrimSpace(m.GetKeys()))
	r.same(name, who+"property", "мера "+strconv.Itoa(number), m.GetProperty("größe"))
	r.same(name, who+"body", string(body(number)), string(m.Body))
	return number
}

// Received counts what came, by number.
type Received struct {
	lock       sync.Mutex
	times      map[int]int
	deliveries int
}

func newReceived() *Received {
	return &Received{times: make(map[int]int)}
}

// add returns how many distinct messages there are now, and whether this one was new.
func (s *Received) add(number int) (int, bool) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.times[number]++
	s.deliveries++
	return len(s.times), s.times[number] == 1
}

func (s *Received) count() (distinct, deliveries int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.times), s.deliveries
}
