//! Who asks, as a case says it.

use std::{fmt::Write as _, net::SocketAddr};

use gray_userspace::model::{ClaimKind, Place, Service};

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Who {
    pub source: Option<std::net::IpAddr>,
    pub to: Option<SocketAddr>,
    pub udp: bool,
    pub values: Vec<(ClaimKind, String)>,
    pub headers: Vec<String>,
    pub lane: Option<String>,
    pub seed: u64,
    /// So many, by this: `seed`, `source`, or a claim.
    pub each: Option<(u32, String)>,
}

impl Who {
    pub fn read(text: &str) -> Result<Self, String> {
        let mut who = Self { seed: 1, ..Self::default() };
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let bad = || format!("`{word}` says nothing of who asks");
            match key {
                "from" => who.source = Some(value.parse().map_err(|_| bad())?),
                "to" => who.to = Some(value.parse().map_err(|_| bad())?),
                "udp" => who.udp = true,
                "nobody" => {}
                "lane" => who.lane = Some(value.to_owned()),
                "seed" => who.seed = value.parse().map_err(|_| bad())?,
                "header" => who.headers.push(value.replacen('=', ": ", 1)),
                "each" => {
                    let (n, by) = value.split_once(':').ok_or_else(bad)?;
                    who.each = Some((n.parse().map_err(|_| bad())?, by.to_owned()));
                }
                of => {
                    let of = ClaimKind::ALL.into_iter().find(|c| c.name() == of).ok_or_else(bad)?;
                    who.values.push((of, value.to_owned()));
                }
            }
        }
        Ok(who)
    }

    /// The request, with the values where the service reads them.
    pub fn head(&self, service: &Service) -> String {
        let (mut target, mut lines) = (String::from("/"), String::new());
        for (of, value) in &self.values {
            match service.claims.get(of) {
                Some(Place::Header(name)) => {
                    let _ = write!(lines, "{name}: {value}\r\n");
                }
                Some(Place::Cookie(name)) => {
                    let _ = write!(lines, "Cookie: {name}={value}\r\n");
                }
                Some(Place::Query(name)) => {
                    let join = if target.contains('?') { '&' } else { '?' };
                    let _ = write!(target, "{join}{name}={value}");
                }
                None => {}
            }
        }
        for header in &self.headers {
            let _ = write!(lines, "{header}\r\n");
        }
        format!("GET {target} HTTP/1.1\r\n{lines}\r\n")
    }

    /// One of many.
    pub fn number(&self, i: u32) -> Self {
        let mut who = self.clone();
        match self.each.as_ref().map(|(_, by)| by.as_str()) {
            Some("seed") => who.seed = u64::from(i),
            Some("source") => who.source = Some(std::net::Ipv4Addr::from(0x0a00_0000 + i).into()),
            Some(of) => {
                let of = ClaimKind::ALL.into_iter().find(|c| c.name() == of);
                who.values.extend(of.map(|of| (of, format!("u{i}"))));
            }
            None => {}
        }
        who
    }
}
