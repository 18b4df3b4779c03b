//! Certificates change while clients are served.

use super::*;

/// The certificate that is shown now, as PEM without line ends.
fn shown(edge: &Edge) -> String {
    let told = edge.openssl(&["-servername", "a.test"]);
    let body = told
        .split("-----BEGIN CERTIFICATE-----")
        .nth(1)
        .unwrap_or_default();
    body.split("-----END")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect()
}

fn is_in(file: &std::path::Path, shown: &str) -> bool {
    let text: String = fs::read_to_string(file)
        .unwrap()
        .split_whitespace()
        .collect();
    !shown.is_empty() && text.contains(shown)
}

#[test]
fn a_renewed_pair_is_shown_at_once_and_breaks_nothing_that_is_open() {
    let (backend, arrivals) = Backend::manual();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    let file = authority.issue(&["a.test"]).write(folder.path(), "a");
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let toml = format!(
        "{}\n{}",
        Pinring::backends(&[&backend]),
        settings(&["a"], "")
    );
    let pinring = Pinring::start_in(folder, &toml, &[]);
    let edge = Edge {
        authority,
        backend,
        pinring,
    };
    assert!(is_in(&file, &shown(&edge)));
    let relay = edge.relay();
    let mut stream = Client::connect(relay.address());
    stream.send(request("GET", "", ""));
    let mut asked = arrivals.next();
    asked.begin_stream();
    stream.head();
    edge.authority.issue(&["a.test"]).write(&edge.folder(), "a");
    eventually("the new one is shown", || is_in(&file, &shown(&edge)));
    let reloaded = || edge.pinring.find_logs("changes");
    eventually("and the log says so", || {
        reloaded().iter().any(|line| {
            line["changes"]
                .as_str()
                .unwrap()
                .contains("tls.certificates [a.test until ")
        })
    });
    asked.chunk("data: 1\n\n");
    assert_eq!(stream.chunk(), Chunk::Data(b"data: 1\n\n".to_vec()));
}

#[test]
fn a_broken_pair_keeps_the_one_before_and_is_told() {
    let edge = Edge::new("");
    let before = shown(&edge);
    let file = edge.folder().join("a.pem");
    let past =
        |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let expired = edge.authority.issue_with(&["a.test"], past);
    let other = edge.authority.issue(&["a.test"]);
    let faults: [(&dyn Fn(), &str); 4] = [
        (
            &|| fs::write(&file, "x").unwrap(),
            "holds no certificate in PEM",
        ),
        (
            &|| fs::write(&file, &other.certificate).unwrap(),
            "does not fit the certificate in a.pem",
        ),
        (
            &|| drop(expired.write(&edge.folder(), "a")),
            "certificate 1 in a.pem expired at 2026-01-01",
        ),
        (&|| fs::remove_file(&file).unwrap(), "a.pem cannot be read"),
    ];
    for (breaks, told) in faults {
        breaks();
        edge.pinring.wait_for_log(told);
        assert_eq!(shown(&edge), before, "{told}");
        assert_eq!(edge.curl("a.test", &[]).body, "hello");
    }
    let loud = edge.pinring.find_logs("fault");
    assert!(loud.iter().all(|line| line["level"] == "ERROR"));
    edge.authority.issue(&["a.test"]).write(&edge.folder(), "a");
    eventually("a good pair is taken", || is_in(&file, &shown(&edge)));
}

#[test]
fn a_certificate_that_expires_in_use_keeps_nothing_else_from_being_taken() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA");
    let soon = |params: &mut rcgen::CertificateParams| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(4);
    };
    authority
        .issue_with(&["a.test"], soon)
        .write(folder.path(), "a");
    let edge = Edge::in_folder(folder, authority, &settings(&["a"], ""));
    let file = edge.pinring.file();
    eventually("a new process would not start with it", || {
        let check = Command::new(env!("CARGO_BIN_EXE_pinring"))
            .arg("check")
            .arg(&file)
            .output();
        check.unwrap().status.code() == Some(64)
    });
    let more = "[timeouts]\ndrain = \"7s\"\n";
    let toml = settings(&["a"], "");
    edge.pinring.reload(&format!(
        "{}\n{more}{toml}",
        Pinring::backends(&[&edge.backend])
    ));
    edge.pinring.wait_for_log("timeouts.drain 20s → 7s");
    edge.pinring
        .wait_for_log("certificate 1 in a.pem expired at");
}

#[test]
fn sessions_outlive_certificates_but_not_who_is_asked_for_what() {
    let edge = Edge::new("");
    for version in ["-tls1_2", "-tls1_3"] {
        first_session(&edge, version, version);
    }
    let file = edge.authority.issue(&["a.test"]).write(&edge.folder(), "a");
    eventually("the new one is shown", || is_in(&file, &shown(&edge)));
    assert!(resumes(&edge, "-tls1_2", "-tls1_2") && resumes(&edge, "-tls1_3", "-tls1_3"));
    let need = "client_certificates = \"required\"\nclient_ca = \"ca.pem\"";
    let toml = settings(&["a", "b"], need);
    edge.pinring
        .reload(&format!("{}\n{toml}", Pinring::backends(&[&edge.backend])));
    for version in ["-tls1_2", "-tls1_3"] {
        let told = edge.openssl(&[version, "-servername", "a.test", "-sess_in", version]);
        assert!(!told.contains("Reused, TLS"), "{told}");
    }
    assert_ne!(edge.curl("a.test", &[]).code, Some(0));
}

#[test]
fn certificates_come_and_go_with_the_file() {
    let edge = Edge::new("");
    let toml = |pairs: &[&str]| {
        format!(
            "{}\n{}",
            Pinring::backends(&[&edge.backend]),
            settings(pairs, "")
        )
    };
    assert_eq!(edge.curl("b.test", &[]).code, Some(0));
    edge.pinring.reload(&toml(&["a"]));
    assert_ne!(edge.curl("b.test", &[]).code, Some(0));
    edge.pinring.reload(&toml(&["b"]));
    assert_eq!(edge.curl("b.test", &[]).code, Some(0));
    assert_ne!(edge.curl("a.test", &[]).code, Some(0));
}
