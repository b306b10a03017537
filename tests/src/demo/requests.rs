//! The request path: who a client is, its request says. One URL in two versions, for each request of a kept connection, a request that names nobody, and
//! a chain of three services (`chain`). What is written of each is `told`.

mod alarm;
mod chain;
mod told;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::policy;
use super::say::Say;
use super::signal;
use super::stage::Stage;
use crate::cgroup::Cgroup;
use crate::client::curl;
use crate::client::talk::Talk;
use crate::server::{Nginx, Site};
use crate::world::{vip4, vip6};

pub(super) use told::Act;

/// The file in the repository, as it was when this was compiled.
pub(super) const TEXT: &str = include_str!("../../../examples/demo-requests.yaml");
const HEADER: &str = "X-App-Id";
/// On the list, and not on it.
const APPS: [&str; 2] = ["app7", "app8"];
/// Of the cohort: whom a broken policy lists instead.
const LISTED: (&str, &str) = ("apps: [app7]", "apps: [app9]");
const PORT: u16 = 80;
/// Where instances of orders and of stock are; those of 1.0 and 2.0 are on these backends.
const INSTANCES: [u16; 2] = [8101, 8102];
const VERSIONS: [&str; 2] = ["1.0", "2.0"];
/// By app, of one connection.
const KEPT: [usize; 12] = [0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1];

/// Applies examples/demo-requests.yaml, sends requests, and goes back to the policy of `before`. `broken`: another app is listed, so that it must come out
/// wrong.
pub(super) fn tell(stage: &Stage, say: &Say, before: u64, broken: bool) -> Result<Vec<Act>> {
    say.line("the request path: orders, and a chain of front, cart and stock; examples/demo-requests.yaml is applied");
    let requests = Requests::begin(stage, say, broken)?;
    let mut acts = vec![requests.one_url()?, requests.kept()?, requests.nobody()?];
    acts.extend(requests.chain()?);
    let args = ["rollback", &before.to_string(), "--message", "end of the requests"];
    let _ = stage.agent()?.gray_ok(&args)?;
    Ok(acts)
}

struct Requests<'a> {
    stage: &'a Stage,
    say: &'a Say,
    _servers: Vec<Nginx>,
}

impl<'a> Requests<'a> {
    fn begin(stage: &'a Stage, say: &'a Say, broken: bool) -> Result<Self> {
        let servers = VERSIONS.into_iter().zip(&stage.world.backends).map(|(version, backend)| {
            let site = |name, port| Site { name, version, port, tls: false, h2: false, resets: 0 };
            let sites = [site("orders", INSTANCES[0]), site("stock", INSTANCES[1])];
            Nginx::serving(&backend.place(), stage.world.temp(), &sites)
        });
        let servers = servers.collect::<Result<_>>()?;
        alarm::write_program(stage)?;
        let text = if broken { TEXT.replacen(LISTED.0, LISTED.1, 1) } else { TEXT.to_owned() };
        let (demo, file) = (stage.policy_file(), stage.world.temp().join("demo-requests.yaml"));
        std::fs::write(&demo, policy::with_percent(0)?)?;
        std::fs::write(&file, text)?;
        let (demo, file) = (demo.to_string_lossy(), file.to_string_lossy());
        let args = ["apply", "-f", &demo, "-f", &file, "--message", "requests say who asks"];
        let _ = stage.agent()?.gray_ok(&args)?;
        Ok(Self { stage, say, _servers: servers })
    }

    fn end(&self, act: Act) -> Act {
        self.say.act(&act);
        act
    }

    /// As a person would ask. No answer is one that is not as expected.
    fn curl(&self, url: &str, app: Option<&str>) -> Result<Value> {
        signal::check()?;
        let client = self.stage.world.clients.first().context("the world has clients")?;
        let header = app.map(|app| format!("{HEADER}: {app}"));
        let args: Vec<&str> = header.iter().flat_map(|h| ["-H", h]).collect();
        let answer = curl::get(&client.place(), url, &args).and_then(|answer| answer.json());
        signal::check()?;
        Ok(answer.unwrap_or_else(|e| json!({ "failed": format!("{e:#}").lines().next() })))
    }

    fn one_url(&self) -> Result<Act> {
        let url = url(orders(false));
        let mut act = Act::new("one URL, two APP IDs", &format!("curl -H '{HEADER}: app7' {url}"));
        for v6 in [false, true] {
            for (app, wanted) in APPS.into_iter().zip(["2.0", "1.0"]) {
                let url = self::url(orders(v6));
                let answer = self.curl(&url, Some(app))?;
                act.shows(format!("{url} with {HEADER}: {app} -> {answer}"));
                act.expect(answer["version"] == wanted, || format!("{app} should reach {wanted}: {answer}"));
            }
        }
        Ok(self.end(act))
    }

    /// Requests of both apps on one connection.
    fn kept(&self) -> Result<Act> {
        let mut act = Act::new("one kept connection", "per: request");
        let client = self.stage.world.clients.first().context("the world has clients")?;
        for v6 in [false, true] {
            let before = self.switched()?;
            let mut talk = Talk::connect(&client.ns, orders(v6))?;
            let mut line = format!("one connection to {}:", orders(v6));
            for (i, app) in KEPT.into_iter().enumerate() {
                signal::check()?;
                let (app, wanted) = (APPS[app], ["2.0", "1.0"][app]);
                // The connection's end is what the client would see of a wrong switch.
                let version =
                    talk.get(app, &format!("n{i}")).map_or_else(|e| format!("{e:#}"), |a| a.version());
                line += &format!(" {app}->{version}");
                act.expect(version == wanted, || {
                    format!("request {i}, {app}, should reach {wanted}: {version}")
                });
            }
            let (switched, wanted) =
                (self.switched()? - before, KEPT.windows(2).filter(|w| w[0] != w[1]).count());
            act.shows(format!("{line}; switched {switched} times"));
            act.expect(switched == wanted as u64, || format!("switched {switched} times, not {wanted}"));
        }
        Ok(self.end(act))
    }

    fn switched(&self) -> Result<u64> {
        Ok(self.stage.agent()?.counted("request_switched"))
    }

    fn cgroup(&self, name: &str) -> Result<Arc<Cgroup>> {
        Ok(Arc::new(self.stage.world.callers.child(name)?))
    }
}

fn orders(v6: bool) -> SocketAddr {
    SocketAddr::new(if v6 { IpAddr::V6(vip6(3)) } else { IpAddr::V4(vip4(3)) }, PORT)
}

/// Of a service that listens on its usual port.
fn url(at: SocketAddr) -> String {
    match at.ip() {
        IpAddr::V4(ip) => format!("http://{ip}/"),
        IpAddr::V6(ip) => format!("http://[{ip}]/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_the_demos_world() {
        for k in [3, 4, 5, 6] {
            assert!(TEXT.contains(&format!("listen: [\"{}:80\"", vip4(k))), "{k}");
        }
        assert!(TEXT.contains(&format!("\"[{}]:80\"", vip6(3))));
        assert_eq!(TEXT.matches(LISTED.0).count(), 1);
    }
}
