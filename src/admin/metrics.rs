//! `GET /agent/v1/metrics`: OpenMetrics, Prometheus' older text, or Vault's JSON.

use std::collections::HashSet;

use http::header::ACCEPT;
use http::{Request, StatusCode};
use jiff::Timestamp;

use super::reply::{self, Reply};
use crate::telemetry::{Metrics, Sample};

pub(super) fn expose<B>(metrics: &Metrics, sample: &Sample, request: &Request<B>) -> Reply {
    let query = request.uri().query().unwrap_or_default();
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("format="));
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let format = match asked {
        Some("json") => Format::Json,
        None if accept.starts_with("application/json") => Format::Json,
        None | Some("prometheus" | "") if accept.contains("application/openmetrics-text") => {
            Format::OpenMetrics
        }
        None | Some("prometheus" | "") => Format::Text,
        Some(_) => {
            return reply::refused(
                StatusCode::BAD_REQUEST,
                "unknown format of metrics; ?format=prometheus and ?format=json are known",
            );
        }
    };
    if format == Format::Json {
        let now = Timestamp::now()
            .strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
            .to_string();
        return reply::json(&metrics.json(sample, &now));
    }
    let Ok(text) = metrics.prometheus(sample) else {
        return reply::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be written; this is a bug of Leasehold",
        );
    };
    match format {
        Format::OpenMetrics => reply::with_type(StatusCode::OK, OPEN_METRICS, text),
        Format::Text | Format::Json => reply::with_type(StatusCode::OK, TEXT, plain(&text)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Text,
    Json,
}

/// Prometheus' older text format names a counter with its `_total` in the comments too, and has no end.
fn plain(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len() + 256);
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                text.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_text_says_the_same_in_its_own_words() {
        let metrics = Metrics::new();
        metrics.cache_hit();
        let text = plain(&metrics.prometheus(&Sample::default()).unwrap());
        for line in [
            "# TYPE leasehold_cache_requests_total counter",
            r#"leasehold_cache_requests_total{result="hit"} 1"#,
            "# TYPE leasehold_lease_active gauge",
            "leasehold_lease_active 0",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} not in\n{text}"
            );
        }
        assert!(!text.contains("# EOF"));
    }
}
