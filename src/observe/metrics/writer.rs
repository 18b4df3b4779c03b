//! Writes one family of metrics after the other: what all of them have in common.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::observe::meter::{BOUNDS, Summed};

/// Names and values of the labels of one sample.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Writes families, each whole before the next: OpenMetrics wants that.
pub(super) struct Writer<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl<'a, 'e> Writer<'a, 'e> {
    pub(super) fn new(encoder: &'a mut DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }
}

impl Writer<'_, '_> {
    pub(super) fn counters<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
    ) -> Result<Counters<'s>, fmt::Error> {
        let described = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter);
        described.map(Counters)
    }

    pub(super) fn counters_in<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: &'s Unit,
    ) -> Result<Counters<'s>, fmt::Error> {
        let described = self
            .0
            .encode_descriptor(name, help, Some(unit), MetricType::Counter);
        described.map(Counters)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        self.counters(name, help)?.add(&[], count)
    }

    pub(super) fn gauges<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
    ) -> Result<Gauges<'s>, fmt::Error> {
        let described = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge);
        described.map(Gauges)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, times: &Summed) -> fmt::Result {
        let unit = &Unit::Seconds;
        let mut encoder =
            self.0
                .encode_descriptor(name, help, Some(unit), MetricType::Histogram)?;
        let bounds = BOUNDS.iter().map(|micros| seconds(*micros));
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
        let count = times.buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(times.micros), count, &buckets, None)
    }

    pub(super) fn info<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_, N>,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        encoder.encode_info(&labels)
    }
}

/// Counters of one name.
pub(super) struct Counters<'a>(MetricEncoder<'a>);

impl Counters<'_> {
    pub(super) fn add<const N: usize>(
        &mut self,
        labels: &Labels<'_, N>,
        count: u64,
    ) -> fmt::Result {
        match N {
            0 => self.0.encode_counter::<NoLabelSet, _, u64>(&count, None),
            _ => {
                let mut one = self.0.encode_family(labels)?;
                one.encode_counter::<NoLabelSet, _, u64>(&count, None)
            }
        }
    }

    pub(super) fn add_seconds<const N: usize>(
        &mut self,
        labels: &Labels<'_, N>,
        seconds: f64,
    ) -> fmt::Result {
        let mut one = self.0.encode_family(labels)?;
        one.encode_counter::<NoLabelSet, _, u64>(&seconds, None)
    }
}

/// Gauges of one name.
pub(super) struct Gauges<'a>(MetricEncoder<'a>);

impl Gauges<'_> {
    pub(super) fn set<const N: usize>(
        &mut self,
        labels: &Labels<'_, N>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        match N {
            0 => self.0.encode_gauge(&value),
            _ => self.0.encode_family(labels)?.encode_gauge(&value),
        }
    }
}
