//! `[tracing]`: the file, and what OpenTelemetry's variables say instead.

use super::*;

/// The section as it is read with these variables.
fn tracing(text: &str, env: &[(&'static str, &str)]) -> Option<Tracing> {
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let world = TestWorld {
        env: env.collect(),
        ..TestWorld::default()
    };
    let config = check(&format!("{text}\n{BACKEND}"), &Overrides::default(), &world);
    config.unwrap_or_else(|errors| panic!("{errors}")).tracing
}

fn url(tracing: Option<Tracing>) -> Option<String> {
    Some(tracing?.export?.url.to_string())
}

const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318/base/");
const WHOLE: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:4318/own");

#[test]
fn nothing_is_traced_unless_somebody_says_so() {
    assert_eq!(tracing("", &[]), None);
    assert_eq!(tracing("", &[("OTEL_SERVICE_NAME", "x")]), None);
    let begun = tracing("[tracing]", &[]).unwrap();
    assert_eq!(begun.export, None);
    assert_eq!(
        (begun.sampling.share, begun.sampling.trust),
        (1.0, TraceTrust::Anyone)
    );
}

#[test]
fn the_file_counts_before_the_variables_and_those_before_nothing() {
    let file = "[tracing]\notlp = \"http://127.0.0.1:4318\"";
    let found = url(tracing(file, &[BASE, WHOLE]));
    assert_eq!(found.as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
    let found = url(tracing("", &[BASE]));
    assert_eq!(found.as_deref(), Some("http://h:4318/base/v1/traces"));
    let found = url(tracing("", &[BASE, WHOLE]));
    assert_eq!(found.as_deref(), Some("http://h:4318/own"));
    assert_eq!(url(tracing("[tracing]\notlp = \"\"", &[BASE])), None);
    for off in [
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        assert_eq!(tracing("", &[BASE, off]), None, "{off:?}");
    }
}

#[test]
fn a_service_has_the_name_that_somebody_gives_it() {
    fn service(text: &str, env: &[(&'static str, &str)]) -> Option<String> {
        tracing(text, env).unwrap().export.unwrap().service
    }
    assert_eq!(service("", &[BASE]).as_deref(), Some("pinring"));
    assert_eq!(service("", &[BASE, ("OTEL_SERVICE_NAME", "x")]), None);
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=x");
    assert_eq!(service("", &[BASE, attributes]), None);
    let file = "[tracing]\nservice = \"y\"";
    assert_eq!(service(file, &[BASE, attributes]).as_deref(), Some("y"));
}

#[test]
fn headers_are_read_and_never_shown() {
    let file =
        "[tracing]\notlp = \"http://h:4318\"\nheaders = [\"Authorization = env:KEY\", \"X-A=b=c\"]";
    let export = tracing(file, &[("KEY", "hush")]).unwrap().export.unwrap();
    let texts = export.headers.iter();
    let texts: Vec<_> = texts
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(texts, [("authorization", "hush"), ("x-a", "b=c")]);
    assert!(!format!("{export:?}").contains("hush"));
}

#[test]
fn what_cannot_be_used_says_what_would_be_right() {
    for (line, problem) in [
        ("otlp = \"collector\"", "no URL"),
        ("otlp = \"http://h\"", "no port"),
        ("otlp = \"http://h:4317\"", "gRPC"),
        ("otlp = \"grpc://h:4318\"", "http://127.0.0.1:4318"),
        ("headers = [\"hush\"]", "write NAME=VALUE"),
        ("headers = [\"a b=hush\"]", "header's name"),
        ("headers = [\"a=env:NONE\"]", "not set"),
        ("sample = 1.1", "write a number from 0.0 to 1.0"),
        ("sample = \"1\"", "write a number from 0.0 to 1.0"),
        ("trust = \"all\"", "write \"anyone\" or \"trusted-proxies\""),
        ("endpoint = \"http://h:4318\"", "unknown key"),
    ] {
        let fault = fault(&format!("[tracing]\n{line}"));
        assert!(
            fault.starts_with("2: ") && fault.contains(problem),
            "{fault}"
        );
        assert!(!fault.contains("hush"), "{fault}");
    }
}
