//! What is mounted where, for servers that do not say so in their answers.
//!
//! One look-up per mount, beside the request that first needs it, remembered for a while; a refusal too.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Kinds of mounts by canonical path (`team/secret` → `kv`).
#[derive(Debug, Default)]
pub(super) struct Mounts {
    known: Mutex<HashMap<String, Mount>>,
}

#[derive(Debug)]
struct Mount {
    /// `None`: being asked, or asked and not told.
    kind: Option<String>,
    until: Instant,
    asking: Option<watch::Receiver<()>>,
}

/// A look-up that is under way; dropping it, told or not, ends the wait of all who wait.
#[derive(Debug)]
pub(super) struct Asking {
    _ends: watch::Sender<()>,
}

impl Mounts {
    /// The kind of the mount that holds `resource`.
    pub(super) fn kind_of(&self, resource: &str, now: Instant) -> Option<String> {
        let known = self.lock();
        prefixes(resource)
            .find_map(|prefix| known.get(prefix).filter(|mount| mount.until > now))
            .and_then(|mount| mount.kind.clone())
    }

    /// `Some` for the one who shall ask, if `may_ask` says that there is a place for that.
    pub(super) fn start_asking(
        &self,
        resource: &str,
        now: Instant,
        may_ask: impl FnOnce() -> bool,
    ) -> Option<Asking> {
        let mut known = self.lock();
        if prefixes(resource).any(|prefix| known.get(prefix).is_some_and(|m| m.until > now)) {
            return None;
        }
        known.retain(|_, mount| mount.until > now);
        if known.len() >= MOST || !may_ask() {
            return None;
        }
        let (ends, asking) = watch::channel(());
        let mount = Mount {
            kind: None,
            until: now + ASKED_FOR,
            asking: Some(asking),
        };
        known.insert(first_segment(resource).to_owned(), mount);
        Some(Asking { _ends: ends })
    }

    /// Waits for a look-up that is under way, at most `within`.
    pub(super) async fn settled(&self, resource: &str, within: Duration) {
        let asking = {
            let known = self.lock();
            prefixes(resource)
                .find_map(|prefix| known.get(prefix))
                .and_then(|mount| mount.asking.clone())
        };
        if let Some(mut asking) = asking {
            // The sender says nothing; it goes.
            let _ended = tokio::time::timeout(within, asking.changed()).await;
        }
    }

    /// Vault's answer about `resource`: its mount's path and kind, or a refusal.
    pub(super) fn learn(&self, resource: &str, told: Option<&(String, String)>, now: Instant) {
        let mut known = self.lock();
        let guess = first_segment(resource);
        known.remove(guess);
        let (path, kind, until) = match told {
            // Refused to one caller, for one path: others may ask about theirs.
            None => (resource, None, now + REFUSED_FOR),
            Some((mount, kind)) => {
                let mount = mount.trim_matches('/');
                let Some(path) = prefixes(resource).find(|prefix| ends_with_path(prefix, mount))
                else {
                    return;
                };
                (path, Some(kind.clone()), now + KNOWN_FOR)
            }
        };
        let mount = Mount {
            kind,
            until,
            asking: None,
        };
        known.insert(path.to_owned(), mount);
    }

    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Mount>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path and everything above it, longest first. A mount's path is inside its namespace, which may
/// stand before it; the longest prefix that ends in it is never wider than the mount.
fn prefixes(resource: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(resource), |path| {
        path.rsplit_once('/').map(|(above, _)| above)
    })
}

fn ends_with_path(path: &str, tail: &str) -> bool {
    path.strip_suffix(tail)
        .is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

fn first_segment(resource: &str) -> &str {
    resource.split('/').next().unwrap_or_default()
}

const KNOWN_FOR: Duration = Duration::from_secs(600);
const REFUSED_FOR: Duration = Duration::from_secs(60);
const ASKED_FOR: Duration = Duration::from_secs(10);
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_asks_and_all_know() {
        let mounts = Mounts::default();
        let now = Instant::now();
        let asking = mounts.start_asking("team/kv/a/b", now, || true).unwrap();
        assert!(mounts.start_asking("team/kv/c", now, || true).is_none());
        mounts.learn("team/kv/a/b", Some(&("kv/".into(), "kv".into())), now);
        drop(asking);
        assert_eq!(mounts.kind_of("team/kv/c", now).as_deref(), Some("kv"));
        assert_eq!(mounts.kind_of("team/other/c", now), None);
        assert!(mounts.start_asking("team/other/c", now, || true).is_some());
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(mounts.kind_of("team/kv/c", Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_a_while_and_for_its_path() {
        let mounts = Mounts::default();
        let now = Instant::now();
        let may_ask = |path: &str, at| mounts.start_asking(path, at, || true).is_some();
        assert!(mounts.start_asking("kv/a", now, || false).is_none());
        assert!(may_ask("kv/a", now));
        mounts.learn("kv/a", None, now);
        assert!(!may_ask("kv/a", now));
        assert!(may_ask("kv/b", now));
        mounts.learn("kv/b", None, now);
        tokio::time::advance(REFUSED_FOR).await;
        assert!(may_ask("kv/a", Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_not_taken_for_the_mount_it_contains_the_name_of() {
        let mounts = Mounts::default();
        let now = Instant::now();
        mounts.learn("akv/kv/x", Some(&("kv/".into(), "kv".into())), now);
        assert_eq!(mounts.kind_of("akv/kv/y", now).as_deref(), Some("kv"));
        assert_eq!(mounts.kind_of("akv/transit/keys/y", now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_the_end_of_the_look_up_or_by_the_clock() {
        let mounts = Mounts::default();
        let start = Instant::now();
        let asking = mounts.start_asking("kv/a", start, || true).unwrap();
        mounts.settled("kv/a", Duration::from_millis(50)).await;
        assert_eq!(start.elapsed(), Duration::from_millis(50));
        drop(asking);
        mounts.settled("kv/a", Duration::from_secs(9)).await;
        assert_eq!(start.elapsed(), Duration::from_millis(50));
    }
}
