//! Where answers lie: static ones in a bounded cache that may forget them, leased ones in a map that may not.
//!
//! Forgetting a leased answer would make the next request create another credential, so those are never
//! evicted for size; when the budget is full, new ones are not stored. Map guards never leave this file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::entry::{Entry, Stay};
use super::key::{Key, Print};

/// All answers of one process. Cheap to look into; every method is synchronous.
#[derive(Debug)]
pub(super) struct Store {
    statics: QuickCache<Key, Arc<Entry>, ByWeight, DefaultHashBuilder, Unindex>,
    /// Static entries by canonical path, for invalidation by writes.
    by_resource: Arc<ResourceIndex>,
    leased: DashMap<Key, Arc<Entry>>,
    by_lease: DashMap<u64, Key>,
    by_lease_id: DashMap<Print, u64>,
    max_size: u64,
    leased_bytes: AtomicU64,
    /// What of `max_size` the static cache was last given.
    static_share: AtomicU64,
}

/// By entry, not by key: replacing an entry tells of the old one's eviction after the new one is indexed.
type ResourceIndex = DashMap<Box<str>, Vec<Weak<Entry>>>;

/// How much is stored, for metrics and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    pub static_entries: usize,
    pub leased_entries: usize,
    pub bytes: u64,
    pub max_bytes: u64,
}

impl Store {
    pub(super) fn new(max_size: u64) -> Self {
        let by_resource = Arc::new(ResourceIndex::new());
        let statics = QuickCache::with(
            EXPECTED_ENTRIES,
            max_size,
            ByWeight,
            DefaultHashBuilder::default(),
            Unindex(Arc::clone(&by_resource)),
        );
        Self {
            statics,
            by_resource,
            leased: DashMap::new(),
            by_lease: DashMap::new(),
            by_lease_id: DashMap::new(),
            max_size,
            leased_bytes: AtomicU64::new(0),
            static_share: AtomicU64::new(max_size),
        }
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<Entry>> {
        if let Some(entry) = self.statics.get(key) {
            return Some(entry);
        }
        self.leased.get(key).map(|entry| Arc::clone(&entry))
    }

    pub(super) fn insert_static(&self, entry: Arc<Entry>) {
        self.by_resource
            .entry(entry.resource.clone())
            .or_default()
            .push(Arc::downgrade(&entry));
        // Outside of the index's guard: an eviction takes it.
        self.statics.insert(entry.key, entry);
    }

    /// Stores a leased answer in place of the one under the same key, which is handed back. `Err` when
    /// the budget is full: the answer is then good for its caller alone.
    pub(super) fn insert_leased(&self, entry: &Arc<Entry>) -> Result<Option<Arc<Entry>>, Full> {
        let Stay::Leased(lease) = &entry.stay else {
            return Err(Full);
        };
        let weight = entry.weight();
        if self
            .leased_bytes
            .load(Ordering::Relaxed)
            .saturating_add(weight)
            > self.max_size
        {
            return Err(Full);
        }
        self.leased_bytes.fetch_add(weight, Ordering::Relaxed);
        self.by_lease.insert(lease.key, entry.key);
        if let Some(lease_id) = entry.lease_print {
            self.by_lease_id.insert(lease_id, lease.key);
        }
        let old = self.leased.insert(entry.key, Arc::clone(entry));
        if let Some(old) = &old {
            self.account_removal(old);
        }
        self.share_out();
        Ok(old)
    }

    /// The entry that serves this lease now.
    pub(super) fn entry_of_lease(&self, lease_key: u64) -> Option<Arc<Entry>> {
        let key = *self.by_lease.get(&lease_key)?;
        let entry = self.leased.get(&key).map(|entry| Arc::clone(&entry))?;
        entry.serves_lease(lease_key).then_some(entry)
    }

    pub(super) fn lease_by_id(&self, lease_id: Print) -> Option<u64> {
        self.by_lease_id.get(&lease_id).map(|key| *key)
    }

    /// Drops the entry of this very lease; a newer one under the same key stays.
    pub(super) fn remove_lease(&self, lease_key: u64) -> Option<Arc<Entry>> {
        let key = *self.by_lease.get(&lease_key)?;
        let (_, entry) = self
            .leased
            .remove_if(&key, |_, entry| entry.serves_lease(lease_key))?;
        self.account_removal(&entry);
        self.share_out();
        Some(entry)
    }

    /// Drops whatever static answer lies under this key.
    pub(super) fn remove_static(&self, key: &Key) -> bool {
        let Some((_, entry)) = self.statics.remove(key) else {
            return false;
        };
        unindex(&self.by_resource, &entry);
        true
    }

    /// Drops the static answers of these canonical paths, for every identity; how many those were.
    pub(super) fn remove_resources<'a>(
        &self,
        resources: impl IntoIterator<Item = &'a str>,
    ) -> usize {
        let mut removed = 0;
        for resource in resources {
            let Some((_, entries)) = self.by_resource.remove(resource) else {
                continue;
            };
            let entries = entries.iter().filter_map(Weak::upgrade);
            removed += entries
                .filter(|entry| self.statics.remove(&entry.key).is_some())
                .count();
        }
        removed
    }

    /// Drops every entry, static or leased, that `picks` picks. Leased ones are handed back.
    pub(super) fn remove_where(&self, picks: impl Fn(&Entry) -> bool) -> Removed {
        let doomed: Vec<Key> = self
            .statics
            .iter()
            .filter(|(_, entry)| picks(entry))
            .map(|(key, _)| key)
            .collect();
        let statics = doomed.iter().filter(|key| self.remove_static(key)).count();
        let leases: Vec<u64> = self
            .leased
            .iter()
            .filter(|entry| picks(entry))
            .filter_map(|entry| entry.lease_key())
            .collect();
        let leased = leases
            .into_iter()
            .filter_map(|key| self.remove_lease(key))
            .collect();
        Removed { statics, leased }
    }

    pub(super) fn size(&self) -> Size {
        Size {
            static_entries: self.statics.len(),
            leased_entries: self.leased.len(),
            bytes: self.statics.weight() + self.leased_bytes.load(Ordering::Relaxed),
            max_bytes: self.max_size,
        }
    }

    fn account_removal(&self, entry: &Entry) {
        self.leased_bytes
            .fetch_sub(entry.weight(), Ordering::Relaxed);
        if let Some(lease_key) = entry.lease_key() {
            self.by_lease.remove(&lease_key);
            if let Some(lease_id) = entry.lease_print {
                self.by_lease_id
                    .remove_if(&lease_id, |_, key| *key == lease_key);
            }
        }
    }

    /// Leased bytes count first; the static cache gets what is left. Told in steps, since telling it
    /// takes all its locks.
    fn share_out(&self) {
        let share = self
            .max_size
            .saturating_sub(self.leased_bytes.load(Ordering::Relaxed));
        let told = self.static_share.load(Ordering::Relaxed);
        let step = (self.max_size / 64).max(1);
        if share.abs_diff(told) >= step
            && self
                .static_share
                .compare_exchange(told, share, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.statics.set_capacity(share.max(1));
        }
    }
}

/// What `remove_where` removed.
#[derive(Debug)]
pub(super) struct Removed {
    pub statics: usize,
    pub leased: Vec<Arc<Entry>>,
}

/// The budget for leased answers is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Entry {
    pub(super) fn lease_key(&self) -> Option<u64> {
        match &self.stay {
            Stay::Leased(lease) => Some(lease.key),
            Stay::Static(_) => None,
        }
    }

    fn serves_lease(&self, lease_key: u64) -> bool {
        self.lease_key() == Some(lease_key)
    }
}

#[derive(Debug, Clone)]
struct ByWeight;

impl Weighter<Key, Arc<Entry>> for ByWeight {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.weight()
    }
}

/// Takes evicted entries out of the index.
#[derive(Debug, Clone)]
struct Unindex(Arc<ResourceIndex>);

impl Lifecycle<Key, Arc<Entry>> for Unindex {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, entry: Arc<Entry>) {
        unindex(&self.0, &entry);
    }
}

fn unindex(index: &ResourceIndex, entry: &Entry) {
    if let Some(mut entries) = index.get_mut(&entry.resource) {
        entries.retain(|indexed| !std::ptr::eq(indexed.as_ptr(), entry));
    }
    index.remove_if(&entry.resource, |_, entries| entries.is_empty());
}

const EXPECTED_ENTRIES: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::super::entry::tests::static_entry;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replaced_entry_is_still_found_by_its_path() {
        let store = Store::new(1 << 20);
        for _ in 0..3 {
            store.insert_static(static_entry("secret/data/x", 10));
        }
        assert_eq!(store.size().static_entries, 1);
        assert_eq!(store.remove_resources(["secret/data/x"]), 1);
        assert_eq!(store.size().static_entries, 0);
        assert!(store.by_resource.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn evicted_and_refused_entries_leave_the_index() {
        let store = Store::new(64 * 1024);
        for number in 0..1_000 {
            store.insert_static(static_entry(&format!("secret/data/{number}"), 500));
        }
        store.insert_static(static_entry("too/large", 1 << 20));
        let size = store.size();
        assert!(size.bytes <= size.max_bytes, "{size:?}");
        assert!(size.static_entries > 10, "{size:?}");
        assert_eq!(store.by_resource.len(), size.static_entries);
        assert_eq!(store.remove_where(|_| true).statics, size.static_entries);
        assert!(store.by_resource.is_empty());
    }
}
