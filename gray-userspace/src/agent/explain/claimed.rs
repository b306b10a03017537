//! What is known of a client, in hashes and in words, and the request that says some of it. Pure.

use std::collections::BTreeMap;

use gray_common::{
    decide::{
        Claims, Known as _,
        claims::{ND_ENV, ND_REGION, ND_VERSION},
        tail,
    },
    hash::{HashKey, claim_hash_bytes},
    request::reading::{Read, read},
    wire::Reading,
};

use crate::{
    api::{
        ApiError,
        types::{ClaimShown, ExplainRequest},
    },
    asks::Asks,
    compile::{self, conditions::claim_code},
    model::{ClaimKind, Place, Service, Tls},
    splice::{first::more_of, value},
};

/// What a client sends first: a request or a ClientHello, or nothing that is known.
#[derive(Clone, Debug, Default)]
pub struct First {
    head: Vec<u8>,
    /// The claims that are read of it.
    hello: BTreeMap<ClaimKind, String>,
}

impl First {
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.hello.is_empty()
    }
}

/// The claims of one connection.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub claims: Claims,
    /// Those that are present.
    pub values: Vec<(ClaimKind, String)>,
    /// The name of the lane that the connection is in.
    pub lane: Option<String>,
    /// Weights, addresses and blacklists that the request asks by: the place in `watch::MORE_HEADERS`, and what it says of the service.
    pub more: Vec<(usize, Vec<u8>)>,
    /// Whether the request was read to its end; `None`: no request is read.
    pub request: Option<bool>,
}

impl Known {
    /// What the first bytes say, as the data path reads them.
    pub fn read(&mut self, key: HashKey, reading: &Reading, first: &First) {
        for (kind, value) in &first.hello {
            let code = claim_code(*kind);
            let hash = claim_hash_bytes(key, code, value.as_bytes());
            self.claims.set_read(code, hash, tail::of_value(value.as_bytes()));
            self.values.push((*kind, value.clone()));
        }
        let head = &first.head;
        let found = read(reading, head);
        self.more = more_of(reading, head);
        // What says a value of each service the splice listener reads.
        let of = |(kind, value): &(u8, &[u8])| {
            let value = match *kind {
                ND_VERSION | ND_REGION | ND_ENV => value::of(value, reading.name)?,
                _ => value.to_vec(),
            };
            Some((*kind, value))
        };
        let said: Vec<(u8, Vec<u8>)> = found.values.iter().filter_map(of).collect();
        let found = Read { values: said.iter().map(|(kind, v)| (*kind, &v[..])).collect(), ..found };
        found.claims(key, &mut self.claims);
        self.request = Some(found.whole || head.is_empty());
        for (code, value) in found.values {
            let mut read = ClaimKind::READ.into_iter().chain(ClaimKind::ASKED);
            if let Some(kind) = read.find(|k| claim_code(*k) == code) {
                self.values.push((kind, String::from_utf8_lossy(value).into_owned()));
            }
        }
    }

    /// What of these headers counts.
    pub fn asks(&self, more: u32) -> Asks {
        let plain = self.values.iter().map(|(kind, text)| (claim_code(*kind), text.as_bytes()));
        Asks::read(more, self.more.iter().map(|(i, value)| (*i, &value[..]))).beside(plain)
    }

    pub fn shown(&self) -> Vec<ClaimShown> {
        let show = |(kind, value): &(ClaimKind, String)| ClaimShown {
            kind: kind.name().into(),
            value: value.clone(),
            hash: format!("{:016x}", self.claims.of(claim_code(*kind))),
        };
        let lane = self.lane.iter().map(|name| ClaimShown {
            kind: "lane".into(),
            value: name.clone(),
            hash: format!("{:016x}", self.claims.lane),
        });
        self.values.iter().map(show).chain(lane).collect()
    }

    /// `source 198.18.1.3`: the first of the service's claims that is present.
    pub fn identity_text(&self, identify: &[u8]) -> Option<String> {
        let is = |code: &u8| self.values.iter().find(|v| claim_code(v.0) == *code);
        identify.iter().find_map(is).map(|(kind, value)| format!("{} {value}", kind.name()))
    }
}

/// What a person means that the client sends, as it would send it.
///
/// # Errors
/// What could not be sent so, or would not be read.
pub fn first(service: &Service, r: &ExplainRequest, handed: bool) -> Result<First, ApiError> {
    let hello = hello(service, r)?;
    let asks = |of: &ClaimKind| hello.contains_key(of);
    let request: BTreeMap<_, _> = r.claims.iter().filter(|(of, _)| !asks(of)).collect();
    let asked = !request.is_empty() || !r.headers.is_empty() || r.path.is_some();
    if !hello.is_empty() && asked {
        return Err(ApiError::unusable(
            "a TLS ClientHello and a request",
            "requests inside of TLS are not read: leave one of them out",
        ));
    }
    if (asked || !hello.is_empty()) && r.workload.is_some() && !handed {
        return Err(local());
    }
    Ok(First { head: head(service, r, &request)?, hello })
}

/// What is read of the ClientHello: by name, or by the claim that is read there alone.
fn hello(service: &Service, r: &ExplainRequest) -> Result<BTreeMap<ClaimKind, String>, ApiError> {
    let mut out = BTreeMap::new();
    for (tls, value) in [(Tls::Sni, &r.sni), (Tls::Alpn, &r.alpn)] {
        let Some(value) = value else { continue };
        let reads = service.tls.iter().find(|(_, t)| **t == tls);
        let Some((kind, _)) = reads else {
            return Err(ApiError::unusable(
                format!("service `{}` reads no claim from `{}`", service.name, tls.name()),
                format!("add it to the service's `claims`, such as `tenant: {{ {}: true }}`", tls.name()),
            ));
        };
        let _ = out.insert(*kind, greeted(tls, value)?);
    }
    for (of, value) in &r.claims {
        let Some(tls) = service.tls.get(of).filter(|_| !service.claims.contains_key(of)) else { continue };
        if out.insert(*of, greeted(*tls, value)?).is_some() {
            return Err(ApiError::unusable(
                format!("the ClientHello names {} twice", of.name()),
                format!("give it once: by name, or as `{}`", tls.name()),
            ));
        }
    }
    Ok(out)
}

/// As it is read. Names of servers have no case.
fn greeted(tls: Tls, value: &str) -> Result<String, ApiError> {
    if value.is_empty() || value.len() > 255 || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ApiError::unusable(
            format!("`{}` cannot stand in `{}`", value.escape_debug(), tls.name()),
            "give what a client would send there, at most 255 visible characters",
        ));
    }
    Ok(if tls == Tls::Sni { value.to_ascii_lowercase() } else { value.to_owned() })
}

fn local() -> ApiError {
    ApiError::unusable(
        "a workload and a request",
        "requests of local callers are read by a splice listener alone, and none is there: leave one of them out",
    )
}

/// The request; empty when nothing is said of one.
fn head(
    service: &Service,
    r: &ExplainRequest,
    claims: &BTreeMap<&ClaimKind, &String>,
) -> Result<Vec<u8>, ApiError> {
    if claims.is_empty() && r.headers.is_empty() && r.path.is_none() {
        return Ok(Vec::new());
    }
    let mut head = Head { target: target(r.path.as_deref().unwrap_or("/"))?, lines: headers(&r.headers)? };
    let reading = compile::reading(service);
    let plain = head.bytes();
    let said = read(&reading, &plain).values;
    for (of, value) in claims {
        let place = service.claims.get(*of).ok_or_else(|| unread(service, **of))?;
        if said.iter().any(|(code, _)| *code == claim_code(**of)) {
            return Err(ApiError::unusable(
                format!("the request names {} twice", of.name()),
                "give it once: by name, or where it stands in the request",
            ));
        }
        head.put(place, value);
    }
    let bytes = head.bytes();
    let found = read(&reading, &bytes).values;
    for (of, value) in claims {
        let stands = |(code, v): &(u8, &[u8])| *code == claim_code(**of) && *v == value.as_bytes();
        if !found.iter().any(stands) {
            let (key, name) = service.claims.get(*of).map_or(("request", ""), Place::parts);
            return Err(ApiError::unusable(
                format!("`{}` cannot stand in the {key} {name}", value.escape_debug()),
                "give what a client would send there",
            ));
        }
    }
    Ok(bytes)
}

/// A request in the making.
struct Head {
    target: String,
    /// Headers, each with its end.
    lines: String,
}

impl Head {
    fn bytes(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\n{}\r\n", self.target, self.lines).into_bytes()
    }

    fn put(&mut self, place: &Place, value: &str) {
        match place {
            Place::Header(name) => self.lines.push_str(&format!("{name}: {value}\r\n")),
            Place::Cookie(name) => self.lines.push_str(&format!("Cookie: {name}={value}\r\n")),
            Place::Query(name) => {
                let end = self.target.find('#').unwrap_or(self.target.len());
                let join = if self.target[..end].contains('?') { '&' } else { '?' };
                self.target.insert_str(end, &format!("{join}{name}={value}"));
            }
        }
    }
}

fn target(path: &str) -> Result<String, ApiError> {
    if path.is_empty() || !path.bytes().all(|b| b > b' ' && b != 0x7f) {
        return Err(ApiError::unusable(
            format!("`{}` is no path of a request", path.escape_debug()),
            "give visible characters, such as /buy?channel=beta",
        ));
    }
    Ok(path.to_owned())
}

fn headers(given: &[String]) -> Result<String, ApiError> {
    let mut lines = String::new();
    for line in given {
        let name = line.split_once(':').map_or("", |(name, _)| name);
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if !named || line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(ApiError::unusable(
                format!("`{}` is no header", line.escape_debug()),
                "write `Name: value`, such as X-App-Id: app7",
            ));
        }
        lines.push_str(line);
        lines.push_str("\r\n");
    }
    Ok(lines)
}

fn unread(service: &Service, of: ClaimKind) -> ApiError {
    let mut names: Vec<&str> = service.claims.keys().chain(service.tls.keys()).map(|k| k.name()).collect();
    names.dedup();
    let reads = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    ApiError::unusable(
        format!("service `{}` does not read the claim `{}`", service.name, of.name()),
        format!("it reads {reads}; add it to the service's `claims`"),
    )
}
