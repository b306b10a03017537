//! The policies that benches apply. Pure.

use std::net::SocketAddr;

/// Services with one instance each, which everybody gets: TCP ones that are dialled at the first address of each pair and served at the second.
pub fn tcp(pairs: &[(SocketAddr, SocketAddr)]) -> String {
    format!("services:\n{}", services(pairs, "tcp"))
}

/// The same for both protocols.
pub fn tcp_and_udp(pairs: &[(SocketAddr, SocketAddr)]) -> String {
    format!("services:\n{}{}", services(pairs, "tcp"), services(pairs, "udp"))
}

/// TCP services whose requests are read, with two instances: who names one of the `apps` gets the second one. `per`: `connection` or
/// `request`.
pub fn by_app(services: &[(SocketAddr, [SocketAddr; 2])], apps: &[String], per: &str) -> String {
    let mut text = "services:\n".to_owned();
    for (n, (service, instances)) in services.iter().enumerate() {
        text += &format!(
            "  web{n}:\n    listen: [\"{service}\"]\n    claims: {{ app: {{ header: X-App-Id }} }}\n    per: {per}\n    \
             identify: [app, source]\n    instances:\n"
        );
        for (instance, version) in instances.iter().zip(["1.0", "2.0"]) {
            let id = format!("web{n}-{version}");
            text += &format!("      - {{ address: \"{instance}\", version: \"{version}\", id: {id} }}\n");
        }
        text += "    stable: { version: \"1.0\" }\n";
    }
    let apps = apps.join(", ");
    text + &format!(
        "cohorts:\n  listed: {{ apps: [{apps}] }}\nroutes:\n  - {{ when: listed, to: {{ version: \"2.0\" }} }}\n"
    )
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
