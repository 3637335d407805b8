//! The ways to Vault: TLS, sockets, namespaces, and the login by Kubernetes.

mod bao;
mod certs;
mod kubernetes;
mod namespaces;
mod rotation;
mod sockets;
mod stand;
mod tls;
