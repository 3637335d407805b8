//! Sockets that systemd made and passed to this process.

use std::fmt;
use std::io;
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net as unix;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::{Activation, Listener, Passed};
use crate::error::{Error, Kind, Result};

/// The passed sockets, each taken once.
pub struct Activated {
    sockets: ListenFd,
    names: Vec<String>,
    /// By their numbers.
    taken: Vec<bool>,
    /// Names that a listener asks for; who takes just any leaves them alone.
    claimed: Vec<String>,
}

impl Activated {
    /// `listeners` are all that there will be.
    pub fn new(passed: Passed, listeners: &[Listener]) -> Self {
        let claims = listeners
            .iter()
            .filter_map(|listener| match &listener.systemd {
                Some(Activation::Named(name)) => Some(name.clone()),
                Some(Activation::Next) | None => None,
            });
        Self {
            taken: vec![false; passed.sockets.len()],
            sockets: passed.sockets,
            names: passed.names,
            claimed: claims.collect(),
        }
    }

    /// How many nobody has taken. Callers of theirs wait for ever.
    pub fn left(&self) -> usize {
        self.taken.iter().filter(|taken| !**taken).count()
    }

    pub(super) fn tcp(&mut self, which: &Activation) -> Result<net::TcpListener> {
        let number = self.find(which)?;
        let socket = self.sockets.take_tcp_listener(number);
        let socket = self.checked(which, number, socket, TCP)?;
        socket
            .set_nonblocking(true)
            .map_err(|error| refused(which, &error.to_string()))?;
        Ok(socket)
    }

    pub(super) fn unix(&mut self, which: &Activation) -> Result<unix::UnixListener> {
        let number = self.find(which)?;
        let socket = self.sockets.take_unix_listener(number);
        let socket = self.checked(which, number, socket, UNIX)?;
        socket
            .set_nonblocking(true)
            .map_err(|error| refused(which, &error.to_string()))?;
        Ok(socket)
    }

    fn find(&self, which: &Activation) -> Result<usize> {
        if self.taken.is_empty() {
            return Err(refused(
                which,
                "no socket was passed to this process (LISTEN_FDS): start it by its .socket unit, or give \
                 the listener an address of its own",
            ));
        }
        let name_of = |number: usize| self.names.get(number).map_or("", String::as_str);
        let mut free =
            (0..self.taken.len()).filter(|number| self.taken.get(*number) == Some(&false));
        let found = match which {
            Activation::Next => {
                free.find(|number| !self.claimed.iter().any(|name| name == name_of(*number)))
            }
            Activation::Named(name) => free.find(|number| name_of(*number) == name),
        };
        found.ok_or_else(|| {
            let names = self.names.join(", ");
            let message = format!(
                "none of the {} sockets that systemd passed is left for it (their names: {names}): see \
                 FileDescriptorName= of the .socket unit",
                self.taken.len()
            );
            refused(which, &message)
        })
    }

    fn checked<S: AsFd>(
        &mut self,
        which: &Activation,
        number: usize,
        socket: io::Result<Option<S>>,
        wanted: &str,
    ) -> Result<S> {
        let socket = socket.ok().flatten().ok_or_else(|| {
            refused(
                which,
                &format!("the socket that systemd passed for it is not {wanted}"),
            )
        })?;
        if !SockRef::from(&socket).is_listener().unwrap_or(false) {
            return Err(refused(
                which,
                "the socket that systemd passed for it does not listen: the .socket unit needs Accept=no",
            ));
        }
        if let Some(taken) = self.taken.get_mut(number) {
            *taken = true;
        }
        Ok(socket)
    }
}

impl fmt::Debug for Activated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activated")
            .field("names", &self.names)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

fn refused(which: &Activation, what: &str) -> Error {
    let address = match which {
        Activation::Next => "systemd".to_owned(),
        Activation::Named(name) => format!("systemd:{name}"),
    };
    let message = format!("the listener address {address:?} cannot be used: {what}");
    Error::new(Kind::Bind, message)
}

const TCP: &str = "a TCP socket: listener \"tcp\" needs a ListenStream= with a port";
const UNIX: &str = "a Unix stream socket: listener \"unix\" needs a ListenStream= with a path";

#[cfg(test)]
mod tests {
    use super::*;

    fn activated(names: &[&str], claimed: &[&str]) -> Activated {
        let listeners = claimed.iter().map(|name| Listener {
            systemd: Some(Activation::Named((*name).to_owned())),
            ..Listener::default()
        });
        let listeners: Vec<_> = listeners.collect();
        Activated {
            taken: vec![false; names.len()],
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Activated::new(Passed::default(), &listeners)
        }
    }

    #[test]
    fn each_socket_goes_to_who_asks_for_it() {
        let named = |name: &str| Activation::Named(name.to_owned());
        let mut passed = activated(&["a", "b", "a", "c"], &["a"]);
        for (which, number) in [
            (Activation::Next, Some(1)),
            (named("a"), Some(0)),
            (named("a"), Some(2)),
            (Activation::Next, Some(3)),
            (Activation::Next, None),
            (named("a"), None),
            (named("d"), None),
        ] {
            let found = passed.find(&which);
            assert_eq!(found.as_ref().ok(), number.as_ref(), "{which:?}: {found:?}");
            match found {
                Ok(number) => passed.taken[number] = true,
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("a, b, a, c"), "{text}");
                }
            }
        }
        assert_eq!(passed.left(), 0);
    }

    #[test]
    fn a_process_that_was_passed_nothing_says_what_to_do() {
        let error = activated(&[], &[]).tcp(&Activation::Next).unwrap_err();
        assert_eq!(error.kind(), Kind::Bind);
        assert!(error.to_string().contains(".socket unit"), "{error}");
    }
}
