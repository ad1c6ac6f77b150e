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
