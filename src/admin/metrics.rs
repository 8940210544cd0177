//! `/metrics`: one table says what there is; a scrape reads one report and writes it down.
//!
//! Every label comes from the config or from a closed list, so their number is bounded. No value is
//! kept between scrapes: the loop and the scheduler count.

mod readings;
mod samples;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::core::letter::Names;
use crate::driver::{BOUNDS_MS, Histogram, Report};

/// The `Content-Type` of a scrape.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric: what the README lists, and where its samples come from.
pub struct Metric {
    /// Its name, as a scrape shows it (a histogram's without `_bucket`, `_sum`, `_count`).
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
    samples: fn(&Scrape, &mut Sink<'_, '_>) -> fmt::Result,
}

/// The kinds of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives; its name ends in `_total`.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Calls by how long they took, in seconds.
    Histogram,
}

impl Kind {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

pub use self::samples::METRICS;

/// The metrics of one report, as OpenMetrics text.
pub fn encode(report: Report, names: Arc<Names>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { report, names }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// One report on its way to a text.
#[derive(Debug)]
struct Scrape {
    report: Report,
    names: Arc<Names>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            // The encoder puts `_total` and the final stop there by itself.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let help = metric.help.trim_end_matches('.');
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let encoder = encoder.encode_descriptor(name, help, None, kind)?;
            (metric.samples)(self, &mut Sink { metric, encoder })?;
        }
        Ok(())
    }
}

/// Exemplars, which there are none of, would have no labels.
type NoLabels = [(&'static str, &'static str); 0];

/// Where the samples of one metric go.
struct Sink<'a, 'm> {
    metric: &'m Metric,
    encoder: MetricEncoder<'a>,
}

impl Sink<'_, '_> {
    /// A sample with the values of the metric's labels, in their order.
    fn put(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        let kind = self.metric.kind;
        if labels.is_empty() {
            return put(&mut self.encoder, kind, value);
        }
        let labels = self.labelled(labels);
        put(&mut self.encoder.encode_family(&labels)?, kind, value)
    }

    fn put_histogram(&mut self, labels: &[&str], histogram: &Histogram) -> fmt::Result {
        let bounds = BOUNDS_MS.iter().map(|bound| f64::from(*bound) / 1_000.0).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(histogram.buckets).collect();
        let none: Option<&HashMap<usize, Exemplar<NoLabels, f64>>> = None;
        let labels = self.labelled(labels);
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_histogram(histogram.sum.as_secs_f64(), histogram.count(), &buckets, none)
    }

    fn labelled<'v>(&self, values: &[&'v str]) -> Vec<(&'static str, &'v str)> {
        assert_eq!(self.metric.labels.len(), values.len(), "{} has other labels", self.metric.name);
        self.metric.labels.iter().copied().zip(values.iter().copied()).collect()
    }
}

fn put(encoder: &mut MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    let none: Option<&Exemplar<NoLabels, u64>> = None;
    match kind {
        Kind::Counter => encoder.encode_counter(&value, none),
        Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&value),
    }
}
