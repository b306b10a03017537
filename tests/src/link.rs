//! veth pairs between two namespaces, with addresses, routes, MTU and offloads. It decides no addresses.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{note, run, run_with_input};
use crate::netns::Netns;

/// One end of a pair.
#[derive(Debug, Clone)]
pub struct EndSpec {
    pub ns: Arc<Netns>,
    pub ifname: String,
    /// With prefix length, `198.18.10.2/24`; v6 addresses are usable at once (no duplicate detection).
    pub addresses: Vec<String>,
    /// What follows `ip route add`, `default via 198.18.10.1`. Added in order.
    pub routes: Vec<String>,
}

/// A veth pair; the kernel removes it with either namespace.
#[derive(Debug)]
pub struct Veth {
    pub near: EndSpec,
    pub far: EndSpec,
    pub mtu: u32,
}

/// Another MTU than the pair was made with.
#[derive(Debug)]
pub struct MtuChange<'a> {
    pair: &'a Veth,
}

impl Drop for MtuChange<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.pair.set_mtu(self.pair.mtu) {
            note(&format!("set the MTU back: {e:#}"));
        }
    }
}

/// What the kernel says of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    pub ifname: String,
    pub ifindex: u32,
    pub mac: [u8; 6],
    pub mtu: u32,
}

impl Veth {
    /// Makes the pair and configures both ends.
    pub fn create(near: EndSpec, far: EndSpec, mtu: u32) -> Result<Self> {
        let pair = Self { near, far, mtu };
        pair.build()?;
        Ok(pair)
    }

    fn build(&self) -> Result<()> {
        let (near, far) = (&self.near, &self.far);
        let make =
            format!("link add {} type veth peer name {} netns {}\n", near.ifname, far.ifname, far.ns.name());
        ip_batch(&near.ns, &(make + &self.configure(near, false)))?;
        ip_batch(&far.ns, &self.configure(far, true))?;
        // Routes of the near end last: they need the far end up for their carrier.
        let routes: String = near.routes.iter().map(|r| format!("route add {r}\n")).collect();
        if routes.is_empty() { Ok(()) } else { ip_batch(&near.ns, &routes) }
    }

    fn configure(&self, end: &EndSpec, with_routes: bool) -> String {
        let mut script = format!("link set {} mtu {} up\n", end.ifname, self.mtu);
        for address in &end.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            script += &format!("addr add {address} dev {}{nodad}\n", end.ifname);
        }
        for route in end.routes.iter().filter(|_| with_routes) {
            script += &format!("route add {route}\n");
        }
        script
    }

    /// Removes both ends, their addresses and routes.
    pub fn delete(&self) -> Result<()> {
        ip_batch(&self.near.ns, &format!("link del {}\n", self.near.ifname))
    }

    /// Makes a deleted pair again: same names and addresses, new ifindex and MAC addresses.
    pub fn create_again(&self) -> Result<()> {
        self.build()
    }

    /// Changes the MTU of both ends while they are in use; a drop sets it back.
    pub fn change_mtu(&self, mtu: u32) -> Result<MtuChange<'_>> {
        self.set_mtu(mtu)?;
        Ok(MtuChange { pair: self })
    }

    fn set_mtu(&self, mtu: u32) -> Result<()> {
        for end in [&self.near, &self.far] {
            ip_batch(&end.ns, &format!("link set {} mtu {mtu}\n", end.ifname))?;
        }
        Ok(())
    }

    /// Checksum, segmentation and receive offloads of both ends.
    pub fn offloads(&self, on: bool) -> Result<()> {
        offloads(&self.near.ns, &self.near.ifname, on)?;
        offloads(&self.far.ns, &self.far.ifname, on)
    }

    pub fn near_info(&self) -> Result<LinkInfo> {
        info(&self.near.ns, &self.near.ifname)
    }

    pub fn far_info(&self) -> Result<LinkInfo> {
        info(&self.far.ns, &self.far.ifname)
    }
}

/// Runs lines of `ip` commands (without the word `ip`) in a namespace, in one process; stops at an error.
pub fn ip_batch(ns: &Netns, script: &str) -> Result<()> {
    let done = run_with_input(ns.command("ip").args(["-batch", "-"]), script);
    done.map(drop).with_context(|| format!("ip -batch in {}", ns.name()))
}

/// Checksum (rx, tx), segmentation (tso, gso) and receive (gro) offloads of one interface.
pub fn offloads(ns: &Netns, ifname: &str, on: bool) -> Result<()> {
    let mut ethtool = ns.command("ethtool");
    let _ = ethtool.args(["-K", ifname]);
    for feature in ["rx", "tx", "tso", "gso", "gro"] {
        let _ = ethtool.args([feature, if on { "on" } else { "off" }]);
    }
    run(&mut ethtool).map(drop)
}

/// Writes `/proc/sys/KEY` of the namespace, `net/ipv4/ip_forward`.
pub fn sysctl(ns: &Netns, key: &str, value: &str) -> Result<()> {
    ns.enter(|| fs::write(format!("/proc/sys/{key}"), value))
        .with_context(|| format!("write {value} to /proc/sys/{key} in {}", ns.name()))
}

/// Reads `/proc/sys/KEY` of the namespace, trimmed.
pub fn read_sysctl(ns: &Netns, key: &str) -> Result<String> {
    let text = ns.enter(|| fs::read_to_string(format!("/proc/sys/{key}")));
    Ok(text.with_context(|| format!("read /proc/sys/{key} in {}", ns.name()))?.trim().to_owned())
}

#[derive(Deserialize)]
struct IpLink {
    ifname: String,
    ifindex: u32,
    address: Option<String>,
    mtu: u32,
}

/// All interfaces of a namespace that have an Ethernet address, loopback included. Where tunnels' modules are loaded, each
/// namespace has devices of theirs.
pub fn list(ns: &Netns) -> Result<Vec<LinkInfo>> {
    let text = run(ns.command("ip").args(["-j", "link", "show"]))?;
    let links: Vec<IpLink> = serde_json::from_str(&text).context("read the output of ip -j link show")?;
    let of = |l: IpLink| {
        let mac = parse_mac(l.address.as_deref()?)?;
        Some(LinkInfo { ifname: l.ifname, ifindex: l.ifindex, mac, mtu: l.mtu })
    };
    Ok(links.into_iter().filter_map(of).collect())
}

pub fn info(ns: &Netns, ifname: &str) -> Result<LinkInfo> {
    let found = list(ns)?.into_iter().find(|l| l.ifname == ifname);
    found.with_context(|| format!("no interface {ifname} in {}", ns.name()))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}
