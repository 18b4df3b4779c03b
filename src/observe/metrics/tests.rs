use super::*;
use crate::observe::{Exchange, Reason, Route};

const STATES: &[&str] = &["open", "lost"];

fn metrics(meters: &Meters, traffic: &Arc<Traffic>) -> Metrics {
    let traffic = Arc::clone(traffic);
    Metrics::new(meters.clone(), move || Reading {
        pools: vec![Pool {
            name: "default".to_owned(),
            traffic: Arc::default(),
            backends: vec![Backend {
                name: r#"a"\"#.to_owned(),
                traffic: Arc::clone(&traffic),
                state: ("open", STATES),
                sessions: 7,
                in_flight: 1,
                forgotten: 2,
                lost_in: None,
            }],
        }],
        ring: "0123".to_owned(),
        keys: "4567".to_owned(),
        certificates: vec![Certificate {
            names: "mcp.example".to_owned(),
            until: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000),
        }],
        ..Reading::default()
    })
}

#[test]
fn a_scrape_tells_what_was_counted_and_what_is_read() {
    let (meters, traffic) = (Meters::new(), Arc::<Traffic>::default());
    let meter = meters.meter();
    let exchange = Exchange::unlogged(&meter);
    exchange.routed("a", &traffic, Route::Pinned);
    exchange.answered_here(http::StatusCode::BAD_GATEWAY, Some(Reason::BackendClosed));
    drop(exchange);
    let text = metrics(&meters, &traffic).openmetrics();
    for line in [
        r#"pinring_requests_total{pool="default",backend="a\"\\",route="pinned",code="502"} 1"#,
        r#"pinring_refusals_total{reason="backend_closed"} 1"#,
        r#"pinring_refusals_total{reason="no_pool"} 0"#,
        r#"pinring_sessions{pool="default",backend="a\"\\"} 7"#,
        r#"pinring_backend_state{pool="default",backend="a\"\\",state="open"} 1"#,
        r#"pinring_backend_state{pool="default",backend="a\"\\",state="lost"} 0"#,
        "pinring_backend_forgot_session_total 2",
        r#"pinring_config_info{ring="0123",keys="4567"} 1"#,
        "pinring_request_duration_seconds_count 1",
        "# UNIT pinring_request_duration_seconds seconds",
        r#"pinring_tls_certificate_expiry_timestamp_seconds{certificate="1",names="mcp.example"} 1800000000.0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn families_are_whole_and_come_once() {
    let (meters, traffic) = (Meters::new(), Arc::default());
    let text = metrics(&meters, &traffic).openmetrics();
    let families: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let mut distinct = families.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), families.len(), "{families:?}");
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        match line.strip_prefix("# HELP ") {
            Some(help) => family = help.split(' ').next().unwrap(),
            None => assert!(
                line.trim_start_matches("# TYPE ")
                    .trim_start_matches("# UNIT ")
                    .starts_with(family),
                "{line}"
            ),
        }
    }
}
