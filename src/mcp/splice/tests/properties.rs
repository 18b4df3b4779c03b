//! Answers and requests against what `serde_json` makes of them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// Values in which carriers and what resembles them are frequent.
fn messages() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\/\n\u{e9}\u{1f600}{}:,\\[\\]]{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        4 => prop::sample::select(vec![
            "result", "params", "requestState", "taskId", "notifications", "taskIds", "method",
        ]).prop_map(str::to_owned),
        1 => "[a-z\"\\\\\u{e9}]{0,20}",
    ];
    let value = leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    });
    (value.clone(), value).prop_map(|(result, params)| json!({"result": result, "params": params}))
}

/// The message as it must be after splicing, told from its parsed value.
fn expected(side: Side, message: &Value) -> Value {
    let mut message = message.clone();
    let places: &[&str] = match side {
        Side::Answer => &["/result/requestState", "/result/taskId", "/params/taskId"],
        Side::Request => &["/params/requestState", "/params/taskId"],
    };
    let pin = |value: &mut Value| {
        if let Value::String(string) = value
            && !string.is_empty()
        {
            string.push_str(PIN);
        }
    };
    // Pointers would read arrays too, but none of these keys is a number.
    places.iter().for_each(|place| {
        message.pointer_mut(place).map(pin);
    });
    if let Some(Value::Array(ids)) = message.pointer_mut("/params/notifications/taskIds") {
        ids.iter_mut().for_each(pin);
    }
    message
}

/// Writes a value with random escapes and spaces; `space` is the kind of it.
fn write(value: &Value, random: &mut fastrand::Rng, space: &str, text: &mut String) {
    let gap = |random: &mut fastrand::Rng, text: &mut String| {
        if random.u8(..4) == 0 {
            text.push_str(space);
        }
    };
    gap(random, text);
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
        Value::String(string) => write_string(string, random, text),
        Value::Array(elements) => {
            text.push('[');
            for (at, element) in elements.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write(element, random, space, text);
            }
            gap(random, text);
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (at, (key, member)) in members.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                gap(random, text);
                write_string(key, random, text);
                gap(random, text);
                text.push(':');
                write(member, random, space, text);
            }
            gap(random, text);
            text.push('}');
        }
    }
    gap(random, text);
}

fn write_string(string: &str, random: &mut fastrand::Rng, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        if random.u8(..5) == 0 {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            let quoted = Value::from(character.to_string()).to_string();
            text.push_str(quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap());
        }
    }
    text.push('"');
}

/// Cuts bytes into pieces of random lengths.
fn pieces<'a>(bytes: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(20)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The data of the events in a stream, read the plain way.
fn data_of(stream: &str) -> Vec<String> {
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let events = lines.split("\n\n").map(|event| {
        let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<_> = data
            .map(|data| data.strip_prefix(' ').unwrap_or(data))
            .collect();
        data.join("\n")
    });
    events.filter(|data| !data.is_empty()).collect()
}

proptest! {
    #[test]
    fn only_the_carriers_of_an_answer_differ_to_a_parser(message in messages(), seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut body = String::new();
        write(&message, &mut random, " \r\n\t", &mut body);
        let spliced = answer(Answer::json(), pieces(body.as_bytes(), &mut random));
        let parsed: Value = serde_json::from_slice(&spliced).unwrap();
        prop_assert_eq!(parsed, expected(Side::Answer, &message));
    }

    #[test]
    fn only_the_carriers_of_a_stream_differ_to_a_parser(
        messages in prop::collection::vec(messages(), 1..4),
        seed: u64,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let end = ["\n", "\r", "\r\n"][random.usize(..3)];
        let mut stream = String::new();
        for message in &messages {
            let mut body = String::new();
            write(message, &mut random, "\n", &mut body);
            for line in body.lines() {
                let space = ["", " "][random.usize(..2)];
                let other = ["", ": taskId", "id: 1"][random.usize(..3)];
                stream.push_str(&format!("data:{space}{line}{end}"));
                if !other.is_empty() {
                    stream.push_str(&format!("{other}{end}"));
                }
            }
            stream.push_str(end);
        }
        let spliced = answer(Answer::events(), pieces(stream.as_bytes(), &mut random));
        let spliced = data_of(&String::from_utf8(spliced).unwrap());
        prop_assert_eq!(spliced.len(), messages.len());
        for (data, message) in spliced.iter().zip(&messages) {
            let parsed: Value = serde_json::from_str(data).unwrap();
            prop_assert_eq!(parsed, expected(Side::Answer, message));
        }
    }

    #[test]
    fn a_parser_sees_requests_as_they_were_before_pinning(message in messages(), seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut body = String::new();
        write(&expected(Side::Request, &message), &mut random, " ", &mut body);
        let parsed: Value = serde_json::from_str(&strip(&body)).unwrap();
        prop_assert_eq!(parsed, message);
    }

    #[test]
    fn what_was_spliced_is_stripped_to_the_same_bytes(message in messages(), seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        // What is a carrier in both directions.
        let mut message = message;
        message.as_object_mut().unwrap().remove("result");
        let mut body = String::new();
        write(&message, &mut random, " ", &mut body);
        let spliced = answer(Answer::json(), [body.as_bytes()]);
        prop_assert_eq!(strip(&String::from_utf8(spliced).unwrap()), body);
    }

    #[test]
    fn of_any_bytes_nothing_is_lost_and_the_cuts_do_not_matter(
        tokens in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", "\"", "\\", " ", "\n", "\r", "1", "\\u00e9", "\\ud83d",
                    "\"result\"", "\"params\"", "\"taskId\"", "\"taskIds\"", "\"notifications\"",
                    "{\"result\":{\"taskId\":", "data:", "data: ", "\n\n", "id: 1\n",
                ]).prop_map(|token| token.as_bytes().to_vec()),
                1 => prop::collection::vec(any::<u8>(), 1..3),
            ],
            0..60,
        ),
        seed: u64,
    ) {
        // No part of any text above, so that taking it out again is certain.
        const MARK: &[u8] = b"\x07<pin>\x07";
        let bytes = tokens.concat();
        let mut random = fastrand::Rng::with_seed(seed);
        for kind in [Answer::json, Answer::events] {
            let mut whole = kind();
            let mut count = 0;
            let spliced = whole.push(Bytes::from(bytes.clone()), |_, _| {
                count += 1;
                Some(MARK)
            });
            prop_assert_eq!(spliced.len(), bytes.len() + count * MARK.len());
            let mut left = Vec::new();
            let mut rest = &spliced[..];
            while !rest.is_empty() {
                match rest.strip_prefix(MARK) {
                    Some(after) => rest = after,
                    None => {
                        left.push(rest[0]);
                        rest = &rest[1..];
                    }
                }
            }
            prop_assert_eq!(&left, &bytes);
            let mut cut = kind();
            let pieces = pieces(&bytes, &mut random);
            let push = |piece: &[u8]| cut.push(Bytes::copy_from_slice(piece), |_, _| Some(MARK));
            let cut: Vec<u8> = pieces.into_iter().flat_map(push).collect();
            prop_assert_eq!(&cut[..], &spliced[..]);
        }
        let body = Bytes::from(bytes);
        let same = Request::read(body.clone()).strip(|_| None);
        prop_assert_eq!(same, body.clone());
        let _shorter = Request::read(body).strip(|found| Some(found.string.len() / 2));
    }
}
