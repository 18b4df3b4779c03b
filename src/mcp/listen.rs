//! `subscriptions/listen` (2026-07-28, Basic, "Subscriptions"), as far as several servers are to be one to its client:
//! what a request asks of each, and what a message of theirs is to the others.
//!
//! All messages of a stream carry the id of the request, which is the same for all servers that get it. What a server
//! agrees to is said by its first message, `notifications/subscriptions/acknowledged`; its last is the response to the
//! request, if the server itself ends the stream.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

/// The method of the request.
pub const METHOD: &str = "subscriptions/listen";

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const TASK_IDS: &str = "taskIds";

/// A request, read.
pub struct Request {
    body: Bytes,
    /// The array of `taskIds` in the body.
    written: Option<Range<usize>>,
    task_ids: Vec<Value>,
    asks_for_more: bool,
}

#[derive(Deserialize)]
struct Sent<'a> {
    method: String,
    #[serde(rename = "id")]
    _id: Value,
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    notifications: &'a RawValue,
}

#[derive(Deserialize)]
struct Filter<'a> {
    #[serde(rename = "taskIds", borrow, default)]
    task_ids: Option<&'a RawValue>,
}

impl Request {
    /// Reads a body; `None` if it is no such request, or could mean different things to different servers.
    #[must_use]
    pub fn read(body: &Bytes) -> Option<Self> {
        let sent: Sent<'_> = serde_json::from_slice(body).ok()?;
        let filter = sent.params.notifications.get();
        let ids = serde_json::from_str::<Filter<'_>>(filter).ok()?.task_ids;
        let task_ids = match ids {
            Some(ids) => serde_json::from_str(ids.get()).ok()?,
            None => Vec::new(),
        };
        let kinds: BTreeMap<String, Value> = serde_json::from_str(filter).ok()?;
        let asks = |(kind, value): (&String, &Value)| kind != TASK_IDS && !is_nothing(value);
        (sent.method == METHOD).then(|| Self {
            body: body.clone(),
            written: ids.map(|ids| range_in(body, ids.get())),
            task_ids,
            asks_for_more: kinds.iter().any(asks),
        })
    }

    /// The elements of `taskIds`: strings, unless the client errs.
    #[must_use]
    pub fn task_ids(&self) -> &[Value] {
        &self.task_ids
    }

    /// Whether it asks for anything but news of tasks.
    #[must_use]
    pub fn asks_for_more(&self) -> bool {
        self.asks_for_more
    }

    /// The body with these `taskIds`, and every other byte as it was. Where there are none, they are not added.
    #[must_use]
    pub fn body_with(&self, ids: &[Value]) -> Bytes {
        match &self.written {
            Some(written) => splice(&self.body, written, &Value::from(ids).to_string()),
            None => self.body.clone(),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} tasks)", self.task_ids.len())
    }
}

/// What asks for nothing in a filter.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
    }
}

/// Where `part` of the text `whole` begins and ends.
fn range_in(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

fn splice(whole: &[u8], range: &Range<usize>, with: &str) -> Bytes {
    let (before, behind) = (&whole[..range.start], &whole[range.end..]);
    Bytes::from([before, with.as_bytes(), behind].concat())
}

/// What a message is to those who hear several servers.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// What the server agrees to: the stream has begun.
    Acknowledged(Agreed),
    /// The stream is over: the response to its request.
    Ended {
        /// It is an error.
        is_error: bool,
    },
    /// Anything else: news.
    News,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl Said {
    /// Tells it by the data of an event. What is no message is news to whoever understands it.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(data) else {
            return Self::News;
        };
        match message.method.as_deref() {
            Some(ACKNOWLEDGED) => {
                let agreed = message.params.and_then(Agreed::of);
                Self::Acknowledged(agreed.unwrap_or_default())
            }
            Some(_) => Self::News,
            None if message.error.is_some() => Self::Ended { is_error: true },
            None if message.result.is_some() => Self::Ended { is_error: false },
            None => Self::News,
        }
    }
}

/// What a server, or several, agreed to send.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agreed(Map<String, Value>);

impl Agreed {
    fn of(params: &RawValue) -> Option<Self> {
        let params: Params<'_> = serde_json::from_str(params.get()).ok()?;
        let agreed = serde_json::from_str(params.notifications.get()).ok()?;
        Some(Self(agreed))
    }

    /// Adds what another server agreed to: each kind that one of them sends, and each element of a list.
    /// Returns whether there was anything new in it.
    pub fn add(&mut self, other: Self) -> bool {
        let before = self.clone();
        for (kind, value) in other.0 {
            match (self.0.get_mut(&kind), value) {
                (Some(Value::Array(known)), Value::Array(more)) => {
                    for element in more {
                        if !known.contains(&element) {
                            known.push(element);
                        }
                    }
                }
                (Some(known), value) if is_nothing(known) => *known = value,
                (Some(_), _) => {}
                (None, value) => drop(self.0.insert(kind, value)),
            }
        }
        *self != before
    }

    /// The acknowledgement `data`, saying this instead; on one line.
    #[must_use]
    pub fn write_into(&self, data: &[u8]) -> Option<Bytes> {
        let message: Message<'_> = serde_json::from_slice(data).ok()?;
        let params: Params<'_> = serde_json::from_str(message.params?.get()).ok()?;
        let said = range_in(data, params.notifications.get());
        let text = to_raw_value(&self.0).ok()?;
        let written = splice(data, &said, text.get());
        // Line ends of JSON are mere space.
        Some(
            written
                .iter()
                .map(|byte| if *byte == b'\n' { b' ' } else { *byte })
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(params: &str) -> Option<Request> {
        let body = format!("{{\"id\":1,\"method\":\"{METHOD}\", \"params\" : {params}}}");
        Request::read(&Bytes::from(body))
    }

    fn agreed(notifications: &Value) -> Agreed {
        Agreed(notifications.as_object().unwrap().clone())
    }

    #[test]
    fn a_request_is_split_by_its_ids_and_keeps_every_other_byte() {
        let params = "{\"n\":1.0e2, \"notifications\":{ \"taskIds\" : [\"a\",\n\"b\\u0041\", 7],\"toolsListChanged\":true}}";
        let request = read(params).unwrap();
        assert_eq!(request.task_ids(), [json!("a"), json!("bA"), json!(7)]);
        assert!(request.asks_for_more());
        let body = request.body_with(&request.task_ids()[1..]);
        let expected = params.replace("[\"a\",\n\"b\\u0041\", 7]", "[\"bA\",7]");
        assert!(String::from_utf8_lossy(&body).ends_with(&format!(" : {expected}}}")));
        assert!(
            request
                .body_with(&[])
                .ends_with(b"\"taskIds\" : [],\"toolsListChanged\":true}}}")
        );
        let without = read("{\"notifications\":{\"toolsListChanged\":true}}").unwrap();
        assert_eq!(without.body_with(&[]), without.body);
    }

    #[test]
    fn a_filter_may_ask_for_nothing_but_tasks() {
        for (filter, asks) in [
            ("{}", false),
            ("{\"taskIds\":[\"a\"]}", false),
            (
                "{\"toolsListChanged\":false,\"resourceSubscriptions\":[],\"x\":null}",
                false,
            ),
            ("{\"resourceSubscriptions\":[\"file:///a\"]}", true),
            ("{\"somethingNew\":{}}", true),
        ] {
            let request = read(&format!("{{\"notifications\":{filter}}}")).unwrap();
            assert_eq!(request.asks_for_more(), asks, "{filter}");
        }
    }

    #[test]
    fn what_is_no_plain_request_is_not_read() {
        for params in [
            "{}",
            "[]",
            "{\"notifications\":5}",
            "{\"notifications\":{},\"notifications\":{}}",
            "{\"notifications\":{\"taskIds\":[\"a\"],\"taskIds\":[\"b\"]}}",
            "{\"notifications\":{\"taskIds\":\"a\"}}",
        ] {
            assert!(read(params).is_none(), "{params}");
        }
        for body in [
            "{\"id\":1,\"method\":\"tools/call\",\"params\":{\"notifications\":{}}}",
            "{\"method\":\"subscriptions/listen\",\"params\":{\"notifications\":{}}}",
            "[]",
            "",
        ] {
            let body = Bytes::from_static(body.as_bytes());
            assert!(Request::read(&body).is_none(), "{body:?}");
        }
    }

    #[test]
    fn messages_are_told_apart() {
        let ended = |is_error| Said::Ended { is_error };
        let all = agreed(&json!({ "toolsListChanged": true }));
        for (data, said) in [
            (
                "{\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"notifications\":{\"toolsListChanged\":true}}}",
                Said::Acknowledged(all),
            ),
            (
                "{\"method\":\"notifications/subscriptions/acknowledged\"}",
                Said::Acknowledged(Agreed::default()),
            ),
            ("{\"id\":1,\"result\":{}}", ended(false)),
            ("{\"id\":1,\"error\":{\"code\":-32603}}", ended(true)),
            (
                "{\"method\":\"notifications/tools/list_changed\",\"params\":{\"result\":1}}",
                Said::News,
            ),
            ("{\"method\":\"x\",\"result\":1}", Said::News),
            ("{\"method\":5}", Said::News),
            ("garbage", Said::News),
            ("[]", Said::News),
        ] {
            assert_eq!(Said::of(data.as_bytes()), said, "{data}");
        }
    }

    #[test]
    fn what_several_agreed_to_is_what_one_of_them_sends() {
        let mut all = agreed(&json!({ "toolsListChanged": true, "taskIds": ["a"], "x": false }));
        let same = json!({ "taskIds": ["a"], "toolsListChanged": true });
        assert!(!all.add(agreed(&same)));
        let more = json!({ "taskIds": ["b", "a"], "promptsListChanged": true, "x": true });
        assert!(all.add(agreed(&more)));
        let expected = json!({ "toolsListChanged": true, "promptsListChanged": true, "taskIds": ["a", "b"], "x": true });
        assert_eq!(all, agreed(&expected));

        let data = b"{\"method\":\"m\",\n\"params\":{\"notifications\" : {\"taskIds\":[\"a\"]}, \"_meta\":{\"n\":1.0}}}";
        let written = all.write_into(data).unwrap();
        let (before, behind) = (
            "{\"method\":\"m\", \"params\":{\"notifications\" : ",
            ", \"_meta\":{\"n\":1.0}}}",
        );
        let written = str::from_utf8(&written).unwrap();
        let said = written
            .strip_prefix(before)
            .unwrap()
            .strip_suffix(behind)
            .unwrap();
        assert_eq!(serde_json::from_str::<Value>(said).unwrap(), expected);
    }
}
