//! Which lease is due next: a heap of moments, in which superseded ones stay until they come up or are
//! too many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// Moments, each of a lease and of one generation of its planning. A moment counts only while the lease
/// still has that generation, which the owner of the leases knows (`is_live`).
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Moment>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub at: Instant,
    pub key: u64,
    pub generation: u32,
}

impl Queue {
    pub(super) fn push(&mut self, moment: Moment) {
        self.heap.push(Reverse(moment));
    }

    /// The next moment that counts.
    pub(super) fn first(&mut self, is_live: impl Fn(&Moment) -> bool) -> Option<Instant> {
        loop {
            let Reverse(first) = self.heap.peek()?;
            if is_live(first) {
                return Some(first.at);
            }
            self.heap.pop();
        }
    }

    /// Takes the next moment that counts, if it has come.
    pub(super) fn pop_due(
        &mut self,
        now: Instant,
        is_live: impl Fn(&Moment) -> bool,
    ) -> Option<Moment> {
        (self.first(is_live)? <= now)
            .then(|| self.heap.pop())?
            .map(|Reverse(moment)| moment)
    }

    /// Throws the superseded moments away once there are more of them than of the `live` ones.
    pub(super) fn compact(&mut self, live: usize, is_live: impl Fn(&Moment) -> bool) {
        if self.heap.len() > 2 * live + SMALL {
            self.heap.retain(|Reverse(moment)| is_live(moment));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.heap.capacity()
    }
}

/// So few superseded moments are not worth a pass.
const SMALL: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the simplest thing that could work: a map of each lease's moment.
        #[test]
        fn comes_up_in_order_and_forgets_what_was_superseded(
            pushes in proptest::collection::vec((0u64..20, 0u64..1_000), 1..200),
        ) {
            let start = Instant::now();
            let mut queue = Queue::default();
            let mut model: HashMap<u64, (u32, Instant)> = HashMap::new();
            for (key, millis) in pushes {
                let at = start + Duration::from_millis(millis);
                let entry = model.entry(key).or_insert((0, at));
                *entry = (entry.0 + 1, at);
                let generation = entry.0;
                queue.push(Moment { at, key, generation });
                let is_live = |moment: &Moment| model[&moment.key].0 == moment.generation;
                queue.compact(model.len(), is_live);
                prop_assert!(queue.len() <= 2 * model.len() + SMALL + 1);
            }
            let end = start + Duration::from_secs(2);
            let mut last = start;
            while let Some(moment) = queue.pop_due(end, |moment| {
                model.get(&moment.key).is_some_and(|entry| entry.0 == moment.generation)
            }) {
                prop_assert!(moment.at >= last);
                last = moment.at;
                prop_assert_eq!(model.remove(&moment.key).map(|entry| entry.1), Some(moment.at));
            }
            prop_assert!(model.is_empty());
        }
    }

    #[test]
    fn what_has_not_come_stays() {
        let now = Instant::now();
        let mut queue = Queue::default();
        let at = now + Duration::from_secs(1);
        queue.push(Moment {
            at,
            key: 1,
            generation: 0,
        });
        assert_eq!(queue.pop_due(now, |_| true), None);
        assert_eq!(queue.first(|_| true), Some(at));
        assert!(queue.pop_due(at, |_| true).is_some());
        assert_eq!(queue.first(|_| true), None);
    }
}
