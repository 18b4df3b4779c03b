//! The handshake itself: `initialize` as it was recorded, its result, `notifications/initialized`.
//!
//! With the credentials of the request that waits for it: none are stored.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;

use super::Renewal;
use crate::{
    mcp::{
        Era, era,
        initialize::{self, Reply},
        session::ServerSessionId,
        sse,
    },
    proxy::{
        Asked,
        body::RequestBody,
        deliver::{Delivered, Delivery},
        headers,
    },
    ring::Member,
    router::{Decision, Why, asker::Asker},
    sessions::store::Handshake,
    upstream::{self, Interrupted},
};

/// The longest answer to `initialize`: some servers send pages of instructions.
const MOST_BYTES: usize = 256 * 1024;

/// What came of one attempt.
pub(super) enum Opened {
    /// The backend's own id of the session that it opened.
    Session(Member, ServerSessionId),
    /// 401 or 403: the client must hear it, for it begins the login.
    Denied(Box<Delivered>),
    /// This session cannot be opened there, nor anywhere.
    Rejected,
    /// Another backend may be able to.
    Failed,
}

/// How a server answered a request of the handshake.
enum Verdict {
    Accepted,
    Denied,
    Rejected,
    Failed,
}

impl Verdict {
    fn of(status: StatusCode) -> Self {
        match status {
            _ if status.is_success() => Self::Accepted,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Self::Failed
            }
            _ if status.is_server_error() => Self::Failed,
            _ => Self::Rejected,
        }
    }
}

impl Renewal<'_> {
    /// Opens a session at a backend.
    pub(super) async fn open(&self, decision: Decision, handshake: &Handshake) -> Opened {
        let request = self.request(handshake, handshake.body.clone());
        let mut delivered = match self.send(decision, request).await {
            Ok(delivered) => delivered,
            Err(opened) => return opened,
        };
        let id = delivered.response.headers_mut().remove(era::SESSION_ID);
        let Some(id) = id.and_then(|id| ServerSessionId::try_from(id).ok()) else {
            return Opened::Rejected;
        };
        let member = delivered.member;
        let version = match read_reply(delivered).await {
            Ok(Some(Reply::Version(version))) => version,
            Ok(Some(Reply::Error) | None) => return Opened::Rejected,
            Err(_broken) => return Opened::Failed,
        };
        // A client that has negotiated one revision does not change to another within its session.
        let named = self.head.headers.get(era::PROTOCOL_VERSION);
        if named.is_some_and(|named| named.as_bytes() != version.as_bytes()) {
            return Opened::Rejected;
        }
        let mut request = self.request(
            handshake,
            Bytes::from_static(initialize::INITIALIZED.as_bytes()),
        );
        let headers = request.headers_mut();
        headers.insert(era::SESSION_ID, id.clone().into_value());
        if let Ok(version) = HeaderValue::try_from(version) {
            headers.insert(era::PROTOCOL_VERSION, version);
        }
        let decision = Decision {
            member,
            why: Why::Reinitialized,
            session: Some(id.clone()),
            limit: None,
        };
        match self.send(decision, request).await {
            Ok(_accepted) => Opened::Session(member, id),
            Err(opened) => opened,
        }
    }

    async fn send(
        &self,
        decision: Decision,
        request: Request<RequestBody>,
    ) -> Result<Delivered, Opened> {
        let asked = Asked {
            era: Era::Legacy,
            method: Method::POST,
            has_session: false,
            waits_for_continue: false,
            has_host: request.headers().contains_key(header::HOST),
            listens: false,
            client_id: None,
            endpoint: None,
            may_open: None,
            credential: None,
            asker: Asker::Anybody,
        };
        let delivery = Delivery {
            proxy: self.proxy,
            table: self.table,
            pool: self.pool,
            asked: &asked,
            exchange: self.exchange,
            head: &self.proxy.ticker.deadline(),
            waits_for_loss: None,
        };
        let delivered = delivery.run(decision, &mut Some(request)).await;
        let mut delivered = delivered.map_err(|_failure| Opened::Failed)?; // it is in the log
        match Verdict::of(delivered.response.status()) {
            Verdict::Accepted => Ok(delivered),
            Verdict::Denied => {
                // The client keeps the id that it has.
                delivered.response.headers_mut().remove(era::SESSION_ID);
                Err(Opened::Denied(Box::new(delivered)))
            }
            Verdict::Rejected => Err(Opened::Rejected),
            Verdict::Failed => Err(Opened::Failed),
        }
    }

    /// A POST of the handshake, to where the session was opened first.
    fn request(&self, handshake: &Handshake, body: Bytes) -> Request<RequestBody> {
        let mut head = self.head.clone();
        headers::keep_credentials(&mut head.headers);
        let strip = self.pool.options.strip_prefix.as_ref();
        head.uri = headers::target_of(&handshake.path, self.target.query(), strip);
        head.method = Method::POST;
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        head.headers.insert(header::ACCEPT, accept);
        let json = HeaderValue::from_static("application/json");
        head.headers.insert(header::CONTENT_TYPE, json);
        Request::from_parts(head, RequestBody::Whole(body))
    }
}

/// Reads an answer until the response is there; `None` if there is none in it.
async fn read_reply(delivered: Delivered) -> Result<Option<Reply>, Interrupted> {
    let (head, mut body) = delivered.response.into_parts();
    if is_coded(&head.headers) {
        return Ok(None);
    }
    if sse::announced(&head.headers) {
        return read_event(&mut body).await;
    }
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        all.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        if all.len() > MOST_BYTES {
            return Ok(None);
        }
    }
    Ok(initialize::reply(&all))
}

async fn read_event(body: &mut upstream::Body<RequestBody>) -> Result<Option<Reply>, Interrupted> {
    let (mut data, mut reply, mut length) = (sse::Data::default(), None, 0);
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            length += bytes.len();
            data.push(bytes, |event| {
                reply = reply.take().or_else(|| initialize::reply(event))
            });
        }
        if reply.is_some() || length > MOST_BYTES {
            break;
        }
    }
    Ok(reply)
}

/// Whether the body is compressed, though that was not asked for.
fn is_coded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity")
}
