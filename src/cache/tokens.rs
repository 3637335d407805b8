//! The tokens that have been seen: who is whose child, and when each ends.
//!
//! A revocation ends a token's `Life` and those of all below it; entries check that life on every hit,
//! so what hangs below a dead token is dead at once, whether or not it was removed yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::key::Print;
use crate::lease::Lease;
use crate::life::Life;

/// Tokens by print; never the tokens themselves.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    family: Mutex<Family>,
}

#[derive(Debug, Default)]
struct Family {
    nodes: HashMap<Print, Node>,
    by_accessor: HashMap<Print, Print>,
}

#[derive(Debug)]
struct Node {
    life: Arc<Life>,
    parent: Option<Print>,
    children: Vec<Print>,
    accessor: Option<Print>,
    /// The lease of a cached login, so that a client's renewal of the token finds it.
    lease: Option<Arc<Lease>>,
    /// It dies after a number of uses, which are its owner's to spend.
    is_counted: bool,
    /// Vault was asked how long it lives.
    is_asked: bool,
}

/// What is known of a token that a renewal or revocation names.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) token: Print,
    pub(super) life: Arc<Life>,
    pub(super) lease: Option<Arc<Lease>>,
}

impl Tokens {
    /// The life of a caller's token, and whether Vault should be asked about it, which is said once. One that
    /// was not seen before is believed in until told otherwise.
    pub(super) fn life_of(&self, token: Print) -> (Arc<Life>, bool) {
        let mut family = self.lock();
        let node = family
            .nodes
            .entry(token)
            .or_insert_with(|| Node::new(Arc::new(Life::endless())));
        let should_ask = node.accessor.is_none() && !node.is_asked;
        node.is_asked = true;
        (Arc::clone(&node.life), should_ask)
    }

    /// It was not asked about after all.
    pub(super) fn ask_later(&self, token: Print) {
        if let Some(node) = self.lock().nodes.get_mut(&token) {
            node.is_asked = false;
        }
    }

    /// The token dies after a number of uses, or with `life` where it was not known yet.
    pub(super) fn note_counted(&self, token: Print, life: Life) {
        let mut family = self.lock();
        let unseen = || Node::new(Arc::new(life));
        family.nodes.entry(token).or_insert_with(unseen).is_counted = true;
    }

    /// What Vault says of a token that was seen: its accessor, and its end where it has one.
    pub(super) fn learn(&self, token: Print, accessor: Print, end: Option<Instant>) {
        let mut family = self.lock();
        let Some(node) = family.nodes.get_mut(&token) else {
            return;
        };
        node.accessor = Some(accessor);
        if let Some(end) = end.filter(|_| node.life.end().is_none()) {
            node.life.set_end(end);
        }
        family.by_accessor.insert(accessor, token);
    }

    /// Ends the tokens whose accessor is not known, and all below them: one of them may be meant.
    pub(super) fn end_without_accessor(&self) -> Vec<Known> {
        let mut family = self.lock();
        let doubtful: Vec<Print> = family
            .nodes
            .iter()
            .filter(|(_, node)| node.accessor.is_none())
            .map(|(print, _)| *print)
            .collect();
        doubtful
            .into_iter()
            .flat_map(|token| family.end(token))
            .collect()
    }

    /// A token that was made; one that is known already takes the new life and keeps its children.
    pub(super) fn add(
        &self,
        token: Print,
        accessor: Option<Print>,
        parent: Option<Print>,
        life: Arc<Life>,
        lease: Option<Arc<Lease>>,
    ) {
        let mut family = self.lock();
        let (children, is_counted) = family
            .detach(token)
            .map_or_else(Default::default, |node| (node.children, node.is_counted));
        if let Some(parent) = parent {
            let unseen = || Node::new(Arc::new(Life::endless()));
            let parent = family.nodes.entry(parent).or_insert_with(unseen);
            parent.children.push(token);
        }
        if let Some(accessor) = accessor {
            family.by_accessor.insert(accessor, token);
        }
        let node = Node {
            life,
            parent,
            children,
            accessor,
            lease,
            is_counted,
            is_asked: accessor.is_some(),
        };
        family.nodes.insert(token, node);
    }

    /// A request came that carries this token: if it is a cached login's, that login is in use. True if its
    /// uses are counted.
    pub(super) fn touch(&self, token: Print, now: Instant) -> bool {
        let family = self.lock();
        let Some(node) = family.nodes.get(&token) else {
            return false;
        };
        if let Some(lease) = &node.lease {
            lease.touch(now);
        }
        node.is_counted
    }

    pub(super) fn find(&self, token: Print) -> Option<Known> {
        self.lock().nodes.get(&token).map(|node| node.known(token))
    }

    pub(super) fn find_accessor(&self, accessor: Print) -> Option<Known> {
        let family = self.lock();
        let token = *family.by_accessor.get(&accessor)?;
        family.nodes.get(&token).map(|node| node.known(token))
    }

    /// Ends a token and all below it, or, with `orphan`, the token alone: its children live on as
    /// orphans. The ended ones are forgotten and handed back.
    pub(super) fn end(&self, token: Print, orphan: bool) -> Vec<Known> {
        let mut family = self.lock();
        if orphan {
            let Some(node) = family.detach(token) else {
                return Vec::new();
            };
            for child in &node.children {
                if let Some(child) = family.nodes.get_mut(child) {
                    child.parent = None;
                }
            }
            node.life.end_now();
            return vec![node.known(token)];
        }
        family.end(token)
    }

    /// The token and all below it.
    pub(super) fn family(&self, token: Print) -> Vec<Print> {
        self.lock().below(token)
    }

    /// Ends the children of tokens whose time has come, and forgets what nobody needs any more.
    pub(super) fn sweep(&self, now: Instant) -> Vec<Known> {
        let mut family = self.lock();
        let over: Vec<Print> = family
            .nodes
            .iter()
            .filter(|(_, node)| node.life.is_over(now))
            .map(|(print, _)| *print)
            .collect();
        let ended = over
            .into_iter()
            .flat_map(|token| family.end(token))
            .collect();
        let unneeded: Vec<Print> = family
            .nodes
            .iter()
            .filter(|(_, node)| node.is_unneeded())
            .map(|(print, _)| *print)
            .collect();
        for token in unneeded {
            family.detach(token);
        }
        ended
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().nodes.len()
    }

    fn lock(&self) -> MutexGuard<'_, Family> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Family {
    fn end(&mut self, eldest: Print) -> Vec<Known> {
        self.below(eldest)
            .into_iter()
            .filter_map(|token| self.detach(token).map(|node| node.known(token)))
            .inspect(|known| known.life.end_now())
            .collect()
    }

    /// A token and all below it, parents first.
    fn below(&self, eldest: Print) -> Vec<Print> {
        let mut found = vec![eldest];
        let mut at = 0;
        while let Some(token) = found.get(at) {
            let children = self.nodes.get(token).map(|node| node.children.clone());
            found.extend(children.unwrap_or_default());
            at += 1;
            if found.len() > self.nodes.len() + 1 {
                // More than there are: a ring, which Vault's tree cannot have.
                break;
            }
        }
        found
    }

    /// Takes a token out of the tree. Its children keep its name as their parent's.
    fn detach(&mut self, token: Print) -> Option<Node> {
        let node = self.nodes.remove(&token)?;
        if let Some(accessor) = node.accessor {
            self.by_accessor.remove(&accessor);
        }
        if let Some(parent) = node.parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children.retain(|child| *child != token);
        }
        Some(node)
    }
}

impl Node {
    fn new(life: Arc<Life>) -> Self {
        Self {
            life,
            parent: None,
            children: Vec::new(),
            accessor: None,
            lease: None,
            is_counted: false,
            is_asked: false,
        }
    }

    /// A caller's token, seen once, with no entries left: only this map still holds its life.
    fn is_unneeded(&self) -> bool {
        self.life.end().is_none()
            && self.parent.is_none()
            && self.children.is_empty()
            && Arc::strong_count(&self.life) == 1
    }

    fn known(&self, token: Print) -> Known {
        Known {
            token,
            life: Arc::clone(&self.life),
            lease: self.lease.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keyer;
    use super::*;
    use std::time::Duration;

    fn family() -> (Tokens, impl Fn(&str) -> Print) {
        let keyer = Keyer::new();
        let print = move |name: &str| keyer.print(name.as_bytes());
        let tokens = Tokens::default();
        for (name, parent) in [
            ("root", None),
            ("child", Some("root")),
            ("grandchild", Some("child")),
        ] {
            let life = Arc::new(Life::endless());
            let accessor = Some(print(&format!("accessor of {name}")));
            tokens.add(print(name), accessor, parent.map(&print), life, None);
        }
        (tokens, print)
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_token_takes_everything_below_with_it() {
        let (tokens, print) = family();
        let (grandchild, _) = tokens.life_of(print("grandchild"));
        assert_eq!(tokens.end(print("child"), false).len(), 2);
        assert!(grandchild.is_over(Instant::now()));
        assert!(tokens.find(print("root")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_of_a_parent_that_was_never_seen_dies_with_it() {
        let (tokens, print) = family();
        let life = Arc::new(Life::endless());
        tokens.add(
            print("child of a stranger"),
            None,
            Some(print("stranger")),
            life,
            None,
        );
        assert_eq!(tokens.end(print("stranger"), false).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn revoke_orphan_leaves_the_children() {
        let (tokens, print) = family();
        assert_eq!(tokens.end(print("child"), true).len(), 1);
        let grandchild = tokens.find(print("grandchild")).unwrap();
        assert!(!grandchild.life.is_over(Instant::now()));
        assert_eq!(
            tokens.end(print("root"), false).len(),
            1,
            "the grandchild is an orphan now"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_without_accessor_is_ended_with_an_unknown_one() {
        let (tokens, print) = family();
        let (stranger, is_new) = tokens.life_of(print("stranger"));
        assert!(is_new && !tokens.life_of(print("stranger")).1);
        let (learned, _) = tokens.life_of(print("learned"));
        let end = Instant::now() + Duration::from_secs(9);
        tokens.learn(print("learned"), print("its accessor"), Some(end));
        assert_eq!(learned.end(), Some(end));
        assert_eq!(tokens.end_without_accessor().len(), 1);
        assert!(stranger.is_over(Instant::now()) && !learned.is_over(Instant::now()));
        assert!(tokens.find_accessor(print("its accessor")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_few_uses_is_known_until_its_end() {
        let (tokens, print) = family();
        let now = Instant::now();
        let end = now + Duration::from_secs(60);
        tokens.note_counted(print("few"), Life::ending_at(end));
        tokens.note_counted(print("child"), Life::ending_at(end));
        tokens.sweep(now);
        for (name, is_counted) in [("few", true), ("child", true), ("root", false)] {
            assert_eq!(tokens.touch(print(name), now), is_counted, "{name}");
        }
        tokens.sweep(end);
        assert!(!tokens.touch(print("few"), end));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_found_by_accessor_and_end_by_time() {
        let (tokens, print) = family();
        let child = tokens.find_accessor(print("accessor of child")).unwrap();
        child.life.set_end(Instant::now() + Duration::from_secs(5));
        assert!(tokens.sweep(Instant::now()).is_empty());
        tokio::time::advance(Duration::from_secs(6)).await;
        drop(child);
        assert_eq!(
            tokens.sweep(Instant::now()).len(),
            2,
            "the child and what hangs below it"
        );
        assert_eq!(tokens.len(), 0, "nobody holds the root's life");
    }
}
