//! The limit of open files: raised as far as the system lets us, and said where that is not enough.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// The soft limit is what careless programs live with, often 1024; ours becomes the hard one, which is
/// what the administrator allows. Each connection is an open file.
pub(super) fn raise_for(config: &Config) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let needed = needed(config);
    if limit < needed {
        tracing::warn!(
            limit,
            needed,
            "fewer files may be open than max_connections of all listeners and of vault add up to: callers beyond \
             that wait; raise the hard limit (ulimit -Hn, LimitNOFILE=) or lower max_connections"
        );
    }
}

fn needed(config: &Config) -> u64 {
    let callers = config.listeners.iter().map(|it| it.max_connections);
    let connections = callers.fold(config.vault.max_connections, usize::saturating_add);
    u64::try_from(connections.saturating_add(OTHERS)).unwrap_or(u64::MAX)
}

/// Standard streams, sockets that listen, connections for our own calls, files being written.
const OTHERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;

    #[test]
    fn every_connection_that_is_allowed_is_a_file() {
        let of = |max_connections| Listener {
            max_connections,
            ..Listener::default()
        };
        let mut config = Config::default();
        assert_eq!(needed(&config), 64 + 32);
        config.listeners = vec![of(1024), of(10)];
        assert_eq!(needed(&config), 64 + 32 + 1034);
        config.listeners.push(of(usize::MAX));
        assert_eq!(needed(&config), u64::MAX);
    }
}
