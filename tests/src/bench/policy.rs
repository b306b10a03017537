//! The policy that benches apply: each service with one instance, which everybody gets. Pure.

use std::net::SocketAddr;

/// TCP services that are dialled at the first address of each pair and served at the second.
pub fn tcp(pairs: &[(SocketAddr, SocketAddr)]) -> String {
    format!("services:\n{}", services(pairs, "tcp"))
}

/// The same for both protocols.
pub fn tcp_and_udp(pairs: &[(SocketAddr, SocketAddr)]) -> String {
    format!("services:\n{}{}", services(pairs, "tcp"), services(pairs, "udp"))
}

fn services(pairs: &[(SocketAddr, SocketAddr)], protocol: &str) -> String {
    let mut text = String::new();
    for (n, (service, instance)) in pairs.iter().enumerate() {
        text += &format!(
            "  {protocol}{n}:\n    listen: [\"{service}/{protocol}\"]\n    instances:\n      \
             - {{ address: \"{instance}\", version: \"1.0\", id: {protocol}{n} }}\n    \
             stable: {{ version: \"1.0\" }}\n"
        );
    }
    text
}
