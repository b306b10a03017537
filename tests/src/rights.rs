//! What the agent of the lab may do: what the unit file grants it and nothing else, so that the whole suite shows that it is enough.

/// With their numbers, as setpriv calls them.
pub const THREE: [(&str, u32); 3] = [("bpf", 39), ("net_admin", 12), ("perfmon", 38)];

/// setpriv with no capability but these; `user`: also another user than root.
pub fn only(caps: &[(&str, u32)], user: Option<u32>) -> Vec<String> {
    let list = caps.iter().map(|(c, _)| format!("+{c}")).collect::<Vec<_>>().join(",");
    let list = if caps.is_empty() { "-all".to_owned() } else { format!("-all,{list}") };
    let mut by = vec!["setpriv".to_owned(), "--no-new-privs".to_owned(), format!("--bounding-set={list}")];
    match user {
        Some(id) => by.extend([
            format!("--reuid={id}"),
            format!("--regid={id}"),
            "--clear-groups".to_owned(),
            format!("--inh-caps={list}"),
            format!("--ambient-caps={list}"),
        ]),
        None => by.push("--inh-caps=-all".to_owned()),
    }
    by
}
