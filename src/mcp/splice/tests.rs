//! Answers and requests against tables, cut everywhere.

mod properties;

use serde_json::{Value, json};

use super::*;

/// What stands for a pin; `^` marks where it must be in the tables below.
const PIN: &str = "-aaaabbbbccccddddeeeeffffgggghhhh";

fn pinned(marked: &str) -> String {
    marked.replace('^', PIN)
}

/// What comes of `body` if it arrives in these pieces.
fn answer<'a>(mut answer: Answer, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let push = |piece: &[u8]| answer.push(Bytes::copy_from_slice(piece), |_, _| Some(PIN));
    pieces.into_iter().flat_map(push).collect()
}

/// Holds that `marked` without its marks becomes `marked` with pins, however it is cut.
fn assert_spliced(kind: fn() -> Answer, marked: &str) {
    let body = marked.replace('^', "");
    let expected = pinned(marked);
    let check = |spliced: Vec<u8>, how: &str| {
        assert_eq!(String::from_utf8_lossy(&spliced), expected, "{how}");
    };
    check(answer(kind(), body.as_bytes().chunks(1)), "byte by byte");
    for cut in 0..=body.len() {
        let (before, after) = body.as_bytes().split_at(cut);
        check(answer(kind(), [before, after]), "cut in two");
    }
}

#[test]
fn carriers_of_answers_are_pinned_and_nothing_else() {
    for marked in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"abc^"}}"#,
        r#"{"result":{"taskId":"t-1^","resultType":"task","status":"working","ttlMs":6e4}}"#,
        r#"{"method":"notifications/tasks","params":{"taskId":"t^","result":{"taskId":"no"}}}"#,
        r#"{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["a^","b^",3,["no"],{"taskIds":["no"]},"","c^"],"toolsListChanged":true}}}"#,
        " \r\n{\t\"result\" :\n{ \"requestState\" : \"x^\" , \"taskId\":\"y^\" } } \n",
        "\u{feff}{\"result\":{\"taskId\":\"y^\"}}",
        r#"{"result":{"content":[{"type":"text","text":"{\"result\":{\"taskId\":\"no\"}}"}],"requestState":"x^"}}"#,
        r#"{"result":{"a":{"result":{"taskId":"no"}},"b":[{"taskId":"no"},[[]],{}],"taskId":"y^"}}"#,
        r#"{"a":"}","b":"\\","c":"\"","d":["]","\\\"}"],"result":{"taskId":"y^"}}"#,
        r#"{"id":-1.50e+3,"x":null,"y":true,"result":{"taskId":"y^"}}"#,
        r#"{"result":{"structuredContent":{"mean":NaN},"taskId":"y^"}}"#,
        // A key may be written with escapes, and a longer one only begins alike.
        r#"{"re\u0073ult":{"task\u0049d":"y^","taskIdentifier":"no","taskId\u0000":"no"}}"#,
        r#"{"result":{"requestState":"\u00e9\ud83d\ude00\n\"^"}}"#,
        "{\"result\":{\"requestState\":\"\u{e9}\u{1f600}^\"}}",
        // Neither empty ones, nor those that are no Unicode or no string.
        r#"{"result":{"requestState":"","taskId":"y^"}}"#,
        r#"{"result":{"requestState":"\ud83d","taskId":"y^"}}"#,
        r#"{"result":{"requestState":"a\ude00b","taskId":"y^"}}"#,
        r#"{"result":{"requestState":null,"taskId":"y^"}}"#,
        r#"{"result":{"requestState":{"taskId":"no"},"taskId":["no"]}}"#,
        r#"{"params":{"notifications":{"taskIds":{"taskIds":"no"}},"notification":[]},"result":[{"taskId":"no"}]}"#,
        // Whichever of two counts, it is pinned.
        r#"{"result":{"taskId":"a^","taskId":"b^"},"result":{"taskId":"c^"}}"#,
        // Places of requests, and other places.
        r#"{"params":{"requestState":"no"},"taskId":"no","requestState":"no","taskIds":["no"]}"#,
        r#"{"id":1,"error":{"code":-32602,"message":"no","data":{"taskId":"no"}}}"#,
        r#"[{"result":{"taskId":"no"}}]"#,
        r#""taskId""#,
    ] {
        assert_spliced(Answer::json, marked);
    }
}

#[test]
fn after_a_fault_everything_passes() {
    for body in [
        r#"{"result":{"taskId" "y"}}"#,
        r#"{"result":{taskId:"y"}}"#,
        r#"{"result":{,"taskId":"y"}}"#,
        r#"{"a":1 2,"result":{"taskId":"y"}}"#,
        r#"{"a":"b" "c","result":{"taskId":"y"}}"#,
        r#"{"a":,"result":{"taskId":"y"}}"#,
        r#"{"a":1],"result":{"taskId":"y"}}"#,
        r#"{"params":{"notifications":{"taskIds":[}}},"result":{"taskId":"y"}}"#,
        r#"{"params":{"notifications":{"taskIds":[1}}},"result":{"taskId":"y"}}"#,
        r#"{} {"result":{"taskId":"y"}}"#,
        r#"{"result":{"taskId":"y"#,
        r#"{"result":{"taskId":"y\"}}"#,
        r#"x{"result":{"taskId":"y"}}"#,
        "{\"result\":{\"taskId\":\"\\x\"}}",
        "{\"result\":{\"taskId\":\"a\nb\"}}",
    ] {
        assert_spliced(Answer::json, body);
    }
    let no_utf8 = b"{\"result\":{\"taskId\":\"\xff\"}}";
    assert_eq!(answer(Answer::json(), [&no_utf8[..]]), no_utf8);
}

#[test]
fn deep_nesting_costs_no_stack() {
    let depth = 1_000_000;
    let deep = format!("{}{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
    let body = format!(r#"{{"x":{deep},"result":{{"taskId":"y"}}}}"#);
    let spliced = answer(Answer::json(), [body.as_bytes()]);
    assert!(spliced.ends_with(pinned(r#""y^"}}"#).as_bytes()));
}

#[test]
fn a_string_beyond_the_cap_passes_and_the_next_is_pinned() {
    let text = |len: usize, mark: &str| {
        format!(
            r#"{{"result":{{"requestState":"{}{mark}","taskId":"y^"}}}}"#,
            "s".repeat(len)
        )
    };
    for (len, mark) in [(MAX_STRING, "^"), (MAX_STRING + 1, "")] {
        let marked = text(len, mark);
        let body = marked.replace('^', "");
        let spliced = answer(Answer::json(), body.as_bytes().chunks(60_000));
        assert!(spliced == pinned(&marked).as_bytes(), "{len} bytes");
    }
}

#[test]
fn a_chunk_without_a_carrier_is_not_copied() {
    let chunk = Bytes::from_static(br#"{"result":{"content":[]}}"#);
    let passed = Answer::json().push(chunk.clone(), |_, _| Some(PIN));
    assert_eq!(passed.as_ptr(), chunk.as_ptr());
}

#[test]
fn the_minter_sees_kind_and_decoded_string_and_may_decline() {
    let mut seen = Vec::new();
    let body = r#"{"result":{"requestState":"\u00e9","taskId":"y"}}"#;
    let spliced = Answer::json().push(Bytes::from(body), |carrier, string| {
        seen.push((carrier, string.to_owned()));
        None::<&str>
    });
    assert_eq!(spliced, body);
    assert_eq!(
        seen,
        [
            (Carrier::RequestState, "\u{e9}".to_owned()),
            (Carrier::Task, "y".to_owned())
        ]
    );
}

#[test]
fn the_data_of_events_is_spliced_whatever_ends_their_lines() {
    for marked in [
        "data: {\"result\":{\"taskId\":\"y^\"}}\n\n",
        "data:{\"result\":{\"taskId\":\"y^\"}}\n\ndata:  {\"result\":{\"taskId\":\"z^\"}}\n\n",
        "event: message\nid: 1\ndata: {\"result\":{\"taskId\":\"y^\"}}\nretry: 3\n\n",
        ": data: {\"result\":{\"taskId\":\"no\"}}\n\ndata\ndata: {\"result\":{\"taskId\":\"y^\"}}\n\n",
        "data:\nid: 0\n\n: ping\n\n:\n\ndata: {\"result\":{\"taskId\":\"y^\"}}\n\n",
        "\u{feff}data: {\"result\":{\"taskId\":\"y^\"}}\n\n",
        "\u{feff}\ndata: {\"result\":{\"taskId\":\"y^\"}}\n\n",
        // Lines of one event make one text, and what stands between them does not matter.
        "data: {\"result\":\ndata: {\"taskId\":\nid: 7\n: x\ndata: \"y^\"\ndata\ndata: }}\n\n",
        // A line end is no part of a string, but belongs to none.
        "data: {\"result\":{\"taskId\":\"y\ndata: y\"}}\n\n",
        // The next event begins anew.
        "data: {\"result\":{\"taskId\":\"y\n\ndata: {\"result\":{\"taskId\":\"z^\"}}\n\n",
        "data: {\"result\":{\n\ndata: \"taskId\":\"y\"}}\n\ndata: {\"result\":{\"taskId\":\"z^\"}}\n\n",
        "data: nonsense\n\ndata: {\"result\":{\"taskId\":\"z^\"}}\n\n",
        // Other fields, and what is no byte order mark.
        "datum: {\"result\":{\"taskId\":\"no\"}}\ndata2: {\"result\":{\"taskId\":\"no\"}}\n\n",
        "dat\n\n data: {\"result\":{\"taskId\":\"no\"}}\nData: {\"result\":{\"taskId\":\"no\"}}\n\n",
        "\u{fee0}data: {\"result\":{\"taskId\":\"no\"}}\n\ndata: {\"result\":{\"taskId\":\"y^\"}}\n\n",
        "\n\u{feff}data: {\"result\":{\"taskId\":\"no\"}}\n\n",
    ] {
        for end in ["\n", "\r", "\r\n"] {
            assert_spliced(Answer::events, &marked.replace('\n', end));
        }
    }
}

/// Strips what ends in [`PIN`].
fn strip(body: &str) -> String {
    let stripped = Request::read(Bytes::copy_from_slice(body.as_bytes()))
        .strip(|found| found.string.strip_suffix(PIN).map(str::len));
    String::from_utf8(stripped.into()).unwrap()
}

#[test]
fn requests_name_their_id_and_carriers() {
    let read = |body: &str| Request::read(Bytes::copy_from_slice(body.as_bytes()));
    let request = read(
        r#"{"id":1,"params":{"id":"no","taskId":"t\u002d1","_meta":{"taskId":"no"},"arguments":{"requestState":"no"},"requestState":"s","notifications":{"taskIds":["a",1,"b"]}},"id" : "a\u0022" ,"result":{"taskId":"no"},"taskIds":["no"]}"#,
    );
    assert_eq!(request.id(), Some(&br#""a\u0022""#[..]));
    let found = request.found().iter();
    let found: Vec<_> = found
        .map(|found| (found.carrier, found.string.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (Carrier::Task, "t-1"),
            (Carrier::RequestState, "s"),
            (Carrier::Task, "a"),
            (Carrier::Task, "b"),
        ]
    );
    for nothing in [
        "",
        "[]",
        "{",
        r#"[{"method":"x","params":{"taskId":"t"}}]"#,
        r#"[{"id":1}]"#,
        r#"{"id":{"id":1}}"#,
        r#"{"id":["x"],"result":{"id":1}}"#,
    ] {
        let request = read(nothing);
        assert!(
            request.id().is_none() && request.found().is_empty(),
            "{nothing}"
        );
        assert_eq!(request.strip(|_| None), nothing);
    }
    for id in ["-1.5e+3", "0", "\"\"", "\"a\\\\\"", "null"] {
        for body in [
            format!(r#"{{"id":{id}}}"#),
            format!("{{\"id\":\t{id}\n,\"params\":{{}}}}"),
        ] {
            assert_eq!(read(&body).id(), Some(id.as_bytes()), "{body}");
        }
    }
}

#[test]
fn pins_are_stripped_and_every_other_byte_stays() {
    for marked in [
        r#"{"method":"tasks/get","params":{"taskId":"t-1^"}}"#,
        r#" { "params" : { "requestState" : "s^", "n":1.0e2, "arguments":{"requestState":"x-y"}} } "#,
        r#"{"params":{"requestState":"\u00e9\"^","taskId":"none","requestState":"b^"}}"#,
        r#"{"params":{"notifications":{"taskIds":["a^", "b" ,"c^"]}}}"#,
    ] {
        assert_eq!(strip(&pinned(marked)), marked.replace('^', ""));
    }
    // Exactly one pin is taken off.
    let twice = pinned(r#"{"params":{"taskId":"t^^"}}"#);
    assert_eq!(strip(&twice), pinned(r#"{"params":{"taskId":"t^"}}"#));
}

#[test]
fn pins_written_with_escapes_are_stripped_with_them() {
    let escaped: String = PIN
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    for (written, own) in [
        ("t\\u002daaaabbbbccccddddeeeeffffgggghhhh", "t"),
        ("t-aaaabbbbccccddddeeeeffffgggghhh\\u0068", "t"),
        (
            "\\u00e9\\/\\n-aaaabbbbccccddddeeeeffffgggghhh\\u0068",
            "\u{e9}/\\n",
        ),
        (escaped.as_str(), "-aaaabbbb"),
    ] {
        let written = if written == escaped {
            format!("-aaaabbbb{written}")
        } else {
            written.to_owned()
        };
        let body = |string: &str| format!(r#"{{"params":{{"x":1e1,"taskId" :"{string}"}}}}"#);
        assert_eq!(strip(&body(&written)), body(own));
    }
}

#[test]
fn no_length_that_is_given_can_break_a_body() {
    // The last digit of an escape may equal what it stands for: cut there, the rest would be no JSON.
    for string in [
        r"a\u0031",
        r"\u0031\u0031",
        r"\\n",
        "\u{e9}\u{e9}",
        r"\ud83d\ude00x",
    ] {
        let body = format!(r#"{{"params":{{"taskId":"{string}"}}}}"#);
        let decoded: Value = serde_json::from_str(&body).unwrap();
        let decoded = decoded["params"]["taskId"].as_str().unwrap();
        for len in 0..decoded.len() + 2 {
            let stripped = Request::read(Bytes::from(body.clone())).strip(|_| Some(len));
            let value: Value = serde_json::from_slice(&stripped).unwrap();
            assert_eq!(
                value["params"]["taskId"],
                decoded.get(..len).unwrap_or(decoded)
            );
        }
    }
}

#[test]
fn a_request_is_searched_for_so_many_carriers() {
    let ids = vec![PIN.trim_start_matches('-'); MAX_FOUND + 5];
    let body = json!({"params": {"notifications": {"taskIds": ids}}}).to_string();
    let body = body
        .replacen('{', "{\"id\":1,", 1)
        .replace("]}}}", "]}},\"id\":7}");
    let request = Request::read(Bytes::from(body));
    assert_eq!(request.found().len(), MAX_FOUND);
    assert_eq!(request.id(), Some(&b"7"[..]));
}

#[test]
fn carriers_never_show_themselves() {
    let request = Request::read(Bytes::from(
        r#"{"method":"m","params":{"taskId":"sesame"}}"#,
    ));
    assert_eq!(
        format!("{request:?}"),
        r#"Request { found: [Task(6 bytes)], .. }"#
    );
    let mut open = Answer::json();
    let _passed = open.push(Bytes::from(r#"{"result":{"taskId":"sesame"#), |_, _| {
        Some(PIN)
    });
    assert!(!format!("{open:?}").contains("sesame"));
}
