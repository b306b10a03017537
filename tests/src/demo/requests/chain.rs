//! A chain of three services: front's 2.0 is in the lane by its label; cart, stable alone, carries the lane on to stock by what its threads read. All are
//! containers of the edge's host, with network namespaces of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use gray_userspace::sys::kernel::{KernelVersion, MESSAGES};
use serde_json::{Value, json};

use super::{APPS, Act, HEADER, PORT, Requests, url};
use crate::cgroup::Cgroup;
use crate::client::{LoadSpec, Mode};
use crate::server::{How, Middle, MiddleSpec};
use crate::world::vip4;

const LANE: &str = "spring";
/// Services' addresses of the world, by what listens there.
const FRONT: usize = 4;
const CART: usize = 5;
const STOCK: usize = 6;
/// Where instances are: front's beside those of orders, cart's on a backend of its own.
const FRONT_AT: u16 = 8103;
const CART_AT: u16 = 8104;
const CART_BACKEND: usize = 2;
const FRONTS: [(&str, &str); 2] = [("front-1", "front 1.0"), ("front-2", "front 2.0")];
const CART_NAME: &str = "cart 1.0";
/// Of each app, through the whole chain.
const REQUESTS: u64 = 20;

/// Who runs while the chain is shown.
struct Chain {
    _all: Vec<Middle>,
    /// A cgroup that is dropped ends who is in it.
    fronts: [Arc<Cgroup>; 2],
    cart: Arc<Cgroup>,
}

impl Requests<'_> {
    /// Without the link, then with it; an older kernel has none.
    pub(super) fn chain(&self) -> Result<Vec<Act>> {
        let chain = self.begin_chain()?;
        self.label("front-2", &chain.fronts[1], &["--lane", LANE])?;
        let lane = format!("gray workload set front-2 --lane {LANE}");
        let mut acts = vec![self.through("a chain, without a link", &lane, "1.0")?];
        if KernelVersion::running()? < MESSAGES {
            self.say.line(&format!("a chain with a link needs Linux {MESSAGES}: left out"));
        } else {
            self.label("cart", &chain.cart, &["--link", "thread"])?;
            acts.push(self.through("a chain, with a link", "gray workload set cart --link thread", "2.0")?);
            let _ = self.stage.agent()?.gray_ok(&["workload", "remove", "cart"])?;
        }
        let _ = self.stage.agent()?.gray_ok(&["workload", "remove", "front-2"])?;
        Ok(acts)
    }

    fn begin_chain(&self) -> Result<Chain> {
        let world = &self.stage.world;
        let [one, two] = FRONTS.map(|(cgroup, _)| self.cgroup(cgroup));
        let (fronts, cart) = ([one?, two?], self.cgroup("in-cart")?);
        let start = |backend: usize, cgroup: &Arc<Cgroup>, port, to, name| {
            let place = world.backends.get(backend).context("the world has backends")?.place();
            let spec = MiddleSpec { name: Some(name), ..MiddleSpec::new(How::Threads, port, service(to)) };
            Middle::start(&place.in_cgroup(cgroup), world.temp(), spec)
        };
        let mut all = vec![start(CART_BACKEND, &cart, CART_AT, STOCK, CART_NAME)?];
        for (backend, (cgroup, (_, name))) in fronts.iter().zip(FRONTS).enumerate() {
            all.push(start(backend, cgroup, FRONT_AT, CART, name)?);
        }
        Ok(Chain { _all: all, fronts, cart })
    }

    fn label(&self, name: &str, cgroup: &Cgroup, more: &[&str]) -> Result<()> {
        let path = cgroup.path().to_string_lossy().into_owned();
        let args = ["workload", "set", name, "--cgroup", &path];
        self.stage.agent()?.gray_ok(&[&args[..], more].concat()).map(drop)
    }

    /// Requests of both apps; what app7's reach of stock is `stock`.
    fn through(&self, name: &str, command: &str, stock: &str) -> Result<Act> {
        let mut act = Act::new(name, command);
        for (app, (front, stock)) in APPS.into_iter().zip([("front 2.0", stock), ("front 1.0", "1.0")]) {
            let answer = self.curl(&url(service(FRONT)), Some(app))?;
            act.shows(format!("{HEADER}: {app} -> {}", by(&answer)));
            let right = answer["via"] == json!([front, CART_NAME]) && answer["version"] == stock;
            act.expect(right, || {
                format!("{app} should go by {front} and {CART_NAME} to stock {stock}: {answer}")
            });
            let mut spec = LoadSpec::new(service(FRONT), Mode::Http { per_connection: 1 }).count(REQUESTS);
            (spec.headers, spec.timeout_ms) = (vec![(HEADER.into(), app.into())], 30_000);
            let report = spec.run(&self.stage.world.clients[0].place())?;
            act.expect_all(report.of_version(stock), REQUESTS, || {
                format!(
                    "{app}: {REQUESTS} requests should reach stock {stock}, {} failed: {:?}",
                    report.failed(),
                    report.by_server
                )
            });
        }
        Ok(self.end(act))
    }
}

fn service(k: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(vip4(k)), PORT)
}

/// `front 2.0 > cart 1.0 > stock 2.0`
fn by(answer: &Value) -> String {
    let via = answer["via"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let last = format!("stock {}", answer["version"].as_str().unwrap_or("?"));
    via.chain([last.as_str()]).collect::<Vec<_>>().join(" > ")
}
