//! `telemetry { ... }`, and the switches of the peers' HTTP transport: known, checked, not kept.

use super::super::Product;
use super::super::env;
use super::super::findings::{At, Note, Phase};
use super::super::forms::Form;
use super::super::read::{Block, Fields, Other, Reader};
use super::{idle, refused, silent};

pub(super) fn read(reader: Reader<'_>, block: &Block<'_>) -> At {
    let fields = Fields::new(reader, "telemetry", block.items.clone());
    for filter in fields.list("prefix_filter").unwrap_or_default() {
        if !filter.value.starts_with(['+', '-']) {
            let message = "prefix_filter: each entry starts with + or -";
            let note = Note::error(Phase::Load, filter.at, message);
            reader.found.add(note.key("telemetry.prefix_filter"));
        }
    }
    fields.others(OTHERS);
    fields.finish();
    block.whole
}

/// `disable_idle_connections` and `disable_keep_alives`.
pub(super) fn connections(reader: Reader<'_>, fields: &Fields<'_>) {
    for name in ["disable_idle_connections", "disable_keep_alives"] {
        let members = fields.list(name).unwrap_or_default();
        for member in &members {
            let known = SUBSYSTEMS.contains(&member.value.as_str())
                && (reader.product == Product::Agent || member.value != "templating");
            if !known && !member.value.is_empty() {
                let message = format!(
                    "{name}: unknown value {:?}: it can be auto-auth, caching, proxying or templating",
                    member.value
                );
                reader
                    .found
                    .add(Note::error(Phase::Load, member.at, message).key(name));
            }
        }
        if let Some(first) = members.iter().find(|member| !member.value.is_empty()) {
            reader
                .found
                .add(Note::error(Phase::Build, first.at, unbuilt(name)).key(name));
        }
    }
}

/// The same switches by environment, which replaces the list.
pub(in super::super) fn connections_by_variable(
    vars: &dyn env::Vars,
    product: Product,
    found: &super::super::findings::Findings,
) {
    for (name, suffix) in [
        ("disable_idle_connections", "DISABLE_IDLE_CONNECTIONS"),
        ("disable_keep_alives", "DISABLE_KEEP_ALIVES"),
    ] {
        let suffix = format!("{}_{suffix}", product.name().to_ascii_uppercase());
        if let Some((variable, _)) = env::find(vars, &suffix).filter(|(_, text)| !text.is_empty()) {
            let message = format!("the variable {variable}: {}", unbuilt(name));
            found.error(Phase::Build, None, message);
        }
    }
}

fn unbuilt(name: &str) -> String {
    format!("this version of Leasehold has no {name}: it keeps its connections open and bounded")
}

const SUBSYSTEMS: [&str; 4] = ["auto-auth", "caching", "proxying", "templating"];

const SCRAPE: &str = "let Prometheus read GET /agent/v1/metrics";
const OWN_NAMES: &str = "the metrics of Leasehold have their own names";

const OTHERS: &[Other] = &[
    silent("prometheus_retention_time", Form::Duration),
    silent("disable_hostname", Form::StrictBool),
    silent("enable_hostname_label", Form::StrictBool),
    refused("statsite_address", Form::Text, SCRAPE),
    refused("statsd_address", Form::Text, SCRAPE),
    refused("dogstatsd_addr", Form::Text, SCRAPE),
    idle("dogstatsd_tags", Form::List, SCRAPE),
    idle("metrics_prefix", Form::Text, OWN_NAMES),
    idle("usage_gauge_period", Form::Text, OWN_NAMES),
    idle("maximum_gauge_cardinality", Form::Int, OWN_NAMES),
    idle("filter_default", Form::StrictBool, OWN_NAMES),
    idle("prefix_filter", Form::List, OWN_NAMES),
    idle("lease_metrics_epsilon", Form::Duration, OWN_NAMES),
    idle("num_lease_metrics_buckets", Form::Int, OWN_NAMES),
    idle(
        "add_lease_metrics_namespace_labels",
        Form::StrictBool,
        OWN_NAMES,
    ),
    idle(
        "rollback_metrics_include_mount_point",
        Form::StrictBool,
        OWN_NAMES,
    ),
    idle(
        "add_mount_point_rollback_metrics",
        Form::StrictBool,
        OWN_NAMES,
    ),
    refused("circonus_api_token", Form::Text, SCRAPE),
    idle("circonus_api_app", Form::Text, SCRAPE),
    idle("circonus_api_url", Form::Text, SCRAPE),
    idle("circonus_submission_interval", Form::Text, SCRAPE),
    refused("circonus_submission_url", Form::Text, SCRAPE),
    idle("circonus_check_id", Form::Text, SCRAPE),
    idle("circonus_check_force_metric_activation", Form::Text, SCRAPE),
    idle("circonus_check_instance_id", Form::Text, SCRAPE),
    idle("circonus_check_search_tag", Form::Text, SCRAPE),
    idle("circonus_check_tags", Form::Text, SCRAPE),
    idle("circonus_check_display_name", Form::Text, SCRAPE),
    idle("circonus_broker_id", Form::Text, SCRAPE),
    idle("circonus_broker_select_tag", Form::Text, SCRAPE),
    refused("stackdriver_project_id", Form::Text, SCRAPE),
    idle("stackdriver_location", Form::Text, SCRAPE),
    idle("stackdriver_namespace", Form::Text, SCRAPE),
    idle("stackdriver_debug_logs", Form::StrictBool, SCRAPE),
];
