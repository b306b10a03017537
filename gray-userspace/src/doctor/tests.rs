//! Every check on made-up hosts, one thing wrong at a time; then the real run on this machine.
#![expect(clippy::print_stdout, reason = "the real run shows what it found")]

use std::{collections::BTreeMap, fs, io, path::Path};

use super::*;
use crate::sys::netlink::{Link, Xdp};

const HEALTHY: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
    ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
    ("proc/sys/net/core/bpf_jit_enable", "1\n"),
    ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
    ("proc/self/cgroup", "0::/gray.slice/agent\n"),
    (
        "proc/self/mountinfo",
        "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /sys/fs/cgroup rw - cgroup2 x rw\n3 1 0:3 / /sys/fs/bpf rw - bpf x rw\n",
    ),
    ("proc/meminfo", "MemAvailable: 4000000 kB\n"),
    ("sys/kernel/btf/vmlinux", ""),
    ("sys/fs/cgroup/web/cgroup.procs", ""),
    ("proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
    ("proc/sys/net/ipv4/conf/all/send_redirects", "0\n"),
    ("proc/sys/net/ipv4/conf/e0/rp_filter", "0\n"),
    ("proc/sys/net/ipv4/conf/e0/send_redirects", "0\n"),
    ("proc/sys/net/ipv4/conf/e0/forwarding", "1\n"),
    ("proc/sys/net/ipv6/conf/e0/forwarding", "1\n"),
    ("proc/sys/net/ipv4/conf/b0/forwarding", "1\n"),
    ("proc/sys/net/ipv4/conf/b0/send_redirects", "1\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "0\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
];

fn link(name: &str) -> Link {
    Link {
        ifindex: 9,
        name: name.into(),
        up: true,
        carrier: true,
        mtu: 1500,
        kind: Some("veth".into()),
        mac: None,
        xdp: Xdp::None,
    }
}

struct World {
    _tmp: tempfile::TempDir,
    host: Host,
    input: DoctorInput,
}

fn world() -> World {
    let tmp = tempfile::tempdir().unwrap();
    let host = Host {
        root: tmp.path().to_owned(),
        links: Ok(vec![link("e0"), link("b0")]),
        nft: Ok(String::new()),
        iptables: Err(io::ErrorKind::NotFound.into()),
        marked_rules: Ok(0),
        ipsec_policies: Ok(0),
        bpffs_owner: None,
    };
    let attached = |name: &str, role| Interface { name: name.into(), role, error: None };
    let input = DoctorInput {
        bpffs: "/sys/fs/bpf/gray".into(),
        cgroup: Some("/sys/fs/cgroup/web".into()),
        interfaces: vec![attached("e0", Role::Edge), attached("b0", Role::Backend)],
        map_bytes: 64 << 20,
        agent: None,
        links: Links { connect: true, tags: true, error: None, workloads: Vec::new() },
    };
    let mut w = World { _tmp: tmp, host, input };
    HEALTHY.iter().for_each(|(path, text)| w.put(path, text));
    w
}

impl World {
    fn put(&mut self, path: &str, text: &str) {
        let path = self.host.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&mut self, others: u64, text: Option<&str>) -> &mut Links {
        let text = text.map(Into::into);
        self.input.links.workloads.push(Linked { workload: "b".into(), calls: 400, others, text });
        &mut self.input.links
    }

    fn run(&self) -> Vec<Check> {
        checks(&self.input, &self.host)
    }
}

#[test]
fn a_healthy_host_is_ok_throughout() {
    let found = world().run();
    assert!(found.iter().all(|c| c.status == Status::Ok && c.fix.is_none()), "{found:#?}");
    assert_eq!(found.iter().map(|c| &*c.name).collect::<Vec<_>>(), names().collect::<Vec<_>>());
}

type Break = fn(&mut World);

/// Name of the check, what it must say, and what makes it say so. Everything else must stay ok.
const BROKEN: &[(&str, Status, &str, Break)] = &[
    ("kernel", Status::Fail, "6.1 or newer", |w| w.put("proc/sys/kernel/osrelease", "5.15.0-91-generic")),
    ("kernel", Status::Warn, "clsact", |w| w.put("proc/sys/kernel/osrelease", "6.5.13")),
    ("kernel", Status::Warn, "no version", |w| w.put("proc/sys/kernel/osrelease", "?")),
    ("btf", Status::Fail, "no BTF", |w| fs::remove_file(w.host.root.join("sys/kernel/btf/vmlinux")).unwrap()),
    ("jit", Status::Warn, "interpreted", |w| w.put("proc/sys/net/core/bpf_jit_enable", "0\n")),
    ("unprivileged-bpf", Status::Warn, "every user", |w| {
        w.put("proc/sys/kernel/unprivileged_bpf_disabled", "0\n")
    }),
    ("capabilities", Status::Fail, "CAP_PERFMON", |w| {
        w.put("proc/self/status", "CapEff:\t0000008000001000\n")
    }),
    ("capabilities", Status::Warn, "process 77", |w| w.input.agent = Some(77)),
    ("bpffs", Status::Fail, "not on a bpf", |w| w.input.bpffs = "/run/gray/bpf".into()),
    ("bpffs", Status::Warn, "mode 755", |w| w.put("sys/fs/bpf/gray/x", "")),
    ("bpffs", Status::Fail, "read-only", |w| {
        let text = HEALTHY[5].1.replace("/sys/fs/bpf rw", "/sys/fs/bpf ro");
        w.put("proc/self/mountinfo", &text);
    }),
    ("bpffs-owner", Status::Fail, "process 4242 uses", |w| w.host.bpffs_owner = Some(4242)),
    ("cgroup", Status::Fail, "not inside", |w| w.input.cgroup = Some("/srv/x".into())),
    ("cgroup", Status::Fail, "not inside", |w| w.input.cgroup = Some("/sys/fs/cgroup/../x".into())),
    ("cgroup", Status::Fail, "is no cgroup", |w| w.input.cgroup = Some("/sys/fs/cgroup/gone".into())),
    ("cgroup", Status::Fail, "no cgroup2", |w| {
        let text = HEALTHY[5].1.replace("cgroup2", "cgroup");
        w.put("proc/self/mountinfo", &text);
    }),
    ("memory", Status::Fail, "full maps take 8192 MiB", |w| w.input.map_bytes = 8 << 30),
    ("memory", Status::Warn, "available on", |w| w.input.map_bytes = 3 << 30),
    ("memory", Status::Fail, "memory.max", |w| {
        w.put("sys/fs/cgroup/gray.slice/memory.max", "70000000\n");
        w.put("sys/fs/cgroup/gray.slice/memory.current", "20000000\n");
        w.put("sys/fs/cgroup/gray.slice/agent/memory.max", "max\n");
    }),
    ("interfaces", Status::Fail, "no interface `gone`", |w| {
        w.input.interfaces.push(Interface { name: "gone".into(), role: Role::Host, error: None });
    }),
    ("interfaces", Status::Warn, "e0 is down", |w| w.host.links.as_mut().unwrap()[0].up = false),
    ("interfaces", Status::Warn, "no carrier", |w| w.host.links.as_mut().unwrap()[1].carrier = false),
    ("forwarding", Status::Fail, "e0 does not forward IPv4", |w| {
        w.put("proc/sys/net/ipv4/conf/e0/forwarding", "0\n")
    }),
    ("forwarding", Status::Warn, "IPv6", |w| w.put("proc/sys/net/ipv6/conf/e0/forwarding", "0\n")),
    ("rp-filter", Status::Warn, "e0 drops", |w| w.put("proc/sys/net/ipv4/conf/e0/rp_filter", "1\n")),
    ("send-redirects", Status::Warn, "e0", |w| w.put("proc/sys/net/ipv4/conf/e0/send_redirects", "1\n")),
    ("send-redirects", Status::Warn, "e0", |w| w.put("proc/sys/net/ipv4/conf/all/send_redirects", "1\n")),
    ("mtu", Status::Warn, "b0 1400, e0 1500", |w| w.host.links.as_mut().unwrap()[1].mtu = 1400),
    ("xdp-on-veth", Status::Warn, "b0 is a veth", |w| w.host.links.as_mut().unwrap()[1].xdp = Xdp::Native),
    ("links", Status::Fail, "needs the connect path: what b calls", |w| w.link(0, None).connect = false),
    ("links", Status::Fail, "needs tags: what b calls", |w| w.link(0, None).tags = false),
    ("links", Status::Fail, "no attach: what b calls", |w| w.link(0, None).error = Some("no attach".into())),
    ("links", Status::Warn, "b does not propagate", |w| {
        let _ = w.link(84, Some("workload b does not propagate: 21 %"));
    }),
    ("firewall", Status::Warn, "ip filter FORWARD (0 rules, policy drop)", |w| {
        w.host.nft = Ok("table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n".into());
    }),
    ("firewall", Status::Warn, "nat POSTROUTING (1 rules)", |w| {
        w.host.nft = Err(io::ErrorKind::NotFound.into());
        w.host.iptables = Ok("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\n".into());
    }),
    ("firewall", Status::Warn, "cannot list", |w| w.host.nft = Err(io::Error::other("nft: not permitted"))),
    ("routing-marks", Status::Warn, "2 rules route", |w| w.host.marked_rules = Ok(2)),
    ("routing-marks", Status::Warn, "cannot list", |w| w.host.marked_rules = Err(io::Error::other("no"))),
    ("ipsec", Status::Warn, "leave unencrypted", |w| w.host.ipsec_policies = Ok(1)),
    ("ipsec", Status::Warn, "cannot list", |w| w.host.ipsec_policies = Err(io::Error::other("no"))),
    ("conntrack", Status::Warn, "tracks 5", |w| w.put("proc/sys/net/netfilter/nf_conntrack_count", "5\n")),
    ("conntrack", Status::Warn, "nearly full", |w| {
        w.put("proc/sys/net/netfilter/nf_conntrack_count", "90\n")
    }),
    ("kube-proxy", Status::Warn, "KUBE-SERVICES", |w| {
        w.host.iptables = Ok("*nat\n:KUBE-SERVICES - [0:0]\n".into());
    }),
    ("kube-proxy", Status::Warn, "kube-ipvs0", |w| w.host.links.as_mut().unwrap().push(link("kube-ipvs0"))),
    ("cilium", Status::Warn, "cilium_host", |w| w.host.links.as_mut().unwrap().push(link("cilium_net"))),
    ("cilium", Status::Warn, "pins", |w| w.put("sys/fs/bpf/tc/globals/cilium_lb4", "")),
];

#[test]
fn each_fault_is_found_by_its_check_alone() {
    for (name, status, text, fault) in BROKEN {
        let mut w = world();
        fault(&mut w);
        let found: Vec<_> = w.run().into_iter().filter(|c| c.status != Status::Ok).collect();
        let [one] = &found[..] else { panic!("{name} ({text}): {found:#?}") };
        assert_eq!((&*one.name, one.status), (*name, *status), "{one:?}");
        assert!(one.detail.contains(text), "{text}: {one:?}");
        assert!(one.fix.as_deref().is_some_and(|f| !f.is_empty()), "{one:?}");
    }
    let covered: BTreeMap<_, _> = BROKEN.iter().map(|(name, ..)| (*name, ())).collect();
    assert_eq!(covered.len(), CHECKS.len(), "every check has a fault that shows it");
}

#[test]
fn c10_a_link_is_judged_where_a_workload_has_one() {
    let said = |w: &World| {
        let links = w.run().into_iter().find(|c| c.name == "links").unwrap();
        format!("{}: {}", links.status, links.detail)
    };
    let mut w = world();
    assert_eq!(said(&w), "ok: no workload has one; one can be made");
    let _ = w.link(3, None);
    assert_eq!(said(&w), "ok: b: 3 of 400 calls in another lane");
    w.put("proc/sys/kernel/osrelease", "6.2.9\n");
    let why = "a link needs Linux 6.3 or newer, this is 6.2.9";
    assert_eq!(said(&w), format!("fail: {why}: what b calls is in no lane by its link"));
    w.input.links.workloads.clear();
    assert_eq!(said(&w), format!("ok: no workload has one; {why}"));
}

#[test]
fn loose_rp_filter_for_all_overrides_a_strict_interface() {
    let mut w = world();
    w.put("proc/sys/net/ipv4/conf/e0/rp_filter", "1\n");
    w.put("proc/sys/net/ipv4/conf/all/rp_filter", "2\n");
    assert!(w.run().iter().all(|c| c.status == Status::Ok));
}

#[test]
fn an_own_lock_is_no_conflict() {
    let mut w = world();
    w.host.bpffs_owner = Some(std::process::id());
    assert!(w.run().iter().all(|c| c.status == Status::Ok));
    w.host.bpffs_owner = Some(77);
    w.input.agent = Some(77);
    let owner = w.run().into_iter().find(|c| c.name == "bpffs-owner").unwrap();
    assert_eq!(owner.status, Status::Ok);
}

#[test]
fn interface_names_do_not_lead_out_of_proc() {
    let mut w = world();
    for name in ["../../../etc", "", ".."] {
        w.input.interfaces.push(Interface { name: name.into(), role: Role::Edge, error: None });
    }
    let found = w.run();
    let bad: Vec<_> = found.iter().filter(|c| c.status != Status::Ok).map(|c| &*c.name).collect();
    assert_eq!(bad, ["interfaces"; 3]);
}

#[test]
fn an_empty_tree_is_judged_without_panic() {
    let mut w = world();
    w.host.root = "/nonexistent".into();
    w.host.links = Err(io::Error::other("no netlink"));
    assert_eq!(names().filter(|n| w.run().iter().any(|c| c.name == *n)).count(), CHECKS.len());
}

/// The real thing, on whatever machine this runs.
#[test]
fn runs_here() {
    let input = DoctorInput {
        bpffs: "/sys/fs/bpf/gray-doctor-test".into(),
        cgroup: None,
        interfaces: vec![Interface { name: "lo".into(), role: Role::Lo, error: None }],
        map_bytes: 1 << 20,
        agent: None,
        links: Links::default(),
    };
    let found = run(&input);
    for c in &found {
        println!(
            "{:5} {:18} {}{}",
            c.status,
            c.name,
            c.detail,
            c.fix.as_ref().map_or(String::new(), |f| format!(" -> {f}"))
        );
    }
    assert_eq!(names().filter(|n| found.iter().any(|c| c.name == *n)).count(), CHECKS.len());
    let of = |name: &str| found.iter().find(|c| c.name == name).unwrap();
    assert_eq!(of("interfaces").status, Status::Ok);
    assert_eq!(of("btf").status == Status::Ok, Path::new("/sys/kernel/btf/vmlinux").exists());
    assert!(!input.bpffs.exists(), "a doctor changes nothing");
    let json = serde_json::to_value(of("interfaces")).unwrap();
    assert_eq!((json["name"].as_str(), json["status"].as_str()), (Some("interfaces"), Some("ok")));
}
