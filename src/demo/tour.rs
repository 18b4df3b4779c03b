//! The text that `pinring demo` prints: commands to paste, in the order of a session's life.
//!
//! For sh and bash, with any curl of the last ten years. Remarks stand between the commands as
//! comments, so that the whole block can be pasted at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The commands that show one session at the proxy listening on `proxy`.
#[must_use]
pub fn tour(proxy: SocketAddr) -> String {
    TEXT.replace("{proxy}", &reachable(proxy).to_string())
}

/// An unspecified address is for listening; a client on this machine uses loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

const TEXT: &str = r##"# Paste what follows into a second terminal with bash or sh. Ctrl-C in this one ends the demo.

# A shorthand for the commands below: curl, with the headers that every MCP client sends.
mcp_curl() {
  curl -sS 'http://{proxy}/mcp' -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' "$@"
}

# 1. Open a session. One of the three replicas makes the id, a UUID of 36 characters.
#    The proxy appends a hyphen and the pin: 32 characters that name the place of that
#    replica on the ring. Any pinring with the same backends finds it from the pin alone.
ID=$(mcp_curl -D - -o /dev/null -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{
    "protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}' |
  tr -d '\r' | awk 'tolower($1) == "mcp-session-id:" { print $2 }')
echo "$ID"

# 2. Say that the client is ready. The answer is 202.
in_session() {
  mcp_curl -H "Mcp-Session-Id: $ID" -H 'MCP-Protocol-Version: 2025-11-25' "$@"
}
in_session -w '%{http_code}\n' -d '{"jsonrpc":"2.0","method":"notifications/initialized"}'

# 3. Count. The counter lives in the memory of one replica, so it goes up only if
#    every call reaches that one.
for n in 1 2 3; do
  in_session -w '\n' -d '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"count"}}'
done

# 4. A call that is answered by a stream: progress each second, then the result.
in_session -N -d '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{
    "name":"countdown","arguments":{"from":3},"_meta":{"progressToken":"c"}}}'

# 5. The stream of the server, at the same replica. It has no end: curl gives up after 5 seconds.
in_session -N --max-time 5 || echo "(the 5 seconds are over: curl was told to time out then)"

# 6. End the session: 200. After that nobody knows the id: 404.
in_session -X DELETE -w '%{http_code}\n'
in_session -w '\n%{http_code}\n' -d '{"jsonrpc":"2.0","id":4,"method":"ping"}'
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_wildcard_becomes_loopback() {
        let told = |address: &str| tour(address.parse().unwrap());
        assert!(told("0.0.0.0:81").contains("'http://127.0.0.1:81/mcp'"));
        assert!(told("[::]:81").contains("'http://[::1]:81/mcp'"));
        assert!(told("10.0.0.1:81").contains("'http://10.0.0.1:81/mcp'"));
    }

    #[test]
    fn the_first_line_says_where_the_rest_belongs() {
        let first = TEXT.lines().next().unwrap();
        for words in ["second terminal", "bash or sh", "Ctrl-C"] {
            assert!(first.contains(words), "{first}");
        }
    }

    /// curl says "Operation timed out", which looks like a fault of the proxy where nothing follows.
    #[test]
    fn the_end_of_the_endless_stream_is_told_as_meant() {
        let endless = TEXT.lines().find(|line| line.contains("--max-time"));
        assert!(endless.unwrap().contains("|| echo \"("));
    }

    /// zsh, the login shell of many, reads `#` at its prompt as a command's name: the words after
    /// it must then be harmless.
    #[test]
    fn remarks_hold_nothing_that_a_shell_acts_on() {
        for remark in TEXT.lines().filter(|line| line.starts_with('#')) {
            assert!(
                !remark.contains(|c| "'\"`$*?[](){}<>|&;!\\~".contains(c)),
                "{remark}"
            );
        }
    }
}
