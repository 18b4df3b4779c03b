//! A reader of requests that takes only what no two servers could read differently (RFC 9112, and what pinring promises
//! beyond it).

/// One request that is beyond doubt.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Method and target.
    pub(super) asked: String,
    /// Names in lower case, and values.
    pub(super) headers: Vec<(String, String)>,
    /// Without chunk framing.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// The value of a header that is there once.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What was asked for, and with which body: what an echo says.
    pub(super) fn echo(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let echo = format!("{} {body}", self.asked);
        echo.trim_end().to_owned()
    }
}

/// Headers of which a backend sees one at most: those of framing and routing, and those that say whose a request is.
const SINGLE: &[&str] = &[
    "authorization",
    "content-length",
    "host",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "origin",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Headers of the client's connection.
const OF_ONE_CONNECTION: &[&str] = &[
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// The first request in `bytes`, and its length; `None` if it is not all there.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        // What is there of a head must be the beginning of a good one.
        let lines = &bytes[..find_last_line(bytes)];
        if !lines.is_empty() {
            head(lines)?;
        }
        return Ok(None);
    };
    let (asked, headers) = head(&bytes[..end])?;
    let mut message = Message {
        asked,
        headers,
        body: Vec::new(),
    };
    whole_head(&message)?;
    let rest = &bytes[end + 4..];
    let length = match (
        message.header("content-length"),
        message.header("transfer-encoding"),
    ) {
        (None, None) => 0,
        (Some(length), None) => {
            let length = decimal(length)?;
            let Some(body) = rest.get(..length) else {
                return Ok(None);
            };
            message.body = body.to_vec();
            length
        }
        (None, Some("chunked")) => match chunks(rest)? {
            Some((body, length)) => {
                message.body = body;
                length
            }
            None => return Ok(None),
        },
        (None, Some(coding)) => return Err(format!("transfer coding {coding:?}")),
        (Some(_), Some(_)) => return Err("two framings".into()),
    };
    Ok(Some((message, end + 4 + length)))
}

fn head(bytes: &[u8]) -> Result<(String, Vec<(String, String)>), String> {
    let text = bytes.iter().map(|byte| char::from(*byte));
    if let Some(control) = text
        .clone()
        .find(|&char| char.is_control() && !matches!(char, '\r' | '\n' | '\t' | '\u{80}'..))
    {
        return Err(format!("a control character, {control:?}"));
    }
    let text: String = text.collect();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let asked = request_line(first)?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        let (name, value) = header(line)?;
        let again = headers.iter().any(|(earlier, _)| *earlier == name);
        if again && SINGLE.contains(&&*name) {
            return Err(format!("{name} twice"));
        }
        headers.push((name, value));
    }
    Ok((asked, headers))
}

fn request_line(line: &str) -> Result<String, String> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err(format!("the request line {line:?}"));
    };
    if !is_token(method) || method == "CONNECT" || method == "TRACE" {
        return Err(format!("the method {method:?}"));
    }
    let origin_form = target.starts_with('/') || (method == "OPTIONS" && target == "*");
    if !origin_form || !target.bytes().all(|byte| byte.is_ascii_graphic()) || target.contains('#') {
        return Err(format!("the target {target:?}"));
    }
    Ok(format!("{method} {target}"))
}

fn header(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or(format!("the line {line:?}"))?;
    if !is_token(name) || line.contains(['\r', '\n']) {
        return Err(format!("the line {line:?}"));
    }
    let name = name.to_ascii_lowercase();
    if OF_ONE_CONNECTION.contains(&&*name) {
        return Err(format!("{name} is of the client's connection"));
    }
    let hyphened = name.replace('_', "-");
    if name != hyphened && (SINGLE.contains(&&*hyphened) || hyphened.starts_with("mcp-")) {
        return Err(format!("the twin {name}"));
    }
    Ok((name, value.trim_matches([' ', '\t']).to_owned()))
}

/// What can be said of a head only when it is all there.
fn whole_head(message: &Message) -> Result<(), String> {
    let host = message.header("host").ok_or("no Host")?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    let literal = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let good_name = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte);
            !name.is_empty() && name.bytes().all(good)
        }
    };
    let good_port = port.is_empty() || port.parse::<u16>().is_ok_and(|_| !port.starts_with('+'));
    if !good_name || !good_port {
        return Err(format!("the Host {host:?}"));
    }
    if let Some(id) = message.header("mcp-session-id")
        && !((1..=4096).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err("the session id".into());
    }
    Ok(())
}

/// A body in chunks, and its length with them; `None` if it is not all there. Nothing but sizes and data.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let Some(end) = find(rest, b"\r\n") else {
            let partial = rest.strip_suffix(b"\r").unwrap_or(rest);
            if !partial.is_empty() {
                hexadecimal(partial)?;
            }
            return Ok(None);
        };
        let size = hexadecimal(&rest[..end])?;
        let begin = at + end + 2;
        let Some(data) = bytes.get(begin..begin + size) else {
            return Ok(None);
        };
        let Some(line_end) = bytes.get(begin + size..begin + size + 2) else {
            return Ok(None);
        };
        if line_end != b"\r\n" {
            return Err("a chunk does not end with its line, or a trailer follows".into());
        }
        body.extend_from_slice(data);
        at = begin + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

/// A length, written in the one way that nobody reads otherwise.
pub(super) fn decimal(text: &str) -> Result<usize, String> {
    let length: usize = text.parse().map_err(|_| format!("the length {text:?}"))?;
    if length.to_string() == text {
        Ok(length)
    } else {
        Err(format!("the length {text:?}"))
    }
}

/// The same of a chunk's.
pub(super) fn hexadecimal(digits: &[u8]) -> Result<usize, String> {
    let text = String::from_utf8_lossy(digits);
    let size = usize::from_str_radix(&text, 16).map_err(|_| format!("the chunk size {text:?}"))?;
    if format!("{size:x}").eq_ignore_ascii_case(&text) {
        Ok(size)
    } else {
        Err(format!("the chunk size {text:?}"))
    }
}

fn is_token(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(good)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Where the last whole line of `bytes` ends.
fn find_last_line(bytes: &[u8]) -> usize {
    let last = bytes.windows(2).rposition(|window| window == b"\r\n");
    last.unwrap_or_default()
}

#[test]
fn the_strict_reader_refuses_what_is_in_doubt() {
    let good = "POST /mcp HTTP/1.1\r\nhost: a:80\r\ncontent-length: 2\r\n\r\nab";
    let (message, length) = read(good.as_bytes()).unwrap().unwrap();
    assert_eq!(
        (message.echo(), length),
        ("POST /mcp ab".into(), good.len())
    );
    for from in 0..good.len() {
        assert!(read(&good.as_bytes()[..from]).unwrap().is_none(), "{from}");
    }
    let chunked =
        "POST / HTTP/1.1\r\nhost: [::1]\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    assert_eq!(
        read(chunked.as_bytes()).unwrap().unwrap().0.echo(),
        "POST / ab"
    );
    let line = "POST / HTTP/1.1\r\n";
    for bad in [
        "POST / HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
        "POST http://a/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\nhost: a\r\n\r\n".to_owned(),
        format!("{line}\r\n"),
        format!("{line}host: a\r\nhost: a\r\n\r\n"),
        format!("{line}host: a\r\nx: y\n\r\n\r\n"),
        format!("{line}host: a\r\nx: y\0\r\n\r\n"),
        format!("{line}host: a\r\n x: y\r\n\r\n"),
        format!("{line}host: a\r\nx : y\r\n\r\n"),
        format!("{line}host: a\r\ncontent-length: 01\r\n\r\na"),
        format!("{line}host: a\r\ncontent-length: +1\r\n\r\na"),
        format!("{line}host: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na"),
        format!("{line}host: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
        format!("{line}host: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
        format!("{line}host: a\r\ntransfer-encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\n\r\n"),
        format!("{line}host: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n"),
        format!("{line}host: a\r\nconnection: close\r\n\r\n"),
        format!("{line}host: a\r\nmcp_session_id: x\r\n\r\n"),
    ] {
        assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
