//! `vault { ... }` as typed.

use std::time::Duration;

use super::super::findings::{At, Given};
use super::super::read::{Block, Fields, Reader, Shape};

#[derive(Debug)]
pub(in super::super) struct Vault {
    pub(in super::super) whole: At,
    pub(in super::super) address: Option<Given<String>>,
    pub(in super::super) namespace: Option<Given<String>>,
    pub(in super::super) ca_cert: Option<Given<String>>,
    pub(in super::super) ca_path: Option<Given<String>>,
    pub(in super::super) client_cert: Option<Given<String>>,
    pub(in super::super) client_key: Option<Given<String>>,
    pub(in super::super) tls_server_name: Option<Given<String>>,
    pub(in super::super) tls_skip_verify: Option<Given<bool>>,
    pub(in super::super) http_proxy: Option<Given<String>>,
    pub(in super::super) timeout: Option<Given<Duration>>,
    pub(in super::super) max_connections: Option<Given<i64>>,
    pub(in super::super) num_retries: Option<Given<i64>>,
}

impl Vault {
    pub(super) fn read(reader: Reader<'_>, block: &Block<'_>) -> Self {
        let fields = Fields::new(reader, "vault", block.items.clone());
        let retry = fields.block("retry", Shape::Plain);
        let read = Self {
            whole: block.whole,
            address: fields.text("address"),
            namespace: fields.text("namespace"),
            ca_cert: fields.text("ca_cert"),
            ca_path: fields.text("ca_path"),
            client_cert: fields.text("client_cert"),
            client_key: fields.text("client_key"),
            tls_server_name: fields.text("tls_server_name"),
            tls_skip_verify: fields.boolish("tls_skip_verify"),
            http_proxy: fields.text("http_proxy"),
            timeout: fields.duration("timeout"),
            max_connections: fields.int("max_connections"),
            num_retries: retry.and_then(|block| {
                let fields = Fields::new(reader, "vault.retry", block.items);
                let read = fields.int("num_retries");
                fields.finish();
                read
            }),
        };
        fields.finish();
        read
    }
}
