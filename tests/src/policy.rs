//! Policy documents for live tests: three services over two backends, and the parts that vary. It applies nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::world::{World, vip4, vip6};

/// A document. `Display` is its YAML.
///
/// Services: `web` (HTTP, 8080), `echo` (TCP, 9000), `dns` (UDP, 9001), each on the world's first service
/// address in both families; version 1.0 (stable) is backend 0, version 2.0 is backend 1.
#[derive(Debug, Clone)]
pub struct PolicyText {
    stable: [IpAddr; 2],
    gray: [IpAddr; 2],
    identify: String,
    claims: String,
    per_request: bool,
    first_byte: Option<String>,
    each: String,
    services: Vec<(String, u16, bool)>,
    cohorts: Vec<String>,
    lanes: Vec<String>,
    routes: Vec<String>,
}

impl PolicyText {
    /// Clients dial stable's own address: stable needs no rewrite. The world's first service address must be
    /// backend 0's.
    pub fn own(w: &World) -> Self {
        Self::new(w, [IpAddr::V4(vip4(0)), IpAddr::V6(vip6(0))])
    }

    /// Clients dial an address that is not the one stable listens on: both arms are rewritten.
    pub fn moved(w: &World) -> Self {
        Self::new(w, [IpAddr::V4(w.backends[0].v4), IpAddr::V6(w.backends[0].v6)])
    }

    fn new(w: &World, stable: [IpAddr; 2]) -> Self {
        let gray = [IpAddr::V4(w.backends[1].v4), IpAddr::V6(w.backends[1].v6)];
        let none = Vec::new;
        let (services, identify) = (Vec::new(), "source, workload".into());
        let text = Self {
            stable,
            gray,
            identify,
            claims: String::new(),
            per_request: false,
            first_byte: None,
            each: String::new(),
            services,
            cohorts: none(),
            lanes: none(),
            routes: none(),
        };
        text.service("web", 8080, false).service("echo", 9000, false).service("dns", 9001, true)
    }

    /// One more service at the same addresses.
    pub fn service(mut self, name: &str, port: u16, udp: bool) -> Self {
        self.services.push((name.into(), port, udp));
        self
    }

    /// `workload, source`: what `identify` says of every service.
    pub fn identify(mut self, claims: &str) -> Self {
        self.identify = claims.into();
        self
    }

    /// `app: { header: X-App-Id }`: what is read of requests to every TCP service.
    pub fn claims(mut self, claims: &str) -> Self {
        self.claims = claims.into();
        self
    }

    /// `1s`: of services that are read.
    pub fn first_byte(mut self, time: &str) -> Self {
        self.first_byte = Some(time.into());
        self
    }

    /// Every request chooses.
    pub fn per_request(mut self) -> Self {
        self.per_request = true;
        self
    }

    /// `on-missing-identity: deny`: one line more of every service.
    pub fn each(mut self, line: &str) -> Self {
        self.each += &format!("    {line}\n");
        self
    }

    /// `cohort("tenth", "percent: 10")`.
    pub fn cohort(mut self, name: &str, body: &str) -> Self {
        self.cohorts.push(format!("  {name}: {{ {body} }}\n"));
        self
    }

    /// A cohort of addresses and prefixes.
    pub fn sources<T: ToString>(self, name: &str, list: impl IntoIterator<Item = T>) -> Self {
        let list: Vec<String> = list.into_iter().map(|s| format!("\"{}\"", s.to_string())).collect();
        self.cohort(name, &format!("sources: [{}]", list.join(", ")))
    }

    /// `lane("blue", "web: { version: \"2.0\" }")`.
    pub fn lane(mut self, name: &str, services: &str) -> Self {
        self.lanes.push(format!("  {name}: {{ {services} }}\n"));
        self
    }

    /// `route("when: tenth, to: { version: \"2.0\" }")`; without `service:` it is for all three.
    pub fn route(mut self, body: &str) -> Self {
        self.routes.push(format!("  - {{ {body} }}\n"));
        self
    }

    /// Whoever meets `when` goes to 2.0.
    pub fn gray_when(self, when: &str) -> Self {
        self.route(&format!("when: {when}, to: {{ version: \"2.0\" }}"))
    }

    /// Everybody is weighed: `gray` per cent to 2.0.
    pub fn weights(self, gray: u32) -> Self {
        let stable = 100 - gray;
        self.route(&format!(
            "to: [ {{ version: \"1.0\", weight: {stable} }}, {{ version: \"2.0\", weight: {gray} }} ]"
        ))
    }
}

impl fmt::Display for PolicyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "services:")?;
        for (name, port, udp) in &self.services {
            let at = |ip: IpAddr| SocketAddr::new(ip, *port);
            let proto = if *udp { "/udp" } else { "" };
            let (v4, v6) = (at(IpAddr::V4(vip4(0))), at(IpAddr::V6(vip6(0))));
            writeln!(f, "  {name}:\n    listen: [\"{v4}{proto}\", \"{v6}{proto}\"]")?;
            let reads = !self.claims.is_empty();
            if reads && !udp {
                writeln!(f, "    claims: {{ {} }}", self.claims)?;
                if let Some(time) = &self.first_byte {
                    writeln!(f, "    first-byte: {time}")?;
                }
                if self.per_request {
                    writeln!(f, "    per: request")?;
                }
            }
            let identify = if reads && *udp { "source" } else { &self.identify };
            write!(f, "    identify: [{identify}]\n{}    instances:\n", self.each)?;
            for (arm, version, addresses) in [("s", "1.0", self.stable), ("g", "2.0", self.gray)] {
                for (family, ip) in [(4, addresses[0]), (6, addresses[1])] {
                    let address = at(ip);
                    writeln!(
                        f,
                        "      - {{ address: \"{address}\", version: \"{version}\", id: {arm}{family} }}"
                    )?;
                }
            }
            writeln!(f, "    stable: {{ version: \"1.0\" }}")?;
        }
        for (key, list) in [("cohorts", &self.cohorts), ("lanes", &self.lanes), ("routes", &self.routes)] {
            if !list.is_empty() {
                write!(f, "{key}:\n{}", list.concat())?;
            }
        }
        Ok(())
    }
}
