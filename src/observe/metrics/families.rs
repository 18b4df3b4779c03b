//! Each metric: its name, its help, its labels. `# HELP` is what the README's table says, too.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Unit};

use super::{
    Backend, Pool, Reading,
    writer::{Labels, Writer, seconds},
};
use crate::observe::{meter::Meters, tally::Word as _, traffic::Traffic, word::Outcome};

/// All that one scrape tells.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) meters: Meters,
    pub(super) reading: Reading,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer::new(&mut encoder);
        self.requests(&mut writer)?;
        self.backends(&mut writer)?;
        self.services(&mut writer)?;
        self.sessions(&mut writer)?;
        self.clients(&mut writer)?;
        self.process(&mut writer)
    }
}

impl Scrape {
    fn requests(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let mut requests = writer.counters(
            "pinring_requests",
            "Requests, by where they went, by what rule, and the status that the client got; 499: it left before.",
        )?;
        let mut write = |pool: &str, backend: &str, traffic: &Traffic| {
            traffic.requests().try_for_each(|(route, code, count)| {
                let code = code.to_string();
                let labels = [
                    ("pool", pool),
                    ("backend", backend),
                    ("route", route.as_str()),
                    ("code", &code),
                ];
                requests.add(&labels, count)
            })
        };
        for pool in &self.reading.pools {
            for backend in &pool.backends {
                write(&pool.name, &backend.name, &backend.traffic)?;
            }
            write(&pool.name, "", &pool.traffic)?;
        }
        write("", "", self.meters.nowhere())?;
        let totals = self.meters.totals();
        writer.histogram(
            "pinring_request_duration",
            "From a request's head to the last byte of its answer, without the streams that a client keeps open.",
            &totals.duration,
        )?;
        writer.histogram(
            "pinring_upstream_head",
            "From a request's head to the head of the backend's answer.",
            &totals.head,
        )?;
        let mut ended = writer.counters(
            "pinring_requests_ended",
            "How requests and streams ended, as far as the client's side is concerned.",
        )?;
        for (outcome, count) in Outcome::ALL.iter().zip(totals.ended) {
            ended.add(&[("end", outcome.as_str())], count)?;
        }
        let mut refusals = writer.counters(
            "pinring_refusals",
            "Answers of pinring's own, by the reason in their body and in the log.",
        )?;
        for (reason, count) in self.meters.refusals().read() {
            refusals.add(&[("reason", reason)], count)?;
        }
        let mut bytes = writer.counters_in(
            "pinring_body",
            "Bytes of bodies that clients sent (in) and got (out).",
            &Unit::Bytes,
        )?;
        bytes.add(&[("direction", "in")], totals.received)?;
        bytes.add(&[("direction", "out")], totals.sent)
    }

    fn backends(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        self.gauge(
            writer,
            "pinring_streams",
            "Event streams that are open.",
            |backend| backend.traffic.streams(),
        )?;
        self.gauge(
            writer,
            "pinring_sessions",
            "Live sessions, as far as this process knows them: since its start they have shown themselves by a request.",
            |backend| backend.sessions,
        )?;
        self.gauge(
            writer,
            "pinring_requests_in_flight",
            "Requests and streams that are under way.",
            |backend| backend.in_flight,
        )?;
        let mut states = writer.gauges(
            "pinring_backend_state",
            "How each backend stands: 1 for its state, 0 for every other one.",
            None,
        )?;
        for (pool, backend) in self.each() {
            let (shown, all) = backend.state;
            for state in all {
                let labels = [
                    ("pool", &*pool.name),
                    ("backend", &*backend.name),
                    ("state", state),
                ];
                states.set(&labels, u32::from(*state == shown))?;
            }
        }
        let mut lost_in = writer.gauges(
            "pinring_backend_lost_in",
            "In how long what a backend that is drained or was removed still holds will be lost.",
            Some(&Unit::Seconds),
        )?;
        for (pool, backend) in self.each() {
            if let Some(seconds) = backend.lost_in {
                lost_in.set(&of(pool, backend), seconds)?;
            }
        }
        let mut answers = writer.counters(
            "pinring_backend_answers",
            "How often each backend began to answer.",
        )?;
        for (pool, backend) in self.each() {
            answers.add(&of(pool, backend), backend.traffic.answers())?;
        }
        let mut waited = writer.counters_in(
            "pinring_backend_waited",
            "How long answers were waited for until they began: divided by pinring_backend_answers_total, the mean.",
            &Unit::Seconds,
        )?;
        for (pool, backend) in self.each() {
            let seconds = seconds(backend.traffic.waited_micros());
            waited.add_seconds(&of(pool, backend), seconds)?;
        }
        let forgotten = self.each().map(|(_, backend)| backend.forgotten).sum();
        writer.counter(
            "pinring_backend_forgot_session",
            "Sessions that a backend did not know though it had answered them a moment ago: several processes behind one address?",
            forgotten,
        )
    }

    fn sessions(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        writer.counter(
            "pinring_sessions_opened",
            "Sessions whose id was issued through this process.",
            self.meters.totals().sessions_opened,
        )?;
        let mut lost = writer.counters(
            "pinring_sessions_lost",
            "Live sessions that were lost, by what became of their backend.",
        )?;
        for (reason, count) in self.meters.losses().read() {
            lost.add(&[("reason", reason)], count)?;
        }
        writer.counter(
            "pinring_sessions_reinitialized",
            "Sessions whose handshake was repeated at another backend.",
            self.reading.sessions_reinitialized,
        )?;
        writer.counter(
            "pinring_handshakes_forgotten",
            "Sessions that could not be brought back any more, because store.sessions holds no more.",
            self.reading.handshakes_forgotten,
        )?;
        let [exported, dropped] = self.reading.spans;
        writer.counter(
            "pinring_spans_exported",
            "Spans that the collector has taken.",
            exported,
        )?;
        writer.counter(
            "pinring_spans_dropped",
            "Spans that were lost, because the collector was away or slow.",
            dropped,
        )?;
        let mut pins = writer.counters(
            "pinring_pins_verified",
            "Pins that verified, by the id of the key: one that verifies none any more can be removed.",
        )?;
        for (key, count) in &self.reading.pins_verified {
            pins.add(&[("key", key)], *count)?;
        }
        let mut up = writer.gauges(
            "pinring_store_up",
            "Whether the shared store can be reached.",
            None,
        )?;
        if let Some(is_up) = self.reading.store_up {
            up.set(&[], u32::from(is_up))?;
        }
        Ok(())
    }

    fn services(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let services = &self.reading.services;
        let mut addresses = writer.gauges(
            "pinring_discovery_addresses",
            "Addresses in the last list of a DNS name that stands for backends.",
            None,
        )?;
        for service in services {
            let labels = [("pool", &*service.pool), ("service", &*service.url)];
            addresses.set(&labels, service.addresses as u64)?;
        }
        let mut failing = writer.gauges(
            "pinring_discovery_failing",
            "Whether the DNS gives no newer list of a name, so that the last one stays in force.",
            None,
        )?;
        for service in services {
            let labels = [("pool", &*service.pool), ("service", &*service.url)];
            failing.set(&labels, u32::from(service.failing))?;
        }
        Ok(())
    }

    fn clients(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let Reading {
            downstream,
            upstream,
            ..
        } = self.reading;
        let mut connections = writer.gauges(
            "pinring_connections",
            "Connections with clients (downstream) and backends (upstream).",
            None,
        )?;
        for (side, count) in [("downstream", downstream), ("upstream", upstream)] {
            connections.set(&[("side", side)], count)?;
        }
        let mut limits = writer.counters(
            "pinring_limits_reached",
            "How often each limit was reached, by its key in the configuration.",
        )?;
        for (limit, times) in &self.reading.limits {
            limits.add(&[("limit", limit)], *times)?;
        }
        writer.counter(
            "pinring_tls_handshakes_failed",
            "Clients that did not come through the TLS handshake.",
            self.reading.tls_handshakes_failed,
        )?;
        let mut expiry = writer.gauges(
            "pinring_tls_certificate_expiry_timestamp",
            "When the time of each certificate that clients are shown ends.",
            Some(&Unit::Seconds),
        )?;
        for (number, certificate) in (1..).zip(&self.reading.certificates) {
            let number = number.to_string();
            let labels = [("certificate", &*number), ("names", &*certificate.names)];
            expiry.set(&labels, since_epoch(certificate.until))?;
        }
        Ok(())
    }

    fn process(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let mut reloads = writer.counters(
            "pinring_reloads",
            "What came of reading the configuration again.",
        )?;
        for (result, count) in self.meters.reloads().read() {
            reloads.add(&[("result", result)], count)?;
        }
        let Reading { ring, keys, .. } = &self.reading;
        writer.info(
            "pinring_config",
            "Digests of which backends there are, and of the keys: equal in all proxies that agree.",
            [("ring", ring), ("keys", keys)],
        )?;
        writer.info(
            "pinring_build",
            "The version of pinring.",
            [("version", env!("CARGO_PKG_VERSION"))],
        )?;
        let mut draining = writer.gauges(
            "pinring_draining",
            "Whether this process is about to end: what is under way may end, shown by pinring_connections.",
            None,
        )?;
        draining.set(&[], u32::from(self.reading.draining))?;
        let mut start = writer.gauges(
            "process_start_time",
            "When this process began.",
            Some(&Unit::Seconds),
        )?;
        start.set(&[], since_epoch(self.meters.began()))
    }

    fn gauge(
        &self,
        writer: &mut Writer<'_, '_>,
        name: &'static str,
        help: &str,
        value: impl Fn(&Backend) -> u32,
    ) -> fmt::Result {
        let mut gauges = writer.gauges(name, help, None)?;
        self.each()
            .try_for_each(|(pool, backend)| gauges.set(&of(pool, backend), value(backend)))
    }

    fn each(&self) -> impl Iterator<Item = (&Pool, &Backend)> {
        let pools = self.reading.pools.iter();
        pools.flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
    }
}

fn of<'a>(pool: &'a Pool, backend: &'a Backend) -> Labels<'a, 2> {
    [("pool", &pool.name), ("backend", &backend.name)]
}

fn since_epoch(time: SystemTime) -> f64 {
    // Before 1970 there were no certificates of this kind.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}
