//! The commands that talk to a broker, as a person runs them.

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use support::server::Server;

/// Runs `skylark` with these arguments and this standard input, against the server's nameserver.
fn skylark(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
    command.args(arguments).args(["--namesrv", &server.nameserver().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that does not read may have ended already.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().expect("it is our child")
}

/// The lines that a successful run has printed.
fn lines(output: &Output) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn what_is_produced_is_consumed_and_only_once_by_a_group() {
    let server = Server::start();
    let produced = lines(&skylark(&server, &["produce", "Letters", "--tag", "T"], "alpha\nbeta\ngamma\n"));
    assert_eq!(produced.len(), 3);
    lines(&skylark(&server, &["produce", "Letters", "delta", "--key", "k1 k2", "--property", "a=b"], ""));

    let consume = ["consume", "Letters", "--group", "G", "--quiet", "--count"];
    let consumed = lines(&skylark(&server, &[&consume[..], &["4"]].concat(), ""));
    assert_eq!(sorted(consumed), ["alpha", "beta", "delta", "gamma"]);
    lines(&skylark(&server, &["produce", "Letters", "epsilon"], ""));
    let consumed = lines(&skylark(&server, &[&consume[..], &["1"]].concat(), ""));
    assert_eq!(consumed, ["epsilon"]);

    let tagged = ["consume", "Letters", "--group", "Tagged", "--tag", "T || U", "--count", "3"];
    let tagged = lines(&skylark(&server, &tagged, ""));
    assert!(tagged.iter().all(|line| line.contains(" tag=T keys=- ")), "{tagged:?}");
}

#[test]
fn a_bench_reports_one_json_object_and_reads_back_what_it_wrote() {
    let server = Server::start();
    let common = ["--topic", "load", "--connections", "2", "--duration", "0.5", "--json"];
    let produce = ["bench", "produce", "--in-flight", "4", "--size", "100", "--warmup", "0"];
    let report = |arguments: &[&str]| {
        let lines = lines(&skylark(&server, arguments, ""));
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str::<serde_json::Value>(&lines[0]).unwrap()
    };
    let produced = report(&[&produce[..], &common].concat());
    let latency = &produced["latency_us"];
    assert!(produced["messages"].as_u64().unwrap() > 0, "{produced}");
    assert!(latency["p50"].as_f64() <= latency["p99_9"].as_f64(), "{produced}");
    assert_eq!(produced["errors"], serde_json::json!({}), "{produced}");

    let consume = ["bench", "consume", "--until-end", "--duration", "60"];
    let consumed = report(&[&consume[..], &["--topic", "load", "--connections", "2", "--json"]].concat());
    assert!(consumed["messages"].as_u64() >= produced["messages"].as_u64(), "{consumed} {produced}");
}

#[test]
fn an_operator_ends_transactions() {
    let server = Server::start();
    let produce = ["produce", "Orders", "--property", "TRAN_MSG=true"];
    lines(&skylark(&server, &produce, "kept\ndropped\nleft\n"));
    let operate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
        command.arg("transactions").args(arguments).args(["--broker", &server.broker().to_string()]);
        command.output().expect("the binary was built")
    };
    let listed = lines(&operate(&["list"]));
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|line| line.contains(" skylark_produce Orders 0 ")), "{listed:?}");
    let ids: Vec<&str> = listed.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(lines(&operate(&["list", "--limit", "1", "--group", "skylark_produce"])), listed[..1]);
    assert!(lines(&operate(&["list", "--group", "nobody"])).is_empty());

    lines(&operate(&["commit", ids[0]]));
    lines(&operate(&["rollback", ids[1]]));
    lines(&operate(&["resume", ids[2]]));
    let twice = operate(&["commit", ids[1]]);
    assert!(!twice.status.success());
    let said = String::from_utf8_lossy(&twice.stderr);
    assert!(said.contains(&format!("no transaction {} is open", ids[1])), "{said}");
    assert_eq!(lines(&operate(&["list"])), listed[2..]);
    let consume = ["consume", "Orders", "--group", "G", "--quiet", "--count", "1"];
    // Sent at the same time, they may have been stored in any order.
    let consumed = lines(&skylark(&server, &consume, ""));
    assert!(["kept", "dropped", "left"].contains(&&*consumed[0]), "{consumed:?}");
}

/// Runs a command for operators on the server's broker.
fn operate(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
    command.args(arguments).args(["--broker", &server.broker().to_string()]);
    command.output().expect("the binary was built")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_operator_deals_with_dead_letters() {
    let mut server = Server::start();
    // Whoever gives up a message has a group.
    lines(&skylark(&server, &["produce", "Orders"], "warm\n"));
    lines(&skylark(&server, &["consume", "Orders", "--group", "G", "--quiet", "--count", "1"], ""));
    assert!(lines(&operate(&server, &["dlq", "list"])).is_empty());
    let without = operate(&server, &["dlq", "peek", "G"]);
    assert!(!without.status.success() && said(&without).contains("has no dead letter topic"));

    let produce = ["produce", "%DLQ%G", "--property", "RETRY_TOPIC=Orders"];
    lines(&skylark(&server, &produce, "one\ntwo\nthree\nfour\n"));
    let listed = lines(&operate(&server, &["dlq", "list"]));
    assert!(listed.len() == 1 && listed[0].starts_with("G 4 20"), "{listed:?}");
    assert!(lines(&operate(&server, &["dlq", "list", "--group", "other"])).is_empty());
    let json = lines(&operate(&server, &["dlq", "list", "--json"]));
    let queue: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!((&queue["group"], &queue["topic"]), (&"G".into(), &"%DLQ%G".into()));

    let peeked = lines(&operate(&server, &["dlq", "peek", "G"]));
    assert_eq!(peeked.len(), 4);
    assert_eq!(lines(&operate(&server, &["dlq", "peek", "G", "--limit", "2"])), peeked[..2]);
    let find = |body: &str| -> Vec<String> {
        let line =
            peeked.iter().find(|line| line.ends_with(&format!(" {body}"))).expect("it is a dead letter");
        line.split(' ').map(str::to_owned).collect()
    };
    let (one, two, four) = (find("one"), find("two"), find("four"));
    assert_eq!((&*one[2], &*one[3]), ("Orders", "0"));
    let json = lines(&operate(&server, &["dlq", "peek", "G", "--json", "--limit", "1"]));
    let letter: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    let unique_key = letter["uniqueKey"].as_str().unwrap();
    assert_eq!(
        (&letter["topic"], unique_key),
        (&"Orders".into(), &*find(letter["body"].as_str().unwrap())[4])
    );

    // By either id; then all that is left, and nothing twice.
    let resend = |more: &[&str]| operate(&server, &[&["dlq", "resend", "G"][..], more].concat());
    assert_eq!(lines(&resend(&["--id", &one[0]])), [format!("{} Orders", one[0])]);
    assert_eq!(lines(&resend(&["--id", &two[4]])), [format!("{} Orders", two[0])]);
    assert!(lines(&resend(&["--id", &one[0]])).is_empty());
    let unknown = resend(&["--id", "nonsense"]);
    assert!(!unknown.status.success() && said(&unknown).contains("no dead letter nonsense"));
    assert!(!resend(&[]).status.success() && !resend(&["--all", "--id", "x"]).status.success());

    let purge =
        |more: &[&str]| operate(&server, &[&["dlq", "purge", "G", "--id", &four[0]][..], more].concat());
    let asked = purge(&[]);
    assert!(
        !asked.status.success() && said(&asked).contains("1 dead letters would be given up"),
        "{}",
        said(&asked)
    );
    assert_eq!(lines(&operate(&server, &["dlq", "peek", "G"])).len(), 2);
    lines(&purge(&["--yes"]));
    assert_eq!(lines(&resend(&["--all"])).len(), 1);
    assert!(lines(&resend(&["--all"])).is_empty());
    server.kill();
    server.restart();
    let operate = |arguments: &[&str]| operate(&server, arguments);
    assert!(lines(&operate(&["dlq", "resend", "G", "--all"])).is_empty());
    assert!(lines(&operate(&["dlq", "list"]))[0].starts_with("G 0 - -"));
    assert!(lines(&operate(&["dlq", "peek", "G"])).is_empty());
    let consume = ["consume", "Orders", "--group", "H", "--quiet", "--from", "first", "--count", "4"];
    assert_eq!(sorted(lines(&skylark(&server, &consume, ""))), ["one", "three", "two", "warm"]);

    let trail = lines(&operate(&["offsets", "audit", "--group", "G"]));
    assert_eq!(trail.len(), 4, "{trail:?}");
    assert!(trail.iter().all(|line| line.contains(" G %DLQ%G ")), "{trail:?}");
    assert!(trail[2].contains(" 60012 127.0.0.1:"), "{trail:?}");
    assert!(lines(&operate(&["offsets", "audit", "--group", "nobody"])).is_empty());
    assert!(lines(&operate(&["offsets", "audit", "--topic", "Orders"])).is_empty());
    let json = lines(&operate(&["offsets", "audit", "--topic", "%DLQ%G", "--json"]));
    let moved: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!((&moved["code"], &moved["group"]), (&60011.into(), &"G".into()));
}

#[test]
fn an_operator_sees_how_far_groups_are_behind() {
    let server = Server::start();
    lines(&skylark(&server, &["produce", "Letters"], "alpha\nbeta\ngamma\n"));
    lines(&skylark(&server, &["consume", "Letters", "--group", "Readers", "--quiet", "--count", "3"], ""));
    lines(&skylark(&server, &["produce", "Letters", "delta"], ""));
    let lag = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skylark"));
        command.arg("lag").args(arguments).args(["--broker", &server.broker().to_string()]);
        lines(&command.output().expect("the binary was built"))
    };
    let listed = lag(&["--group", "Readers", "--topic", "Letters", "--json"]);
    let rows: Vec<serde_json::Value> =
        listed.iter().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let behind: Vec<_> = rows.iter().filter(|row| row["lag"] == 1).collect();
    assert_eq!((rows.iter().filter(|row| row["lag"] == 0).count(), behind.len()), (rows.len() - 1, 1));
    assert_eq!(
        (behind[0]["group"].as_str(), behind[0]["topic"].as_str()),
        (Some("Readers"), Some("Letters"))
    );
    let table = lag(&["--group", "Readers", "--topic", "Letters"]);
    assert_eq!(table[0], "GROUP TOPIC QUEUE COMMITTED END LAG OWNER ASKED BLOCKED-BECAUSE");
    assert_eq!(table.len(), 1 + rows.len());
    assert!(lag(&["--events"]).is_empty(), "a minute has not passed");
}

#[test]
fn without_a_nameserver_a_command_says_so_and_fails() {
    let mut server = Server::start();
    server.kill();
    let output = skylark(&server, &["produce", "T", "body"], "");
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot connect to"), "{said}");
}

/// Runs `skylark log` on the server's data directory: exit code, standard output and error.
fn log(server: &Server, command: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_skylark"));
    run.args(["log", command]).arg(server.data()).args(options);
    let output = run.output().expect("the binary was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_log_is_verified_dumped_and_counted_and_damage_is_located() {
    let mut server = Server::start();
    lines(&skylark(&server, &["produce", "Letters"], "alpha\nbeta\ngamma\n"));

    let (code, _, error) = log(&server, "verify", &[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("in use by another process") && error.contains("--in-use"), "{error}");
    let (code, out, error) = log(&server, "verify", &["--in-use"]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(error.contains("is moving, and not judged"), "{error}");

    assert!(server.terminate().success());
    let (code, out, error) = log(&server, "verify", &[]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.starts_with("sound: 0 damages") && out.contains("the log was closed"), "{out}");

    let (code, out, _) = log(&server, "dump", &[]);
    let messages: Vec<&str> = out.lines().filter(|line| line.contains(" kind=16 name=message ")).collect();
    assert_eq!((code, messages.len()), (Some(0), 3), "{out}");
    let (_, numbers, _) = log(&server, "dump", &["--numbers"]);
    assert!(!numbers.contains("name="), "{numbers}");
    let (_, json, _) = log(&server, "dump", &["--json", "--payload", "hex"]);
    for line in json.lines() {
        let item: serde_json::Value = serde_json::from_str(line).expect("each line is an object");
        assert!(
            item["item"].is_string() && (item["item"] != "record" || item["payload"].is_string()),
            "{line}"
        );
    }

    let (code, out, _) = log(&server, "stat", &[]);
    assert!(code == Some(0) && out.contains("it had been closed") && out.contains("message "), "{out}");
    let (_, out, _) = log(&server, "stat", &["--json"]);
    let counted: serde_json::Value = serde_json::from_str(&out).expect("one object");
    let kinds = counted["kinds"].as_array().expect("a list");
    let message = kinds.iter().find(|kind| kind["name"] == "message").expect("messages were sent");
    assert_eq!(message["records"], 3, "{counted}");

    // One bit of the second message's payload.
    let at: usize =
        messages[1].split("at=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    let file = server.data().join(format!("log/{:020}.seg", 0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[at + 32 + 100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (code, out, _) = log(&server, "verify", &[]);
    assert_eq!(code, Some(1), "{out}");
    let located = format!("damage file=log/{:020}.seg byte=", 0);
    assert!(
        out.starts_with(&located) && out.contains("what=payload") && out.contains("DAMAGED: 1 damages"),
        "{out}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "looking changes nothing");
}

#[test]
fn without_a_log_a_look_at_it_says_so() {
    let server = Server::start();
    let mut run = Command::new(env!("CARGO_BIN_EXE_skylark"));
    let output = run.args(["log", "verify"]).arg(server.data().join("log")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no log in"));
}
