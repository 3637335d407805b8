//! Where callers come in.

mod tls;
mod unix;

use std::time::Duration;

use super::super::address::Listen;
use super::super::file;
use super::super::findings::{At, Given, Note, Phase};
use super::super::hosts::AllowedHost;
use super::super::socket::{Activation, Socket};
use super::super::{AllowedHosts, Listener};
use super::{Check, defaults, named};

impl Check<'_> {
    /// Each with its address as understood; `None` where it could not be.
    /// `lends`: requests without a token get the shared one.
    pub(super) fn listeners(
        &self,
        typed: &[file::Listener],
        lends: bool,
    ) -> Vec<(Listener, Option<Listen>)> {
        let mut listeners: Vec<(Listener, Option<Listen>)> = Vec::new();
        for listener in typed {
            let systemd = self.systemd(listener);
            let is_bound_here = listener.is_tcp && systemd.is_none();
            let address = is_bound_here.then(|| self.listen(listener)).flatten();
            if let Some(address) = &address {
                let earlier = listeners.iter().zip(typed).find(|((_, other), _)| {
                    other.as_ref().is_some_and(|other| other.clashes(address))
                });
                if let Some((_, first)) = earlier {
                    let message = format!("another listener already has {address}");
                    let note = Note::error(Phase::Validate, place(listener), message)
                        .related(place(first), "the other one")
                        .key("listener.address");
                    self.found.add(note);
                }
            }
            let mut read = self.listener(listener, address.as_ref());
            if let Some(unix) = &listener.unix
                && let Some(path) = self.unix_address(listener)
            {
                read.socket = Socket::Unix(self.unix_socket(unix, &path, place(listener)));
                read.address = path;
                self.one_socket_each(listener, &read, typed.iter().zip(&listeners));
            } else if systemd.is_some() {
                read.address = listener
                    .address
                    .as_ref()
                    .map_or_else(String::new, |given| given.value.clone());
            }
            read.systemd = systemd;
            if let (Some(address), true) = (&address, lends && !read.metrics_only) {
                self.exposed(listener, address);
            }
            listeners.push((read, address));
        }
        listeners
    }

    /// Of systemd's sockets each listener takes another one; a path is one listener's.
    fn one_socket_each<'a>(
        &self,
        typed: &file::Listener,
        listener: &Listener,
        earlier: impl Iterator<Item = (&'a file::Listener, &'a (Listener, Option<Listen>))>,
    ) {
        if Activation::parse(&listener.address).is_some() {
            return;
        }
        let is_same = |other: &Listener| {
            matches!(other.socket, Socket::Unix(_)) && other.address == listener.address
        };
        let mut same = earlier.filter(|(_, (other, _))| is_same(other));
        if let Some((first, _)) = same.next() {
            let message = format!("another listener already has {}", listener.address);
            let note = Note::error(Phase::Validate, place(typed), message)
                .related(place(first), "the other one")
                .key("listener.address");
            self.found.add(note);
        }
    }

    /// `systemd`, `systemd:NAME`; a port after the colon makes it a host of that name.
    fn systemd(&self, typed: &file::Listener) -> Option<Activation> {
        let activation = Activation::parse(&typed.address.as_ref()?.value)?;
        if let Activation::Named(name) = &activation {
            if typed.is_tcp && name.parse::<u16>().is_ok() {
                return None;
            }
            let fits = |c: char| c.is_ascii_graphic() && c != ':';
            if name.is_empty() || !name.chars().all(fits) {
                let message = format!(
                    "{name:?} is no name of a socket: write \"systemd:NAME\" with the FileDescriptorName= of the \
                     .socket unit"
                );
                let note = Note::error(Phase::Validate, place(typed), message);
                self.found.add(note.key("listener.address"));
            }
        }
        Some(activation)
    }

    fn listener(&self, typed: &file::Listener, address: Option<&Listen>) -> Listener {
        let flag = |given: &Option<Given<bool>>| given.as_ref().is_some_and(|given| given.value);
        Listener {
            address: address.map_or_else(|| defaults::LISTEN.to_owned(), ToString::to_string),
            socket: Socket::Tcp,
            systemd: None,
            tls: self.listener_tls(typed),
            metrics_only: self.is_metrics_only(typed.role.as_ref()),
            enable_quit: flag(&typed.enable_quit),
            require_request_header: flag(&typed.require_request_header),
            allowed_hosts: self.allowed_hosts(typed, address),
            max_request_size: max_request_size(typed.max_request_size.as_ref()),
            read_timeout: self.duration(
                named("listener.http_read_timeout", typed.read_timeout.as_ref()),
                Duration::from_millis(100)..=Duration::from_secs(24 * 3600),
                defaults::READ_TIMEOUT,
            ),
            header_timeout: self.duration(
                named(
                    "listener.http_read_header_timeout",
                    typed.header_timeout.as_ref(),
                ),
                Duration::from_millis(100)..=Duration::from_secs(600),
                defaults::HEADER_TIMEOUT,
            ),
            idle_timeout: self.duration(
                named("listener.http_idle_timeout", typed.idle_timeout.as_ref()),
                Duration::from_millis(100)..=Duration::from_secs(24 * 3600),
                defaults::IDLE_TIMEOUT,
            ),
            max_connections: self.count(
                named("listener.max_connections", typed.max_connections.as_ref()),
                1..=1_000_000,
                defaults::CONNECTIONS,
            ),
        }
    }

    /// Unless told otherwise, whoever calls a listener on loopback, or a socket of systemd's whose address is not
    /// known here, calls it by a name of loopback; one that others reach has names that only they know, and
    /// no web page reaches a Unix socket.
    fn allowed_hosts(&self, typed: &file::Listener, address: Option<&Listen>) -> AllowedHosts {
        let Some(allowed) = &typed.allowed_hosts else {
            let is_any = typed.unix.is_some() || address.is_some_and(|it| !it.is_loopback());
            return if is_any {
                AllowedHosts::Any
            } else {
                AllowedHosts::Only(Vec::new())
            };
        };
        let mut only = Vec::new();
        let mut is_any = false;
        for given in allowed {
            match AllowedHost::parse(&given.value) {
                Ok(AllowedHost::Any) => is_any = true,
                Ok(AllowedHost::Loopback) => {}
                Ok(AllowedHost::Named(name)) => only.push(name),
                Err(message) => {
                    let note = Note::error(Phase::Validate, given.at, message);
                    self.found.add(note.key("listener.allowed_hosts"));
                }
            }
        }
        if is_any {
            return AllowedHosts::Any;
        }
        AllowedHosts::Only(only)
    }

    fn listen(&self, typed: &file::Listener) -> Option<Listen> {
        let given = typed
            .address
            .as_ref()
            .filter(|given| !given.value.is_empty());
        let text = given.map_or(defaults::LISTEN, |given| given.value.as_str());
        match Listen::parse(text) {
            Ok(address) => Some(address),
            Err(message) => {
                let note = Note::error(Phase::Validate, place(typed), message);
                self.found.add(note.key("listener.address"));
                None
            }
        }
    }

    /// Compose files do this, so it runs; nobody should do it unknowingly.
    fn exposed(&self, typed: &file::Listener, address: &Listen) {
        if address.is_loopback() || !typed.tls.is_off() {
            return;
        }
        let message = format!(
            "{address} is reachable from other machines, in plain text: whoever gets there can use the \
             auto-auth token, and whoever is on the way can read what it fetches; set tls_cert_file and \
             tls_key_file, or an address on 127.0.0.1"
        );
        let note = Note::warning(Phase::Validate, place(typed), message);
        self.found.add(note.key("listener.address"));
    }

    fn is_metrics_only(&self, role: Option<&Given<String>>) -> bool {
        let Some(role) = role else {
            return false;
        };
        match role.value.as_str() {
            "" | "default" => false,
            "metrics_only" => true,
            other => {
                let message = format!(
                    "unsupported listener role {other:?}: it can be \"default\" or \"metrics_only\""
                );
                let note = Note::error(Phase::Load, role.at, message);
                self.found.add(note.key("listener.role"));
                false
            }
        }
    }
}

/// As Vault's own listener has it: 0 is the default, less is no limit.
fn max_request_size(typed: Option<&Given<i64>>) -> Option<u64> {
    match typed.map_or(0, |given| given.value) {
        0 => Some(defaults::REQUEST_SIZE),
        size => u64::try_from(size).ok(),
    }
}

fn place(listener: &file::Listener) -> Option<At> {
    let address = listener.address.as_ref();
    address.map_or(Some(listener.at), |given| given.at)
}
