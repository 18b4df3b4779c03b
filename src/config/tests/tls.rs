//! Certificates, keys and roots: what is wrong with a file is said with its key, its line and its name.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};

use super::*;

/// A certificate for `host.test` and its key, as files have them.
pub(super) fn pair() -> (Vec<u8>, Vec<u8>) {
    let (certificate, key) = own("host.test", |_| {});
    (certificate.pem().into(), key.serialize_pem().into())
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn own(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
    let mut params = params(name);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

fn authority(name: &str) -> (Certificate, Issuer<'static, KeyPair>) {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate, Issuer::new(params, key))
}

const TLS: &str = "[server]\nlisten = \"https://127.0.0.1:1\"\n[[tls.certificates]]\n\
                   certificate = \"c.pem\"\nkey = \"k.pem\"\n";

/// The faults of a configuration with these two files.
fn with_files(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Vec<String> {
    let world = TestWorld {
        files: [("c.pem", certificate.into()), ("k.pem", key.into())].into(),
        ..TestWorld::default()
    };
    lines(check(
        &format!("{TLS}{BACKEND}"),
        &Overrides::default(),
        &world,
    ))
}

/// The one fault, which begins with its line and key.
fn fault_of(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> String {
    let mut faults = with_files(certificate, key);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[test]
fn a_good_pair_is_taken_with_its_names() {
    let (certificate, key) = pair();
    assert_eq!(with_files(certificate, key), [""; 0]);
    let (root, root_key) = authority("root.test");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["A.test".to_owned(), "*.b.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &root_key).unwrap();
    let world = TestWorld {
        files: [
            ("c.pem", [certificate.pem(), root.pem()].concat().into()),
            ("k.pem", key.serialize_pem().into()),
        ]
        .into(),
        ..TestWorld::default()
    };
    let config = check(&format!("{TLS}{BACKEND}"), &Overrides::default(), &world).unwrap();
    let tls = config.tls.unwrap();
    assert_eq!(tls.certificates[0].names, ["a.test", "*.b.test"]);
    assert_eq!(config.files, [Path::new("c.pem"), Path::new("k.pem")]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_of_that_file() {
    let (certificate, key) = pair();
    let (other, other_key) = pair();
    for (found, certificate, key, key_path) in [
        (
            "c.pem holds no certificate in PEM",
            &b"hello"[..],
            &key[..],
            "certificate",
        ),
        ("c.pem is DER, not PEM", b"\x30\x82", &key, "certificate"),
        (
            "c.pem holds a private key and no certificate",
            &key,
            &key,
            "certificate",
        ),
        (
            "k.pem holds a certificate and no private key",
            &certificate,
            &certificate,
            "key",
        ),
        (
            "k.pem holds no private key in PEM",
            &certificate,
            b"",
            "key",
        ),
        (
            "k.pem is encrypted",
            &certificate,
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            "key",
        ),
        (
            "the key in k.pem does not fit the certificate in c.pem",
            &certificate,
            &other_key,
            "key",
        ),
        (
            "the key in k.pem does not fit the certificate in c.pem",
            &other,
            &key,
            "key",
        ),
    ] {
        let fault = fault_of(certificate, key);
        let line = if key_path == "key" { 5 } else { 4 };
        assert!(
            fault.starts_with(&format!("{line}: tls.certificates[0].{key_path} = ")),
            "{fault}"
        );
        assert!(fault.contains(found), "{found}: {fault}");
    }
}

#[test]
fn a_file_that_is_not_there_and_a_half_pair_are_faults() {
    let two = faults(&format!("{TLS}{BACKEND}"));
    assert!(
        two[0].contains("c.pem cannot be read") && two[1].contains("k.pem cannot be read"),
        "{two:?}"
    );
    let half = "[server]\nlisten = \"https://127.0.0.1:1\"\n[[tls.certificates]]\nkey = \"k.pem\"";
    let half = faults(&format!("{half}\n{BACKEND}"));
    assert!(
        half.iter()
            .any(|fault| fault.contains("tls.certificates[0].certificate: is missing")),
        "{half:?}"
    );
    let none = fault("[server]\nlisten = \"https://127.0.0.1:1\"");
    assert!(
        none.contains("tls.certificates: server.listen has an address with https://"),
        "{none}"
    );
}

#[test]
fn a_certificate_whose_time_is_not_now_is_a_fault() {
    let (expired, key) = own("host.test", |params| {
        params.not_after = date_time_ymd(2026, 1, 2)
    });
    let fault = fault_of(expired.pem(), key.serialize_pem());
    assert!(
        fault.contains("certificate 1 in c.pem expired at 2026-01-02"),
        "{fault}"
    );
    let world = TestWorld {
        files: [
            ("c.pem", expired.pem().into()),
            ("k.pem", key.serialize_pem().into()),
        ]
        .into(),
        chains_in_force: true,
        ..TestWorld::default()
    };
    let config = check(&format!("{TLS}{BACKEND}"), &Overrides::default(), &world).unwrap();
    assert!(
        config
            .notes
            .iter()
            .any(|note| note.contains("c.pem expired at")),
        "{:?}",
        config.notes
    );
    let (early, key) = own("host.test", |params| {
        params.not_before = date_time_ymd(2030, 1, 2)
    });
    let fault = fault_of(early.pem(), key.serialize_pem());
    assert!(fault.contains("is not valid before 2030-01-02"), "{fault}");
}

#[test]
fn a_chain_stands_in_the_order_of_its_issuers() {
    let (root, root_issuer) = authority("root.test");
    let key = KeyPair::generate().unwrap();
    let mut params = params("middle.test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let middle_key = KeyPair::generate().unwrap();
    let middle = params.signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(params, middle_key);
    let leaf = super::tls::params("host.test")
        .signed_by(&key, &middle_issuer)
        .unwrap();
    let (leaf, middle, root) = (leaf.pem(), middle.pem(), root.pem());
    let key = key.serialize_pem();
    for good in [
        [&*leaf, &*middle, ""],
        [&leaf, &middle, &root],
        [&leaf, "", ""],
    ] {
        assert_eq!(with_files(good.concat(), &*key), [""; 0]);
    }
    for (found, bad) in [
        (
            "is incomplete: certificate 1 is issued by CN=middle.test",
            [&*leaf, &*root, ""],
        ),
        (
            "out of order: number 1 is issued by CN=middle.test, which is number 3",
            [&leaf, &root, &middle],
        ),
        (
            "which is number 3, and must stand right behind it",
            [&middle, &leaf, &root],
        ),
        (
            "CN=root.test, is a root: nothing may follow it",
            [&root, &leaf, ""],
        ),
    ] {
        let fault = fault_of(bad.concat(), &*key);
        assert!(fault.contains(found), "{found}: {fault}");
    }
    let fault = fault_of([&*middle, &*root].concat(), &*key);
    assert!(fault.contains("does not fit"), "{fault}");
}

#[test]
fn clients_are_asked_for_certificates_by_both_keys_together() {
    let one = |text: &str| fault(&format!("[tls]\n{text}"));
    let fault = one("client_certificates = \"required\"");
    assert!(
        fault.contains("tls.client_certificates: whose certificates?"),
        "{fault}"
    );
    let fault = one("client_ca = \"ca.pem\"");
    assert!(fault.contains("is asked of nobody"), "{fault}");
    let fault = one("client_ca = \"ca.pem\"\nclient_certificates = \"optional\"");
    assert!(fault.contains("ca.pem cannot be read"), "{fault}");
}

#[test]
fn a_backend_with_tls_is_known_by_what_it_is_spoken_to_with() {
    let (root, _) = authority("root.test");
    let (other, _) = authority("other.test");
    let endpoint = |text: &str| {
        let world = TestWorld {
            files: [("a.pem", root.pem().into()), ("b.pem", other.pem().into())].into(),
            ..TestWorld::default()
        };
        let text = format!("[pool.tls]\n{text}\n[[backends]]\nurl = \"https://10.0.0.1\"");
        let config = check(&text, &Overrides::default(), &world);
        config.unwrap_or_else(|errors| panic!("{errors}")).pools[0].backends[0]
            .endpoint
            .clone()
    };
    let a = endpoint("roots = \"a.pem\"");
    assert_eq!(
        (a.to_string(), a.url()),
        ("10.0.0.1:443".into(), "https://10.0.0.1:443".into())
    );
    assert_eq!(a, endpoint("roots = \"a.pem\""));
    assert_ne!(a, endpoint("roots = \"b.pem\""));
    assert_ne!(a, endpoint("roots = \"a.pem\"\nserver_name = \"h.test\""));
    let without = faults("[[backends]]\nurl = \"https://10.0.0.1\"");
    assert!(
        without[0].contains("2: backends[0].url") && without[0].contains("no root certificates"),
        "{without:?}"
    );
}
