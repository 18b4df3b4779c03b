//! The words that logs, metrics and bodies share: why pinring answered itself, by what rule it routed, why sessions
//! were lost, what came of a reload.

use super::tally::words;

words! {
    /// Why a client got an answer of pinring's own: `data.reason` of its body, `reason` of its line in the log, and the
    /// label of `pinring_refusals_total`.
    #[expect(missing_docs, reason = "`proxy::error` says what each is of, where it is given")]
    Reason {
        AddressConnectionsFull = "address_connections_full",
        BackendAnswerInvalid = "backend_answer_invalid",
        BackendCertificateInvalid = "backend_certificate_invalid",
        BackendClosed = "backend_closed",
        BackendDrained = "backend_drained",
        BackendForgotSession = "backend_forgot_session",
        BackendLost = "backend_lost",
        BackendNotHttp2 = "backend_not_http2",
        BackendRefused = "backend_refused",
        BackendSessionIdInvalid = "backend_session_id_invalid",
        BackendTimeout = "backend_timeout",
        BackendTlsFailed = "backend_tls_failed",
        BodiesFull = "bodies_full",
        ConnectFailed = "connect_failed",
        ConnectMethod = "connect_method",
        ConnectRefused = "connect_refused",
        ConnectTimeout = "connect_timeout",
        ConnectionsFull = "connections_full",
        HeaderAmbiguous = "header_ambiguous",
        HeadersTooLarge = "headers_too_large",
        HostInvalid = "host_invalid",
        HostSeveralAddresses = "host_several_addresses",
        HostUnresolved = "host_unresolved",
        KeyRemoved = "key_removed",
        NoBackend = "no_backend",
        NoPool = "no_pool",
        NotReinitialized = "not_reinitialized",
        OriginNotAllowed = "origin_not_allowed",
        PinUnbound = "pin_unbound",
        PrincipalMissing = "principal_missing",
        PrincipalOther = "principal_other",
        PrincipalRequired = "principal_required",
        PrincipalSessionsFull = "principal_sessions_full",
        RequestBodyInvalid = "request_body_invalid",
        RequestBodyTimeout = "request_body_timeout",
        SessionIdInvalid = "session_id_invalid",
        SessionsFull = "sessions_full",
        SeveralSessionIds = "several_session_ids",
        SeveralVersions = "several_versions",
        TagInvalid = "tag_invalid",
        TargetInvalid = "target_invalid",
        TargetTooLong = "target_too_long",
        TraceMethod = "trace_method",
        TransferCoding = "transfer_coding",
        UnknownCoordinate = "unknown_coordinate",
        Undiscovered = "undiscovered",
        UnknownKey = "unknown_key",
        Unpinned = "unpinned",
        Upgrade = "upgrade",
        WrongPool = "wrong_pool",
    }
}

words! {
    /// By what rule a backend was chosen: `route` of logs and metrics.
    Route {
        /// None was: pinring answered before, or instead.
        None = "none",
        /// A pin names it.
        Pinned = "pinned",
        /// A carrier in the body names it.
        Carrier = "carrier",
        /// The one whose turn it was is lost, and this is the ring's next.
        Successor = "successor",
        /// The session's handshake was repeated there.
        Reinitialized = "reinitialized",
        /// The hash of an id without a pin is on its part of the ring.
        Ring = "ring",
        /// The request's key belongs there.
        Affinity = "affinity",
        /// It had less to do than another.
        Placed = "placed",
        /// It is the pool's home.
        Home = "home",
        /// All backends of the pool hear the request; this one answered first.
        FanOut = "fan-out",
    }
}

words! {
    /// Why live sessions were lost.
    Loss {
        /// Their backend was down for longer than `loss_after` or `unreachable_after`.
        Down = "down",
        /// Their backend was taken off the list, and `departed` has run out.
        Departed = "departed",
        /// Their backend was drained, and the time for that has run out.
        Drained = "drained",
        /// Their backend said that it does not know them, though it had answered them.
        Forgotten = "forgotten",
        /// They were to be brought back (`on_loss = "reinitialize"`), and could not be.
        NotReinitialized = "not_reinitialized",
    }
}

words! {
    /// What came of reading the configuration again.
    Reloaded {
        /// It is in force.
        Applied = "applied",
        /// It is what is in force already.
        Unchanged = "unchanged",
        /// Something of it needs a restart: nothing of it was taken.
        NeedsRestart = "needs_restart",
        /// It is faulty, or cannot be read: nothing of it was taken.
        Failed = "failed",
    }
}

words! {
    /// How a request ended, as far as the client's side is concerned.
    Outcome {
        /// The whole answer was handed over.
        Complete = "complete",
        /// The client left before the end. Python clients finish every call so: it is no error.
        ClientLeft = "client_left",
        /// The backend went away in mid-answer: the client sees a truncated one.
        BackendGone = "backend_gone",
        /// The stream was silent for longer than allowed.
        Idle = "idle",
        /// This process is about to end, or what the backend held is lost because it was drained.
        Drained = "drained",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tally::Word, *};

    fn are_words<W: Word>() {
        let words: Vec<&str> = W::ALL.iter().map(|word| word.as_str()).collect();
        let mut distinct = words.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), words.len(), "{words:?}");
        for (number, word) in W::ALL.iter().enumerate() {
            assert_eq!(word.number(), number, "{}", word.as_str());
        }
    }

    #[test]
    fn each_word_has_a_number_of_its_own() {
        are_words::<Reason>();
        are_words::<Route>();
        are_words::<Loss>();
        are_words::<Reloaded>();
        are_words::<Outcome>();
    }
}
