// The official Go client against a broker. A scenario per subcommand, a line per check
// (`ok NAME DETAIL` or `FAILED NAME DETAIL`), and exit status 0 only when every check held.
//
// The driver restarts the broker when a scenario prints `halfway`: the scenarios go on meanwhile, as an
// application would, and report what they ended with. On `reset TOPIC GROUP TIME` it sends a group there, as an
// operator would.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

func main() {
	namesrv := flag.String("namesrv", "", "HOST:PORT of the name server")
	broker := flag.String("broker", "", "HOST:PORT of the broker, for administration")
	count := flag.Int("messages", 10_000, "how many messages")
	retries := flag.Int("retries", 1, "how often a message that always fails comes again")
	precision := flag.Duration("precision", 0, "how much too early a broker may be by its own counting")
	timeout := flag.Duration("timeout", 4*time.Minute, "after which waiting is a failure")
	flag.Parse()
	rlog.SetLogLevel("error")

	run := Run{namesrv: *namesrv, broker: *broker, count: *count, retries: *retries,
		precision: *precision, deadline: time.Now().Add(*timeout)}
	var err error
	switch scenario := flag.Arg(0); scenario {
	case "create":
		if err = run.createTopic(topic); err == nil {
			run.ok("go.create-topic", "queues=%d", queues)
		}
	case "send":
		err = run.send()
	case "push":
		err = run.push()
	case "pull":
		err = run.pull()
	case "send-push":
		err = run.sendAndPush()
	case "retry":
		err = run.retry()
	case "orderly":
		err = run.orderly(false)
	case "handover":
		err = run.orderly(true)
	case "delay":
		err = run.delay()
	case "filters":
		err = run.filters()
	case "timers":
		err = run.timers()
	case "transactions":
		err = run.transaction()
	case "transaction-child":
		err = run.orphan()
	case "policy":
		err = run.policy()
	case "replay":
		err = run.replay()
	case "polls":
		err = run.polls()
	case "broadcast":
		err = run.broadcast()
	case "request":
		err = run.request()
	case "trace":
		err = run.trace()
	default:
		err = fmt.Errorf("no such scenario: %q", scenario)
	}
	if err != nil {
		run.fail(flag.Arg(0), "%v", err)
	}
	fmt.Printf("end failures=%d\n", run.failures)
	if run.failures > 0 {
		os.Exit(1)
	}
}
