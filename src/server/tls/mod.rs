//! A listener's TLS: certificates that are read anew, and handshakes with a deadline.
//!
//! Certificate, key and client authorities are looked at every `tls_auto_reload_interval`, and whenever
//! `reload` asks. What is new is tried as a whole; only a whole that works takes the place of the one before.
//! Connections that are open go on as they are.

mod build;
mod files;
mod handshake;
mod pem;
#[cfg(test)]
pub(super) mod testing;
mod x509;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::{ClientCerts, ListenerTls};
use crate::error::Result;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

use build::{Served, build};
use files::{Files, Look};

/// The TLS of one listener. Clones share it.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ListenerTls,
    files: Files,
    metrics: Metrics,
    served: RwLock<Arc<Served>>,
    /// Held while files are read: two reloads at once take their turns.
    seen: Mutex<Seen>,
    /// When failing handshakes were last in the log.
    told: Mutex<Option<Instant>>,
}

/// What is known of the files.
struct Seen {
    look: Look,
    /// Of what was last tried, whether it was taken or not.
    tried: u64,
    failure: Option<String>,
    failures: u64,
    is_told_over: bool,
}

/// How a reload went.
#[derive(Debug)]
pub enum Reload {
    /// What is served is what is in the files.
    Unchanged,
    /// New handshakes see what is in the files now.
    Taken,
    /// What is in the files cannot be served, for this reason; what was served before still is.
    Kept(String),
}

/// What is served now, and what became of the last reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// In hexadecimal.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Why what is in the files now is not served.
    pub failure: Option<String>,
    /// Contents that could not be served, since the start.
    pub failures: u64,
}

impl Tls {
    /// Reads everything once.
    ///
    /// # Errors
    /// `Kind::File`, naming the key, the file, what is wrong with it and what to do.
    pub fn load(settings: &ListenerTls, metrics: Metrics) -> Result<Self> {
        let files = Files::of(settings);
        // Before reading: what changes in between is seen at the next look.
        let look = files.look();
        let (contents, tried) = files.read();
        let served = build(settings, &contents?)?;
        say(&served, &files);
        Ok(Self {
            shared: Arc::new(Shared {
                settings: settings.clone(),
                files,
                metrics,
                served: RwLock::new(Arc::new(served)),
                seen: Mutex::new(Seen {
                    look,
                    tried,
                    failure: None,
                    failures: 0,
                    is_told_over: false,
                }),
                told: Mutex::default(),
            }),
        })
    }

    /// Takes up changes of the files until the tasks are stopping.
    pub fn watch(&self, tasks: &Tasks) {
        let (tls, all) = (self.clone(), tasks.clone());
        tasks.spawn("certificates", async move {
            let interval = tls.shared.settings.reload_interval;
            let mut sooner = Backoff::new(SOONER.min(interval), interval);
            loop {
                let wait = if tls.is_settled() {
                    sooner.reset();
                    interval
                } else {
                    sooner.next_wait()
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = all.stopping() => return,
                }
                let _outcome = tls.look(false);
            }
        });
    }

    /// Looks at the files at once.
    pub fn reload(&self) -> Reload {
        self.look(true)
    }

    pub fn certificate(&self) -> Certificate {
        let leaf = self.served().leaf.clone();
        let seen = self.seen();
        Certificate {
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            failure: seen.failure.clone(),
            failures: seen.failures,
        }
    }

    /// What the next handshake is answered with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.served().config)
    }

    fn look(&self, is_asked: bool) -> Reload {
        let shared = &*self.shared;
        let mut seen = self.seen();
        let look = shared.files.look();
        if !is_asked && look.is_settled && look == seen.look {
            self.say_when_over(&mut seen);
            return Reload::Unchanged;
        }
        let (contents, number) = shared.files.read();
        seen.look = look;
        if number == seen.tried && !(is_asked && self.asks_system()) {
            return match &seen.failure {
                Some(failure) => Reload::Kept(failure.clone()),
                None => Reload::Unchanged,
            };
        }
        seen.tried = number;
        match contents.and_then(|contents| build(&shared.settings, &contents)) {
            Ok(served) => {
                say(&served, &shared.files);
                *shared
                    .served
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
                seen.failure = None;
                seen.is_told_over = false;
                shared.metrics.certificates(true);
                tracing::info!(
                    certificate = %shared.files.cert().display(),
                    "the listener's certificates were read anew; new connections see them"
                );
                Reload::Taken
            }
            Err(error) => {
                let failure = error.to_string();
                tracing::warn!(
                    %error,
                    "what is in the listener's certificate files now is not served, and what was there \
                     before still is"
                );
                shared.metrics.certificates(false);
                seen.failures += 1;
                seen.failure = Some(failure.clone());
                Reload::Kept(failure)
            }
        }
    }

    /// The system's roots are no file to look at.
    fn asks_system(&self) -> bool {
        self.shared.settings.client_certs == ClientCerts::Required { ca_file: None }
    }

    /// A failure may be half of a change; the other half should not have to wait.
    fn is_settled(&self) -> bool {
        let seen = self.seen();
        seen.look.is_settled && seen.failure.is_none()
    }

    fn say_when_over(&self, seen: &mut Seen) {
        let served = self.served();
        if !seen.is_told_over && served.leaf.is_over(Timestamp::now()) {
            seen.is_told_over = true;
            say_validity(&served, &self.shared.files);
        }
    }

    fn served(&self) -> Arc<Served> {
        let served = self.shared.served.read();
        Arc::clone(&served.unwrap_or_else(PoisonError::into_inner))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        let seen = self.shared.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Option<Instant>> {
        let told = self.shared.told.lock();
        told.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.certificate())
            .finish_non_exhaustive()
    }
}

fn say(served: &Served, files: &Files) {
    for warning in &served.warnings {
        tracing::warn!("{warning}");
    }
    say_validity(served, files);
}

fn say_validity(served: &Served, files: &Files) {
    let (leaf, now) = (&served.leaf, Timestamp::now());
    let certificate = files.cert().display();
    if leaf.is_over(now) {
        tracing::warn!(
            %certificate,
            serial = leaf.serial,
            not_after = %leaf.not_after,
            "the listener's certificate has expired: clients refuse it; replace it, and Leasehold takes \
             up the new one by itself"
        );
    } else if leaf.is_early(now) {
        tracing::warn!(
            %certificate,
            serial = leaf.serial,
            not_before = %leaf.not_before,
            "the listener's certificate is not valid yet: clients refuse it; is the clock right?"
        );
    }
}

/// After a change, and after contents that could not be served.
const SOONER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::testing::{Authority, Pair, replace};
    use super::*;
    use crate::telemetry::Sample;

    struct Stand {
        tls: Tls,
        metrics: Metrics,
        authority: Authority,
        directory: TempDir,
    }

    impl Stand {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::new("authority");
            let (cert, key) = authority.server().save(directory.path(), "tls");
            let ca_file = directory.path().join("ca.pem");
            replace(&ca_file, &authority.pem());
            let mut settings = ListenerTls::new(cert, key);
            settings.client_certs = ClientCerts::Required {
                ca_file: Some(ca_file),
            };
            let metrics = Metrics::new();
            Self {
                tls: Tls::load(&settings, metrics.clone()).unwrap(),
                metrics,
                authority,
                directory,
            }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join(name)
        }

        fn save(&self, pair: &Pair) {
            pair.save(self.directory.path(), "tls");
        }

        fn kept(&self, part: &str) {
            match self.tls.reload() {
                Reload::Kept(why) => assert!(why.contains(part), "{why}"),
                other @ (Reload::Taken | Reload::Unchanged) => panic!("{other:?}"),
            }
        }

        fn taken(&self) {
            assert!(matches!(self.tls.reload(), Reload::Taken));
        }
    }

    #[test]
    fn what_cannot_be_served_keeps_what_is_and_the_next_that_can_takes_over() {
        let stand = Stand::new();
        let first = stand.tls.config();
        let serial = stand.tls.certificate().serial;
        assert!(matches!(stand.tls.reload(), Reload::Unchanged));
        let (new, other) = (stand.authority.server(), stand.authority.server());
        let half = |text: &str| text.get(..text.len() / 2).unwrap().to_owned();
        fs::write(stand.path("tls.crt"), half(&new.cert)).unwrap();
        stand.kept("tls_cert_file");
        stand.kept("it ends in the middle");
        fs::write(stand.path("tls.crt"), &new.cert).unwrap();
        stand.kept("do not belong together");
        fs::remove_file(stand.path("tls.key")).unwrap();
        stand.kept("does not exist");
        stand.save(&Pair {
            cert: new.cert.clone(),
            key: other.key,
        });
        stand.kept("do not belong together");
        assert!(Arc::ptr_eq(&first, &stand.tls.config()));
        let known = stand.tls.certificate();
        // Each of four contents once, however often they were looked at.
        assert_eq!((known.serial, known.failures), (serial.clone(), 4));
        assert!(known.failure.unwrap().contains("tls.crt"));
        stand.save(&new);
        stand.taken();
        let known = stand.tls.certificate();
        assert_ne!(known.serial, serial);
        assert_eq!(known.failure, None);
        let text = stand.metrics.prometheus(&Sample::default()).unwrap();
        for line in [
            "leasehold_listener_certificate_reloads_total{result=\"failure\"} 4",
            "leasehold_listener_certificate_reloads_total{result=\"success\"} 1",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} not in {text}"
            );
        }
    }

    #[test]
    fn what_was_served_before_something_bad_is_no_news_but_good() {
        let stand = Stand::new();
        let own = fs::read_to_string(stand.path("tls.crt")).unwrap();
        fs::write(stand.path("tls.crt"), "").unwrap();
        stand.kept("is empty");
        fs::write(stand.path("tls.crt"), own).unwrap();
        stand.taken();
        assert_eq!(stand.tls.certificate().failure, None);
    }

    #[test]
    fn the_clients_authorities_are_read_anew_too() {
        let stand = Stand::new();
        replace(&stand.path("ca.pem"), &Authority::new("next").pem());
        stand.taken();
        replace(&stand.path("ca.pem"), "none");
        stand.kept("tls_client_ca_file");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_taken_up_by_themselves() {
        let (stand, tasks) = (Stand::new(), Tasks::new());
        stand.tls.watch(&tasks);
        let serial = || stand.tls.certificate().serial;
        for _ in 0..5 {
            let before = serial();
            stand.save(&stand.authority.server());
            tokio::time::sleep(Duration::from_secs(31)).await;
            assert_ne!(serial(), before);
        }
        // Symbolic links to a directory that is swapped, as a Kubernetes volume does it.
        let volume = |name: &str| {
            let place = stand.path(name);
            fs::create_dir(&place).unwrap();
            stand.authority.server().save(&place, "tls");
        };
        let link = |target: &str, name: &str| {
            let link = |from: &str, to: &Path| std::os::unix::fs::symlink(from, to).unwrap();
            link(target, &stand.path("beside"));
            fs::rename(stand.path("beside"), stand.path(name)).unwrap();
        };
        for (round, data) in ["one", "two"].into_iter().enumerate() {
            let before = serial();
            volume(data);
            link(data, "..data");
            if round == 0 {
                link("..data/tls.crt", "tls.crt");
                link("..data/tls.key", "tls.key");
            }
            tokio::time::sleep(Duration::from_secs(31)).await;
            assert_ne!(serial(), before);
        }
        assert!(tasks.stop(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_half_of_a_change_does_not_wait_for_the_next_round() {
        let (stand, tasks) = (Stand::new(), Tasks::new());
        stand.tls.watch(&tasks);
        let new = stand.authority.server();
        replace(&stand.path("tls.crt"), &new.cert);
        stand.kept("do not belong together");
        replace(&stand.path("tls.key"), &new.key);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(stand.tls.certificate().failure, None);
        assert!(tasks.stop(Duration::from_secs(1)).await);
    }
}
