use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::{trusted::Client, *};

/// Who connects for himself.
fn direct(address: &str) -> Client {
    Client::direct(address.parse().unwrap())
}

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

fn token(payload: &str) -> String {
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    format!(
        "{}.{}.{}",
        part("{\"alg\":\"RS256\"}"),
        part(payload),
        part("signature")
    )
}

/// The principal by `source` of a request with this `Authorization`.
fn of(source: &Source, authorization: &[u8]) -> Option<Vec<u8>> {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_bytes(authorization).ok()?,
    );
    let credential = source.credential(&headers, direct("192.0.2.1"))?;
    source.principal(&credential).map(|Principal(name)| name)
}

fn of_payload(payload: &str) -> Option<Vec<u8>> {
    of(
        &source("jwt:sub"),
        format!("Bearer {}", token(payload)).as_bytes(),
    )
}

#[test]
fn a_token_names_its_issuer_and_the_claim() {
    let payload = "{\"aud\": [\"x\"], \"iss\": \"https://id.example\", \"sub\": \"ann\"}";
    assert_eq!(of_payload(payload).unwrap(), b"https://id.example\0ann");
    let bearer = format!("bEARER  {} ", token(payload));
    assert_eq!(
        of(&source("jwt:sub"), bearer.as_bytes()).unwrap(),
        b"https://id.example\0ann"
    );
    assert_eq!(of_payload("{\"sub\": 42}").unwrap(), b"\x0042");
    let other = of(&source("jwt:email"), bearer.as_bytes());
    assert_eq!(other, None, "the token has no such claim");
}

#[test]
fn what_is_no_signed_token_names_nobody() {
    for payload in [
        "",
        "{",
        "[]",
        "\"ann\"",
        "{}",
        "{\"sub\": \"\"}",
        "{\"sub\": null}",
        "{\"sub\": 1.5}",
        "{\"sub\": [\"ann\"]}",
        "{\"sub\": {\"sub\": \"ann\"}}",
        "{\"iss\": 1, \"sub\": \"ann\"}",
        "{\"iss\": \"a\\u0000b\", \"sub\": \"ann\"}",
        "{\"sub\": \"\\ud800\"}",
    ] {
        assert_eq!(of_payload(payload), None, "{payload}");
    }
    let deep = format!("{{\"sub\": {}{}}}", "[".repeat(6000), "]".repeat(6000));
    assert_eq!(of_payload(&deep), None);
    let long = format!("{{\"sub\": \"{}\"}}", "x".repeat(MOST_TOKEN_BYTES));
    assert_eq!(of_payload(&long), None);
    let good = token("{\"sub\": \"ann\"}");
    let (signed, _) = good.rsplit_once('.').unwrap();
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        &good,
        signed,
        &format!("Bearer {signed}"),
        &format!("Bearer {good}.x"),
        &format!("Bearer {good}.x.y"),
        "Bearer ...",
        "Bearer a.b.c",
    ] {
        assert_eq!(of(&source("jwt:sub"), value.as_bytes()), None, "{value}");
    }
}

#[test]
fn an_address_names_a_network_and_nothing_else_does() {
    let by = source("address");
    let name = |address: &str| {
        let credential = by.credential(&HeaderMap::new(), direct(address));
        by.principal(&credential.unwrap()).unwrap()
    };
    assert_eq!(name("192.0.2.1"), name("::ffff:192.0.2.1"));
    assert_ne!(name("192.0.2.1"), name("192.0.2.2"));
    assert_eq!(name("2001:db8::1"), name("2001:db8::2:3"));
    assert_ne!(name("2001:db8::1"), name("2001:db8:0:1::1"));
}

#[test]
fn one_name_by_two_sources_is_two_principals() {
    let principal = Principal(b"https://id.example\0ann".to_vec());
    assert_ne!(
        principal.digest(&source("jwt:sub")),
        principal.digest(&source("jwt:name"))
    );
    // hashlib.sha256(b"jwt:sub\0https://id.example\0ann")
    let expected = "e8fc893304f8e103b4a3798b7fc90bdd2f5731b535cbb762234ce186dae0c8c9";
    assert_eq!(
        HEXLOWER.encode(&principal.digest(&source("jwt:sub"))),
        expected
    );
}

#[test]
fn nothing_of_a_token_is_shown() {
    let by = source("jwt:sub");
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {}", token("{\"sub\": \"ann\"}"));
    headers.insert(header::AUTHORIZATION, value.parse().unwrap());
    let credential = by.credential(&headers, direct("192.0.2.1")).unwrap();
    let shown = format!("{credential:?} {:?}", by.principal(&credential));
    assert_eq!(shown, "Authorization(…) Some(Principal(…))");
}

#[test]
fn sources_are_read_and_written_in_one_way() {
    for text in [
        "address",
        "jwt:sub",
        "jwt:https://a.example/uid",
        "header:x-user",
    ] {
        assert_eq!(source(text).to_string(), text);
    }
    for text in ["", "jwt", "jwt:", "Address", "sub", "header"] {
        assert_eq!(
            text.parse::<Source>(),
            Err(InvalidSource::Unknown),
            "{text}"
        );
    }
    for text in ["header:", "header:x user"] {
        assert_eq!(text.parse::<Source>(), Err(InvalidSource::HeaderName));
    }
    // However it is written, it is one name: proxies with one secret must agree.
    assert_eq!(source("header:X-User").to_string(), "header:x-user");
}

/// Whom a request is bound to that has these headers.
fn bound(source: &str, headers: &[(&'static str, &str)], client: Client) -> Option<[u8; 32]> {
    let parsed = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    let mut all = HeaderMap::new();
    for (name, value) in parsed {
        all.append(name, value);
    }
    source.parse::<Source>().unwrap().binding(&all, client)
}

#[test]
fn a_header_names_somebody_only_where_a_trusted_proxy_says_it() {
    let by_proxy = Client {
        by_trusted: true,
        ..direct("192.0.2.1")
    };
    let ann = [("x-user", "ann")];
    // hashlib.sha256(b"header:x-user\0ann")
    let expected = "b91663a48383c9768739d6f3f4d04b5ca50ff2aef29a512136ac873cb0ae178a";
    let digest = bound("header:X-User", &ann, by_proxy).unwrap();
    assert_eq!(HEXLOWER.encode(&digest), expected);
    assert_eq!(bound("header:x-user", &ann, direct("192.0.2.1")), None);
    for nobody in [
        &[][..],
        &[("x-user", "")],
        &[ann[0], ann[0]],
        &[ann[0], ("x-user", "bob")],
    ] {
        assert_eq!(bound("header:x-user", nobody, by_proxy), None, "{nobody:?}");
    }
}

#[test]
fn nobody_is_bound_to_one_of_two_tokens() {
    let of = |sub| format!("Bearer {}", token(&format!("{{\"sub\": \"{sub}\"}}")));
    let (ann, thief) = (of("ann"), of("thief"));
    let client = direct("192.0.2.1");
    let alone = [("authorization", &*ann)];
    assert!(bound("jwt:sub", &alone, client).is_some());
    assert_eq!(
        bound("jwt:sub", &[alone[0], ("authorization", &thief)], client),
        None
    );
}

proptest! {
    #[test]
    fn no_authorization_panics(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _named = of(&source("jwt:sub"), &value);
        let _named = of(&source("jwt:sub"), &[b"Bearer ", &value[..]].concat());
    }

    #[test]
    fn no_payload_panics(payload in "\\PC{0,60}", sub in "\\PC{0,20}") {
        let _named = of_payload(&payload);
        let claims = serde_json::json!({ "iss": payload, "sub": sub }).to_string();
        let wanted = [payload.as_bytes(), b"\0", sub.as_bytes()].concat();
        prop_assert_eq!(of_payload(&claims), (!sub.is_empty()).then_some(wanted));
    }
}
