package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	transactionTopic = "InteropGoTransactions"
	transactionGroup = "interop-go-transactions"
	// A quarter for each of the four ends.
	transactions = 48
	// Sent by a process that is killed before it could say anything.
	orphans = 8
	// Nobody is asked sooner, by either broker's default.
	askedAfter = 6 * time.Second
	// Apache's broker looks every half minute.
	askedWithin = 100 * time.Second
	orphansSent = "orphans"
)

// What becomes of a transaction; its number says so.
const (
	commits = iota
	rollsBack
	asksAndCommits
	asksAndRollsBack
	ends
)

func isOrphan(number int) bool {
	return number >= transactions
}

func isCommitted(number int) bool {
	return isOrphan(number) || number%ends == commits || number%ends == asksAndCommits
}

func isAsked(number int) bool {
	return isOrphan(number) || number%ends >= asksAndCommits
}

// Participant ends its transactions as their numbers say, and keeps how often it was asked.
type Participant struct {
	run   *Run
	asked *Received
}

// ExecuteLocalTransaction is called once the half message is stored.
func (p *Participant) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	var number int
	fmt.Sscan(m.GetProperty("number"), &number)
	switch {
	case isAsked(number):
		return primitive.UnknowState
	case isCommitted(number):
		return primitive.CommitMessageState
	default:
		return primitive.RollbackMessageState
	}
}

// CheckLocalTransaction is called when the broker asks.
func (p *Participant) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	number := p.run.compare("transaction.asked-once", transactionTopic, m)
	if number < 0 {
		return primitive.UnknowState
	}
	p.asked.add(number)
	if waited := time.Now().UnixMilli() - m.BornTimestamp; waited < askedAfter.Milliseconds() {
		p.run.fail("transaction.asked-once", "about message %d after %d ms", number, waited)
	}
	if isCommitted(number) {
		return primitive.CommitMessageState
	}
	return primitive.RollbackMessageState
}

func (r *Run) participant() (*Participant, rocketmq.TransactionProducer, error) {
	participant := &Participant{r, newReceived()}
	client, err := rocketmq.NewTransactionProducer(participant,
		producer.WithGroupName(transactionGroup),
		producer.WithInstanceName(instance()),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.namesrv})),
		producer.WithQueueSelector(byNumber{}),
	)
	if err != nil {
		return nil, nil, err
	}
	return participant, client, client.Start()
}

// transaction ends some at once and some when asked, and has a process killed that had left its own open: another
// producer of the group is asked about those. What is committed comes once and whole, what is not never does.
func (r *Run) transaction() error {
	r.count = transactions + orphans
	if err := r.createTopic(transactionTopic); err != nil {
		return err
	}
	var lock sync.Mutex
	sent := make(map[int]*primitive.TransactionSendResult)
	received := newReceived()
	take := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			number := r.compare("transaction.commit", transactionTopic, m)
			if number < 0 {
				continue
			}
			received.add(number)
			lock.Lock()
			if known := sent[number]; known != nil {
				who := fmt.Sprintf("of message %d", number)
				r.same("transaction.commit", "id "+who, known.MsgID, m.TransactionId)
				r.same("transaction.commit", "queue "+who, known.MessageQueue.QueueId, m.Queue.QueueId)
			}
			lock.Unlock()
		}
		return consumer.ConsumeSuccess, nil
	}
	member, err := r.member("interop-go-transactions-consumer", transactionTopic, take)
	if err != nil {
		return err
	}
	if err := r.leaveOrphans(); err != nil {
		return err
	}
	participant, client, err := r.participant()
	if err != nil {
		return err
	}
	for number := 0; number < transactions; number++ {
		lock.Lock()
		result, err := client.SendMessageInTransaction(context.Background(), message(transactionTopic, number))
		if err == nil {
			sent[number] = result
		}
		lock.Unlock()
		if err != nil {
			return err
		}
		r.same("transaction.commit", "status", primitive.SendOK, result.Status)
	}
	r.examineTransactions(participant, received)
	if err := client.Shutdown(); err != nil {
		return err
	}
	return member.Shutdown()
}

func (r *Run) examineTransactions(participant *Participant, received *Received) {
	asked, committed := 0, 0
	for number := 0; number < r.count; number++ {
		if isAsked(number) {
			asked++
		}
		if isCommitted(number) {
			committed++
		}
	}
	r.await(askedWithin, func() bool {
		found, _ := participant.asked.count()
		distinct, _ := received.count()
		return found >= asked && distinct >= committed
	})
	// What should not come would come with the others.
	time.Sleep(2 * time.Second)
	participant.asked.lock.Lock()
	defer participant.asked.lock.Unlock()
	received.lock.Lock()
	defer received.lock.Unlock()
	onlyThose, onlyCommitted, everyOrphan := participant.asked.deliveries == asked, true, true
	for number := 0; number < r.count; number++ {
		onlyThose = onlyThose && (participant.asked.times[number] == 1) == isAsked(number)
		if isCommitted(number) {
			r.same("transaction.commit", fmt.Sprintf("deliveries of %d", number), 1, received.times[number])
		} else {
			onlyCommitted = onlyCommitted && received.times[number] == 0
		}
		everyOrphan = everyOrphan && (!isOrphan(number) || received.times[number] == 1)
	}
	if r.clean() {
		r.ok("transaction.commit", "committed=%d", committed)
	}
	r.that(onlyCommitted, "transaction.rollback", "delivered=%d committed=%d", len(received.times), committed)
	r.that(onlyThose, "transaction.asked-once", "asked=%d of %d", participant.asked.deliveries, asked)
	r.that(everyOrphan, "transaction.other-producer", "orphans=%d", orphans)
}

// leaveOrphans has this program send half messages in a process of its own, because only a process can be killed.
func (r *Run) leaveOrphans() error {
	child := exec.Command(os.Args[0], "-namesrv", r.namesrv, "-broker", r.broker, "transaction-child")
	output, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(output)
	isDone := false
	for !isDone && lines.Scan() {
		isDone = strings.HasPrefix(lines.Text(), orphansSent)
	}
	if err := child.Process.Kill(); err != nil {
		return err
	}
	// How a killed process ended is known.
	_ = child.Wait()
	if !isDone {
		return fmt.Errorf("the other process ended by itself")
	}
	return nil
}

// orphan sends half messages and waits to be killed.
func (r *Run) orphan() error {
	r.count = transactions + orphans
	_, client, err := r.participant()
	if err != nil {
		return err
	}
	for number := transactions; number < transactions+orphans; number++ {
		if _, err := client.SendMessageInTransaction(context.Background(), message(transactionTopic, number)); err != nil {
			return err
		}
	}
	fmt.Println(orphansSent)
	time.Sleep(time.Until(r.deadline))
	return fmt.Errorf("nobody has killed this process")
}
