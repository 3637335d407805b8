//! What TLS to Vault is spoken with: authorities, client certificate, expected name. Files that change are
//! read anew before the next connection is made; what was read before stays until they are all good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, ResolveServerName};
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::pem::{self, Stamp};
use super::verify::{AcceptOwn, DangerAcceptAny};
use crate::config;
use crate::error::{Error, Kind, Result};

/// See the module's text.
pub(super) struct Tls {
    settings: config::VaultTls,
    /// Vault's address is `https://`.
    is_spoken: bool,
    names: Arc<dyn ResolveServerName + Send + Sync>,
    state: Mutex<State>,
    /// One look at the files at a time.
    looking: tokio::sync::Mutex<()>,
}

struct State {
    config: Arc<ClientConfig>,
    /// Of the files that `config` was made of, or was last tried to be made of.
    stamp: Stamp,
    looked: Instant,
    refused: Option<String>,
}

/// What an operator should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsView {
    /// Vault's certificate is not checked.
    pub skips_verify: bool,
    /// Why the files of now are not used, where those of before are.
    pub refused: Option<String>,
}

impl Tls {
    /// # Errors
    /// `Kind::File` where a certificate or key cannot be read; they are read, and found wrong, even where no
    /// TLS is spoken.
    pub(super) fn new(vault: &config::Vault) -> Result<Self> {
        let settings = vault.tls.clone();
        let is_spoken = vault.address.starts_with("https:");
        let names = names(settings.server_name.as_deref())?;
        let stamp = Stamp::of(&settings);
        let config = Arc::new(build(&settings, is_spoken)?);
        if settings.danger_skip_verify && is_spoken {
            tracing::warn!(
                address = vault.address,
                "vault.tls_skip_verify is on: anybody on the way to Vault can read and change everything"
            );
        }
        Ok(Self {
            settings,
            is_spoken,
            names,
            state: Mutex::new(State {
                config,
                stamp,
                looked: Instant::now(),
                refused: None,
            }),
            looking: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn names(&self) -> Arc<dyn ResolveServerName + Send + Sync> {
        Arc::clone(&self.names)
    }

    /// For a new connection. Looks at the files first, but not again and again while connections are made by
    /// the dozen, nor for longer than a file on a sound disk takes.
    pub(super) async fn config(self: &Arc<Self>) -> Arc<ClientConfig> {
        let is_due = self.lock().looked.elapsed() >= BETWEEN_LOOKS;
        if self.is_spoken && is_due && pem::has_files(&self.settings) {
            // Who comes while somebody looks takes what there is.
            if let Ok(looking) = self.looking.try_lock() {
                self.lock().looked = Instant::now();
                let _reported = self.look(false).await;
                drop(looking);
            }
        }
        Arc::clone(&self.lock().config)
    }

    /// Reads everything anew, the system's authorities too. Connections that exist are kept.
    ///
    /// # Errors
    /// `Kind::File`: what was read before stays.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<()> {
        let _looking = self.looking.lock().await;
        self.look(true).await
    }

    /// The authorities that Vault's certificate may be signed by, for messages.
    pub(super) fn trusted(&self) -> String {
        match pem::named_authorities(&self.settings) {
            None => "an authority of this system".to_owned(),
            Some(named) => format!("an authority in {named} or of this system"),
        }
    }

    /// The client certificate that is shown, for messages.
    pub(super) fn shown(&self) -> Option<String> {
        pem::named_client_certificate(&self.settings)
    }

    pub(super) fn view(&self) -> TlsView {
        TlsView {
            skips_verify: self.is_spoken && self.settings.danger_skip_verify,
            refused: self.lock().refused.clone(),
        }
    }

    async fn look(self: &Arc<Self>, even_if_unchanged: bool) -> Result<()> {
        let tls = Arc::clone(self);
        let looking = tokio::task::spawn_blocking(move || tls.look_now(even_if_unchanged));
        match timeout(LOOK_DEADLINE, looking).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Error::new(
                Kind::File,
                "the TLS files for Vault could not be read in time; those read before stay in use",
            )),
        }
    }

    fn look_now(&self, even_if_unchanged: bool) -> Result<()> {
        // Taken before the files are read: what changes meanwhile is seen the next time.
        let stamp = Stamp::of(&self.settings);
        {
            let state = self.lock();
            let is_same = state.stamp == stamp && state.refused.is_none();
            if is_same && !even_if_unchanged {
                return Ok(());
            }
        }
        let built = build(&self.settings, self.is_spoken);
        let mut state = self.lock();
        let has_changed = state.stamp != stamp;
        state.stamp = stamp;
        match built {
            Ok(config) => {
                if has_changed || state.refused.is_some() {
                    tracing::info!("the TLS files for Vault changed; new connections use them");
                }
                state.config = Arc::new(config);
                state.refused = None;
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                if state.refused.as_ref() != Some(&why) {
                    tracing::warn!(
                        %error,
                        "the TLS files for Vault cannot be used as they are now; those read before stay in use"
                    );
                }
                state.refused = Some(why);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn names(configured: Option<&str>) -> Result<Arc<dyn ResolveServerName + Send + Sync>> {
    let Some(name) = configured else {
        return Ok(Arc::new(DefaultServerNameResolver::default()));
    };
    let name = ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::new(
            Kind::Internal,
            format!("tls_server_name {name:?} is not a host name"),
        )
    })?;
    Ok(Arc::new(FixedServerNameResolver::new(name)))
}

/// The system's authorities and the configured ones, as OpenBao; TLS 1.2 and 1.3 over ring.
fn build(settings: &config::VaultTls, is_spoken: bool) -> Result<ClientConfig> {
    let internal =
        |error: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("TLS: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| internal(&error))?;
    let authorities = pem::authorities(settings, is_spoken)?;
    let builder = if settings.danger_skip_verify {
        let verifier = Arc::new(DangerAcceptAny::new(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else if authorities.own.is_empty() {
        builder.with_root_certificates(authorities.all)
    } else {
        let usual =
            WebPkiServerVerifier::builder_with_provider(Arc::new(authorities.all), provider)
                .build()
                .map_err(|error| internal(&error))?;
        let verifier = Arc::new(AcceptOwn::new(usual, authorities.own));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    };
    let Some((chain, key)) = pem::client_certificate(settings)? else {
        return Ok(builder.with_no_client_auth());
    };
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        let named = pem::named_client_certificate(settings).unwrap_or_default();
        let message = format!("{named} and its key do not go together: {error}");
        Error::new(Kind::File, message)
    })
}

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tokio::time::advance;

    use super::*;

    fn write_authority(path: &Path) {
        let made = rcgen::generate_simple_self_signed(["vault".to_owned()]).unwrap();
        let new = path.with_extension("new");
        fs::write(&new, made.cert.pem()).unwrap();
        fs::rename(&new, path).unwrap();
    }

    fn trusting(path: &Path) -> Arc<Tls> {
        let vault = config::Vault {
            address: "https://vault.test".to_owned(),
            tls: config::VaultTls {
                ca_cert: Some(path.to_owned()),
                ..config::VaultTls::default()
            },
            ..config::Vault::default()
        };
        Arc::new(Tls::new(&vault).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_once_a_second_and_read_when_they_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        write_authority(&path);
        let tls = trusting(&path);
        let first = tls.config().await;
        advance(BETWEEN_LOOKS).await;
        assert!(Arc::ptr_eq(&first, &tls.config().await), "nothing changed");
        write_authority(&path);
        assert!(Arc::ptr_eq(&first, &tls.config().await), "too soon");
        advance(BETWEEN_LOOKS).await;
        let second = tls.config().await;
        assert!(!Arc::ptr_eq(&first, &second));
        fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            advance(BETWEEN_LOOKS).await;
            assert!(Arc::ptr_eq(&second, &tls.config().await));
            let why = tls.view().refused.unwrap();
            assert!(why.contains(path.to_str().unwrap()), "{why}");
        }
        write_authority(&path);
        advance(BETWEEN_LOOKS).await;
        assert!(!Arc::ptr_eq(&second, &tls.config().await));
        assert_eq!(tls.view().refused, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_reads_at_once_and_says_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        write_authority(&path);
        let tls = trusting(&path);
        let first = tls.config().await;
        tls.reload().await.unwrap();
        let second = tls.config().await;
        assert!(
            !Arc::ptr_eq(&first, &second),
            "the system's may have changed"
        );
        fs::write(&path, "x").unwrap();
        let error = tls.reload().await.unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
        assert!(Arc::ptr_eq(&second, &tls.config().await));
    }
}
