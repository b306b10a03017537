//! The standard world: N clients - edge - M backends, routed, both families everywhere. It starts no server.

mod addresses;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::cgroup::Cgroup;
use crate::lab::Lab;
use crate::link::{self, EndSpec, Veth};
use crate::netns::Netns;
use crate::place::Place;

pub use addresses::{vip4, vip6};

/// The shape of a world.
#[derive(Debug, Clone)]
pub struct WorldSpec {
    /// Client namespaces, at most 90.
    pub clients: usize,
    /// Backend namespaces, at most 50.
    pub backends: usize,
    /// IPv4 addresses of each client, 1..=250, to act as many clients.
    pub sources4: usize,
    /// IPv6 addresses of each client, 1..=250.
    pub sources6: usize,
    /// One service address (v4 and v6) each; `Some(j)`: it is also backend j's own address and routed there,
    /// `None`: nobody has it and the edge has no route to it.
    pub vips: Vec<Option<usize>>,
    pub mtu: u32,
}

impl Default for WorldSpec {
    fn default() -> Self {
        Self { clients: 1, backends: 2, sources4: 16, sources6: 4, vips: vec![Some(0)], mtu: 1500 }
    }
}

/// A client namespace. Its `eth0` leads to the edge's `c<i>`; both default routes go there.
#[derive(Debug)]
pub struct Client {
    pub ns: Arc<Netns>,
    /// `near` is the edge.
    pub link: Veth,
    /// 198.18.(10+i).2 and up.
    pub v4: Vec<Ipv4Addr>,
    /// fd00:18:(10+i)::2 and up, the hextet reads as the decimal number.
    pub v6: Vec<Ipv6Addr>,
}

/// A backend namespace. Its `eth0` leads to the edge's `b<j>`.
#[derive(Debug)]
pub struct Backend {
    pub ns: Arc<Netns>,
    /// `near` is the edge.
    pub link: Veth,
    /// 198.18.(200+j).2
    pub v4: Ipv4Addr,
    /// fd00:18:(200+j)::2
    pub v6: Ipv6Addr,
    /// Service addresses that are its own (on `lo`).
    pub vips: Vec<IpAddr>,
}

/// The world; a drop removes all of it.
pub struct World {
    pub spec: WorldSpec,
    pub clients: Vec<Client>,
    pub edge: Arc<Netns>,
    pub backends: Vec<Backend>,
    /// Cgroup of local callers on the edge host; a domain cgroup, below the lab's.
    pub callers: Arc<Cgroup>,
    // Last: its drop kills leftovers, after the namespaces' names are gone.
    lab: Lab,
}

impl Client {
    pub fn place(&self) -> Place {
        Place::new(&self.ns)
    }

    /// v4 sources, then v6, as the load generator takes them.
    pub fn sources(&self, v6: bool) -> Vec<IpAddr> {
        if v6 {
            self.v6.iter().copied().map(IpAddr::V6).collect()
        } else {
            self.v4.iter().copied().map(IpAddr::V4).collect()
        }
    }
}

impl Backend {
    pub fn place(&self) -> Place {
        Place::new(&self.ns)
    }

    /// Everything a server here should listen on: own v4, own v6, service addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all = vec![IpAddr::V4(self.v4), IpAddr::V6(self.v6)];
        all.extend(&self.vips);
        all
    }
}

impl World {
    /// Takes about 0.1 s for three clients with 200 addresses each and three backends.
    pub fn build(spec: WorldSpec) -> Result<Self> {
        ensure!(spec.clients <= 90 && spec.backends <= 50, "at most 90 clients and 50 backends");
        ensure!((1..=250).contains(&spec.sources4), "1 to 250 IPv4 sources");
        ensure!((1..=250).contains(&spec.sources6), "1 to 250 IPv6 sources");
        let lab = Lab::new()?;
        let edge = lab.netns("edge")?;
        prepare(&edge, true)?;
        let backends = (0..spec.backends).map(|j| backend(&lab, &edge, &spec, j)).collect::<Result<_>>()?;
        let clients = (0..spec.clients).map(|i| client(&lab, &edge, &spec, i)).collect::<Result<_>>()?;
        let callers = Arc::new(lab.cgroup().child("callers")?);
        Ok(Self { spec, clients, edge, backends, callers, lab })
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    pub fn temp(&self) -> &Path {
        self.lab.temp()
    }

    /// The edge host, outside the callers' cgroup.
    pub fn edge_place(&self) -> Place {
        Place::new(&self.edge)
    }

    /// A local caller on the edge host.
    pub fn caller(&self) -> Place {
        self.edge_place().in_cgroup(&self.callers)
    }

    /// The edge's own IPv4 addresses, one on each link.
    pub fn edge_addresses(&self) -> Vec<IpAddr> {
        let gateway = |ip: &Ipv4Addr| {
            let [a, b, c, _] = ip.octets();
            IpAddr::from([a, b, c, 1])
        };
        self.clients
            .iter()
            .map(|c| gateway(&c.v4[0]))
            .chain(self.backends.iter().map(|b| gateway(&b.v4)))
            .collect()
    }

    /// Names of the edge's interfaces towards clients.
    pub fn client_ifs(&self) -> Vec<String> {
        self.clients.iter().map(|c| c.link.near.ifname.clone()).collect()
    }

    /// Names of the edge's interfaces towards backends.
    pub fn backend_ifs(&self) -> Vec<String> {
        self.backends.iter().map(|b| b.link.near.ifname.clone()).collect()
    }

    /// All namespaces: edge, clients, backends.
    pub fn namespaces(&self) -> Vec<Arc<Netns>> {
        let clients = self.clients.iter().map(|c| Arc::clone(&c.ns));
        let backends = self.backends.iter().map(|b| Arc::clone(&b.ns));
        std::iter::once(Arc::clone(&self.edge)).chain(clients).chain(backends).collect()
    }
}

/// Sysctls before any interface exists, so that each inherits them; then loopback.
fn prepare(ns: &Netns, forward: bool) -> Result<()> {
    // A host's own rp_filter is inherited by new namespaces: the lab wants one known value everywhere.
    link::sysctl(ns, "net/ipv4/conf/all/rp_filter", "0")?;
    link::sysctl(ns, "net/ipv4/conf/default/rp_filter", "0")?;
    link::sysctl(ns, "net/ipv6/conf/all/disable_ipv6", "0")?;
    link::sysctl(ns, "net/ipv6/conf/default/disable_ipv6", "0")?;
    link::sysctl(ns, "net/ipv6/conf/default/accept_dad", "0")?;
    link::sysctl(ns, "net/ipv6/conf/default/accept_ra", "0")?;
    link::sysctl(ns, "net/ipv4/ip_local_port_range", "1024 65535")?;
    if forward {
        link::sysctl(ns, "net/ipv4/ip_forward", "1")?;
        link::sysctl(ns, "net/ipv6/conf/all/forwarding", "1")?;
    }
    link::ip_batch(ns, "link set lo up\n")
}

fn client(lab: &Lab, edge: &Arc<Netns>, spec: &WorldSpec, i: usize) -> Result<Client> {
    let ns = lab.netns(&format!("client{i}"))?;
    prepare(&ns, false)?;
    let net = addresses::client_net(i);
    let v4: Vec<Ipv4Addr> = (0..spec.sources4).map(|k| net.v4(k + 2)).collect();
    let v6: Vec<Ipv6Addr> = (0..spec.sources6).map(|k| net.v6(k + 2)).collect();
    let own = v4.iter().map(|a| format!("{a}/24")).chain(v6.iter().map(|a| format!("{a}/64"))).collect();
    let link = join(edge, format!("c{i}"), &ns, own, net, Vec::new(), spec.mtu)?;
    Ok(Client { ns, link, v4, v6 })
}

fn backend(lab: &Lab, edge: &Arc<Netns>, spec: &WorldSpec, j: usize) -> Result<Backend> {
    let ns = lab.netns(&format!("backend{j}"))?;
    prepare(&ns, false)?;
    let net = addresses::backend_net(j);
    let (v4, v6) = (net.v4(2), net.v6(2));
    let mut vips = Vec::new();
    let mut routes = Vec::new();
    for k in (0..spec.vips.len()).filter(|&k| spec.vips[k] == Some(j)) {
        vips.extend([IpAddr::V4(vip4(k)), IpAddr::V6(vip6(k))]);
        routes.extend([format!("{}/32 via {v4}", vip4(k)), format!("{}/128 via {v6}", vip6(k))]);
    }
    let on_lo: String =
        vips.iter().map(|a| format!("addr add {} dev lo\n", addresses::host_route(a))).collect();
    if !on_lo.is_empty() {
        link::ip_batch(&ns, &on_lo)?;
    }
    let own = vec![format!("{v4}/24"), format!("{v6}/64")];
    let link = join(edge, format!("b{j}"), &ns, own, net, routes, spec.mtu)?;
    Ok(Backend { ns, link, v4, v6, vips })
}

fn join(
    edge: &Arc<Netns>,
    edge_if: String,
    ns: &Arc<Netns>,
    own: Vec<String>,
    net: addresses::Net,
    edge_routes: Vec<String>,
    mtu: u32,
) -> Result<Veth> {
    let gateway = vec![format!("{}/24", net.v4(1)), format!("{}/64", net.v6(1))];
    let defaults = vec![format!("default via {}", net.v4(1)), format!("default via {}", net.v6(1))];
    let near = EndSpec { ns: Arc::clone(edge), ifname: edge_if, addresses: gateway, routes: edge_routes };
    let far = EndSpec { ns: Arc::clone(ns), ifname: "eth0".into(), addresses: own, routes: defaults };
    Veth::create(near, far, mtu)
}
