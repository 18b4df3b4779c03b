use super::*;

fn pass(chunks: &[&[u8]], origin: Origin<'_>) -> String {
    let mut opening = Opening::default();
    let mut out = Vec::new();
    for chunk in chunks {
        if opening.is_over() {
            out.extend_from_slice(chunk);
        } else {
            out.extend(opening.push(chunk, origin, |query| {
                let mut pin = [b'a'; 32];
                pin[0] = b'0' + u8::try_from(query.len() % 10).unwrap();
                pin
            }));
        }
    }
    out.extend(opening.finish());
    String::from_utf8(out).unwrap()
}

const PLAIN: Origin<'static> = Origin {
    authority: "mcp.example:8080",
    prefix: "",
};
const TAIL: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn the_url_gets_the_parameter_whatever_ends_the_lines_and_wherever_chunks_are_cut() {
    for end in ["\n", "\r", "\r\n"] {
        let before = format!(": hello{end}{end}event: endpoint{end}data: /m?s=1");
        let after = format!("{end}{end}data: x{end}{end}");
        let stream = [before.as_str(), &after].concat();
        for cut in 0..stream.len() {
            let (one, two) = stream.as_bytes().split_at(cut);
            assert_eq!(
                pass(&[one, two], PLAIN),
                format!("{before}&pinring=3{TAIL}{after}"),
                "{end:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn urls_of_every_form_that_lead_here_are_pinned() {
    let url = |url: &str| {
        let passed = pass(
            &[format!("data:{url}\nevent:endpoint\n\n").as_bytes()],
            PLAIN,
        );
        passed
            .replace("\nevent:endpoint\n\n", "")
            .replace("data:", "")
    };
    assert_eq!(url("/m"), format!("/m?pinring=0{TAIL}"));
    assert_eq!(url("/m?"), format!("/m?&pinring=0{TAIL}"));
    assert_eq!(url("m/n?a=b#c"), format!("m/n?a=b&pinring=3{TAIL}#c"));
    assert_eq!(url("?a=b"), format!("?a=b&pinring=3{TAIL}"));
    assert_eq!(
        url("http://MCP.example:8080/m?a=b"),
        format!("http://MCP.example:8080/m?a=b&pinring=3{TAIL}")
    );
    assert_eq!(
        url("//mcp.example:8080?a"),
        format!("//mcp.example:8080?a&pinring=1{TAIL}")
    );
    for elsewhere in [
        "http://other/m",
        "http://mcp.example/m",
        "//other/m",
        "mailto:x",
    ] {
        assert_eq!(url(elsewhere), elsewhere);
    }
}

#[test]
fn a_byte_order_mark_counts_at_the_beginning_alone_wherever_chunks_are_cut() {
    let first = "\u{feff}event: endpoint\ndata: /m\n\n";
    let later = format!(": hello\n\n{first}data: x\n\n");
    assert!(pass(&[first.as_bytes()], PLAIN).contains("/m?pinring="));
    for cut in 0..later.len() {
        let (one, two) = later.as_bytes().split_at(cut);
        assert_eq!(pass(&[one, two], PLAIN), later, "cut at {cut}");
    }
}

#[test]
fn a_prefix_that_was_taken_off_is_put_back_once() {
    let origin = Origin {
        prefix: "/files",
        ..PLAIN
    };
    let url = |url: &str| {
        pass(
            &[format!("event: endpoint\ndata: {url}\n\n").as_bytes()],
            origin,
        )
    };
    assert!(url("/m?s=1").contains("data: /files/m?s=1&pinring="));
    assert!(url("/files/m?s=1").contains("data: /files/m?s=1&pinring="));
    assert!(url("m?s=1").contains("data: m?s=1&pinring="));
    assert!(
        url("http://mcp.example:8080/m").contains("data: http://mcp.example:8080/files/m?pinring=")
    );
}

#[test]
fn any_other_stream_passes_byte_for_byte() {
    for stream in [
        "data: {}\n\nevent: endpoint\ndata: /m\n\n",
        "event: message\ndata: /m\n\n",
        "event: endpoint\ndata: /m\ndata: n\n\n",
        "id: 1\nretry: 3000\ndata:\n\n",
        "event: endpoint\n",
        "event: endpoint\ndata: /m",
        "",
    ] {
        for cut in 0..stream.len() {
            let (one, two) = stream.as_bytes().split_at(cut);
            assert_eq!(pass(&[one, two], PLAIN), stream, "cut at {cut}");
        }
    }
}

#[test]
fn only_a_query_that_ends_in_a_pin_has_one() {
    let pin = format!("cj{}", "a".repeat(30));
    let own = |query: String| PinnedQuery::find(&query).map(|found| found.own().to_owned());
    assert_eq!(own(format!("pinring={pin}")), Some(String::new()));
    assert_eq!(own(format!("a=b&pinring={pin}")), Some("a=b".to_owned()));
    assert_eq!(own(format!("&pinring={pin}")), Some(String::new()));
    assert_eq!(
        own(format!("pinring={pin}&pinring={pin}")),
        Some(format!("pinring={pin}")),
        "exactly one is taken off"
    );
    for none in [
        String::new(),
        pin.clone(),
        format!("xpinring={pin}"),
        format!("pinring={pin}&a"),
        format!("pinring={}", pin.to_uppercase()),
        format!("pinring=a{pin}"),
        format!("pinring=ca{}", "a".repeat(30)),
    ] {
        assert_eq!(own(none.clone()), None, "{none}");
    }
}

#[test]
fn what_is_held_back_is_bounded_and_comments_do_not_wait() {
    let mut opening = Opening::default();
    let mut push = |data: &[u8]| {
        opening
            .push(data, PLAIN, |_| unreachable!("no endpoint"))
            .len()
    };
    assert_eq!(push(b": ping\n\nid: 1\n"), 8);
    assert_eq!(push(&[b'x'; MOST_HELD]), 6 + MOST_HELD);
    assert!(opening.is_over());
    let mut opening = Opening::default();
    let message = opening.push(b"id: 1\ndata: {", PLAIN, |_| unreachable!("no URL"));
    assert_eq!(&*message, b"id: 1\ndata: {", "a message leaves as it comes");
}

#[test]
fn a_query_that_any_server_may_read_a_session_from_names_one() {
    for query in [
        "session_id=1",
        "sessionId=1",
        "SESSIONID",
        "a=b&sessionid=1",
        "a;session-id=1",
        "%73ession%5Fid=1",
        "sessionId%5B0%5D=1",
        "[sessionId]=1",
    ] {
        assert!(names_session(query), "{query}");
    }
    for query in [
        "",
        "session=1",
        "x=sessionId",
        "mysession_id=1",
        "sessionIdle=1",
        "%=%",
    ] {
        assert!(!names_session(query), "{query}");
    }
}
