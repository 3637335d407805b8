//! The ways to Vault: TLS, sockets, namespaces, and the login by Kubernetes.

mod certs;
mod namespaces;
mod rotation;
mod sockets;
mod stand;
mod tls;
