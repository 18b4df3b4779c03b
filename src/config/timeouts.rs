//! Reads `[timeouts]`: their defaults and ranges.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    Timeouts,
    check::{DAY, DEADLINE, SECOND, UP_TO_A_DAY, WEEK},
    section::Section,
};

/// Linux takes whole seconds up to 32767 (`MAX_TCP_KEEPIDLE`); 9 hours are 32400.
const TCP_KEEP_ALIVE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(9 * 3600);

/// Slow heads hold connections for nothing; Apache's `mod_reqtimeout` begins with 20 s, nginx has 60 s.
const DEFAULT_REQUEST_HEAD: Duration = Duration::from_secs(10);
/// Between two pieces of a body, not for the whole: large uploads go on (nginx: 60 s).
const DEFAULT_REQUEST_BODY_IDLE: Duration = Duration::from_secs(30);
/// Inside one cluster a connection takes milliseconds; one lost SYN is sent again after 1 s.
const DEFAULT_CONNECT: Duration = Duration::from_secs(2);
/// Tools may think for minutes before the first byte; clients have deadlines of their own.
const DEFAULT_RESPONSE_HEAD: Duration = Duration::from_secs(600);
/// `initialize` and the opening of a stream need no tool to run.
const DEFAULT_OPEN_HEAD: Duration = Duration::from_secs(30);
/// Balancers cut what was silent for 60 s (AWS ALB, nginx), some proxies for 30 s; SDK servers write one
/// every 15 s or never.
const DEFAULT_STREAM_COMMENT: Duration = Duration::from_secs(25);
/// Longer than load balancers in front keep theirs (Google's: 600 s), so that they close first and no
/// request meets a connection that is just being closed.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(620);
/// Shorter than servers behind keep theirs: uvicorn closes after 5 s, node after 6.
const DEFAULT_UPSTREAM_KEEP_ALIVE: Duration = Duration::from_secs(4);
/// A laptop that sleeps must not hold a stream: asked after 30 s of silence …
const DEFAULT_TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// … and given up after a minute without an acknowledgement.
const DEFAULT_TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Outside Kubernetes nobody needs time to notice.
const DEFAULT_SHUTDOWN_DELAY: Duration = Duration::ZERO;
/// Less than the 30 s after which Kubernetes kills (`terminationGracePeriodSeconds`).
const DEFAULT_DRAIN: Duration = Duration::from_secs(20);

pub(super) fn read(section: Section<'_>) -> Timeouts {
    let deadline = |key, default| section.duration(key, DEADLINE).unwrap_or(default);
    let delay = |key, default| section.duration(key, UP_TO_A_DAY).unwrap_or(default);
    let timeouts = Timeouts {
        request_head: deadline("request_head", DEFAULT_REQUEST_HEAD),
        request_body_idle: deadline("request_body_idle", DEFAULT_REQUEST_BODY_IDLE),
        connect: deadline("connect", DEFAULT_CONNECT),
        response_head: deadline("response_head", DEFAULT_RESPONSE_HEAD),
        open_head: deadline("open_head", DEFAULT_OPEN_HEAD),
        stream_idle: section
            .duration_or_zero("stream_idle", SECOND..=WEEK, "for ever")
            .unwrap_or(None),
        stream_comment: section
            .duration_or_zero("stream_comment", SECOND..=DAY, "never")
            .unwrap_or(Some(DEFAULT_STREAM_COMMENT)),
        keep_alive: deadline("keep_alive", DEFAULT_KEEP_ALIVE),
        upstream_keep_alive: delay("upstream_keep_alive", DEFAULT_UPSTREAM_KEEP_ALIVE),
        tcp_keep_alive: section
            .duration_or_zero("tcp_keep_alive", TCP_KEEP_ALIVE, "never")
            .unwrap_or(Some(DEFAULT_TCP_KEEP_ALIVE)),
        tcp_user_timeout: section
            .duration_or_zero("tcp_user_timeout", SECOND..=DAY, "the kernel's own")
            .unwrap_or(Some(DEFAULT_TCP_USER_TIMEOUT)),
        shutdown_delay: delay("shutdown_delay", DEFAULT_SHUTDOWN_DELAY),
        drain: delay("drain", DEFAULT_DRAIN),
    };
    section.finish();
    timeouts
}
