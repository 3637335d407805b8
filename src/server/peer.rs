//! Who may use a Unix socket: decided by what the kernel says of the peer, before its first byte is read.

use std::fs;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::owner;
use crate::config::AllowedPeers;
use crate::error::{Error, Kind, Result};
use crate::telemetry::{Metrics, Rejection};

/// `allowed_uids` and `allowed_gids` of one listener.
#[derive(Debug)]
pub(super) struct Peers {
    uids: Vec<u32>,
    gids: Vec<u32>,
    metrics: Metrics,
    told: Mutex<Option<Instant>>,
}

/// The other end, as it was when it connected (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy)]
struct Peer {
    uid: u32,
    gid: u32,
    /// `None`: it lives in a PID namespace that is not ours to see.
    pid: Option<i32>,
}

impl Peers {
    /// # Errors
    /// `Kind::Bind`: a name that this system does not know.
    pub(super) fn of(allowed: &AllowedPeers, metrics: Metrics) -> Result<Self> {
        let wrong = |key: &'static str| {
            move |message| Error::new(Kind::Bind, format!("listener {key}: {message}"))
        };
        let uids = allowed.uids.iter().map(owner::uid);
        let gids = allowed.gids.iter().map(owner::gid);
        Ok(Self {
            uids: uids
                .collect::<Result<_, _>>()
                .map_err(wrong("allowed_uids"))?,
            gids: gids
                .collect::<Result<_, _>>()
                .map_err(wrong("allowed_gids"))?,
            metrics,
            told: Mutex::default(),
        })
    }

    /// What to answer to a peer that may not come in; told in the log once a minute, counted each time.
    pub(super) fn refusal(&self, stream: &UnixStream) -> Option<Bytes> {
        let peer = stream.peer_cred().map(|peer| Peer {
            uid: peer.uid(),
            gid: peer.gid(),
            pid: peer.pid(),
        });
        let message = match &peer {
            Ok(peer) => self.objection(*peer, groups_of)?,
            Err(error) => format!("the system does not say who you are: {error}"),
        };
        self.metrics.rejected(Rejection::Peer);
        if self.is_news() {
            let peer = peer.ok();
            tracing::warn!(
                uid = peer.map(|peer| peer.uid),
                gid = peer.map(|peer| peer.gid),
                pid = peer.and_then(|peer| peer.pid),
                "a peer was refused: {message}"
            );
        }
        Some(Bytes::from(json!({ "errors": [message] }).to_string()))
    }

    fn objection(&self, peer: Peer, groups: impl FnOnce(Peer) -> Vec<u32>) -> Option<String> {
        let Peer { uid, gid, .. } = peer;
        let has = |gid: &u32| self.gids.contains(gid);
        if self.uids.contains(&uid)
            || has(&gid)
            || (!self.gids.is_empty() && groups(peer).iter().any(has))
        {
            return None;
        }
        let user = format!("the user that connects (uid {uid})");
        let group = format!("a group of that user (gid {gid} first of all)");
        Some(match (self.uids.is_empty(), self.gids.is_empty()) {
            (_, true) => format!("this listener's allowed_uids does not have {user}"),
            (true, false) => format!(
                "this listener's allowed_gids has no group of {user}, whose primary one is gid {gid}"
            ),
            (false, false) => {
                format!(
                    "this listener has neither {user} in allowed_uids nor {group} in allowed_gids"
                )
            }
        })
    }

    fn is_news(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.is_none_or(|at| at.elapsed() >= BETWEEN_LINES);
        if is_news {
            *told = Some(Instant::now());
        }
        is_news
    }
}

/// The supplementary groups of a peer, from its `/proc/PID/status`; none where that is not to be seen.
///
/// A process number can be another process's by now. It is believed only while user and group are still those
/// that connected: who could bring that about runs as that very user, and needs no trick to be let in.
fn groups_of(peer: Peer) -> Vec<u32> {
    let status = peer
        .pid
        .filter(|pid| *pid > 0)
        .and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    status.map_or_else(Vec::new, |status| groups_in(&status, peer))
}

fn groups_in(status: &str, peer: Peer) -> Vec<u32> {
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or_else(Vec::new, |line| {
            let words = line.split_ascii_whitespace();
            words.filter_map(|word| word.parse().ok()).collect()
        })
    };
    // Real, effective, saved, file system: the second is what SO_PEERCRED tells.
    let is_the_same =
        numbers("Uid:").get(1) == Some(&peer.uid) && numbers("Gid:").get(1) == Some(&peer.gid);
    if is_the_same {
        numbers("Groups:")
    } else {
        Vec::new()
    }
}

const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(uids: &[u32], gids: &[u32]) -> Peers {
        Peers {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
            metrics: Metrics::new(),
            told: Mutex::default(),
        }
    }

    const PEER: Peer = Peer {
        uid: 1000,
        gid: 100,
        pid: Some(7),
    };

    #[test]
    fn either_list_lets_in() {
        for (uids, gids, groups, let_in) in [
            (&[1000][..], &[][..], &[][..], true),
            (&[1], &[], &[], false),
            (&[], &[100], &[], true),
            (&[], &[5], &[4, 5], true),
            (&[], &[5], &[4, 6], false),
            (&[1], &[100], &[], true),
            (&[1], &[5], &[6], false),
            // A group of that number is no user of that number.
            (&[100], &[], &[100], false),
            (&[], &[1000], &[], false),
        ] {
            let objection = peers(uids, gids).objection(PEER, |_| groups.to_vec());
            assert_eq!(objection.is_none(), let_in, "{uids:?} {gids:?} {groups:?}");
        }
    }

    #[test]
    fn an_objection_names_the_keys_that_were_given() {
        for (uids, gids, named) in [
            (&[1][..], &[][..], [true, false]),
            (&[], &[1], [false, true]),
            (&[1], &[1], [true, true]),
        ] {
            let text = peers(uids, gids).objection(PEER, |_| Vec::new()).unwrap();
            let has = ["allowed_uids", "allowed_gids"].map(|key| text.contains(key));
            assert_eq!(has, named, "{text}");
            assert!(text.contains("uid 1000"), "{text}");
        }
    }

    #[test]
    fn another_process_with_that_number_is_not_believed() {
        let status = |uid: u32, gid: u32| {
            format!(
                "Name:\tx\nUid:\t0\t{uid}\t0\t0\nGid:\t0\t{gid}\t0\t0\nGroups:\t4 27 \nNgid:\t0\n"
            )
        };
        assert_eq!(groups_in(&status(1000, 100), PEER), [4, 27]);
        for other in [status(1001, 100), status(1000, 101), String::new()] {
            assert_eq!(groups_in(&other, PEER), [0_u32; 0], "{other}");
        }
    }

    #[tokio::test]
    async fn the_kernel_knows_us() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        assert_eq!(peers(&[uid], &[]).refusal(&stream), None);
        let strict = peers(&[uid + 1], &[]);
        let refusal = strict.refusal(&stream).unwrap();
        let text = std::str::from_utf8(&refusal).unwrap();
        assert!(
            text.starts_with(r#"{"errors":["this listener's allowed_uids"#),
            "{text}"
        );
        assert!(!strict.is_news());
    }
}
