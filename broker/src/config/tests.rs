use super::*;

fn mistakes(settings: Settings) -> Vec<String> {
    Config::new(settings).unwrap_err().0.into_iter().map(|mistake| mistake.key).collect()
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn defaults_listen_on_loopback_and_register_with_the_built_in_nameserver() {
    let config = Config::new(Settings::default()).unwrap();
    assert!(config.listen.ip().is_loopback());
    assert_eq!(config.namesrv, ["127.0.0.1:9876"]);
    assert_eq!(config.identity.address, "127.0.0.1:10911");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let settings = Settings {
        listen: text("10911"),
        namesrv: text("nowhere"),
        cluster: text("with space"),
        workers: Some(1),
        segment_bytes: Some(100_001),
        delay_levels: text("1s soon"),
        device: text("mmap"),
        ..Settings::default()
    };
    assert_eq!(
        mistakes(settings),
        ["listen", "cluster", "namesrv", "segment-bytes", "delay-levels", "device", "workers"]
    );
}

#[test]
fn other_machines_are_served_only_when_the_operator_says_so() {
    let wide =
        Settings { listen: text("0.0.0.0:10911"), advertise: text("127.0.0.1"), ..Settings::default() };
    assert_eq!(mistakes(wide.clone()), ["listen"]);
    assert!(Config::new(Settings { allow_unauthenticated: Some(true), ..wide }).is_ok());
}

#[test]
fn a_wide_listener_needs_an_advertised_address() {
    let wide =
        Settings { listen: text("0.0.0.0:10911"), allow_unauthenticated: Some(true), ..Settings::default() };
    assert_eq!(mistakes(wide), ["advertise"]);
}

#[test]
fn a_toml_file_uses_the_names_of_the_options() {
    let settings: Settings = toml::from_str("broker-name = \"b\"\nsegment-bytes = 4194304\n").unwrap();
    assert_eq!(settings.broker_name.as_deref(), Some("b"));
    assert!(toml::from_str::<Settings>("brokerName = \"b\"\n").is_err());
}

#[test]
fn no_address_is_advertised_that_nobody_listens_on() {
    let any_port = Settings { listen: text("127.0.0.1:0"), ..Settings::default() };
    assert_eq!(mistakes(any_port), ["listen"]);
    let v6 = Settings { listen: text("[::1]:10911"), ..Settings::default() };
    assert_eq!(mistakes(v6), ["advertise"], "message ids carry IPv4, and nobody listens on 127.0.0.1");
}

#[test]
fn what_waits_must_leave_room_for_trims() {
    let percent = |pending, clean| Settings {
        pending_disk_percent: pending,
        disk_clean_percent: clean,
        ..Settings::default()
    };
    assert_eq!(mistakes(percent(Some(61), Some(60))), ["pending-disk-percent"]);
    let read = |settings| Config::new(settings).unwrap().policy.pending_disk_percent;
    assert_eq!(read(percent(None, None)), 40);
    assert_eq!((read(percent(None, Some(50))), read(percent(None, Some(1)))), (25, 1));
    assert_eq!(read(percent(Some(60), Some(60))), 60);
}
