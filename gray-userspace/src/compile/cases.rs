//! What policies decide, as tables: `tests/cases/*.cases`, run through the compiled tables in memory. Each case is a line,
//! `ID what | who asks | what is decided`; the file `tests/cases/README.md` has the words. Must not judge anything itself.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path};

use gray_common::{
    Reason,
    decide::{Claims, Request, Verdict, decide},
    hash::{HashKey, mix},
    request::reading::read,
    wire::{ARM_GRAY, Addr, ListenerKey, Trip, Workload},
};

use super::{
    Circumstances, Compiled, compile,
    conditions::claim_code,
    have::Have,
    lists::{of_policy, text_hash},
    plan::{Want, plan},
};
use crate::{
    config::{self, Source},
    datapath::{Datapath as _, Fake},
    model::{ClaimKind, Place, Policy, Service},
};

const KEY: HashKey = HashKey { k0: 3, k1: 4 };

/// A policy in force.
#[derive(Default)]
struct World {
    path: Fake,
    have: Have,
    compiled: Compiled,
    policy: Policy,
}

impl World {
    fn apply(&mut self, text: &str, around: &Circumstances) -> Result<(), String> {
        let policy = config::load(&[Source::new("policy", text)]).map_err(|e| e.to_string())?.policy;
        let compiled = compile(&policy, &self.compiled.assigned, around).map_err(|e| e.to_string())?;
        let lists = of_policy(&policy, &compiled.assigned.lists, KEY);
        let want = Want::all(self.have.revision + 1, KEY, &compiled, &lists);
        for step in plan(&mut self.have, &want).map_err(|e| e.to_string())? {
            self.path.write(&step).map_err(|e| e.to_string())?;
        }
        (self.compiled, self.policy) = (compiled, policy);
        Ok(())
    }

    /// For so long no agent was able to act.
    fn leave(&mut self, seconds: u64) {
        let t = &mut self.path.tables;
        (t.control.hz, t.control.renewed) = (250, 1 << 32);
        t.now = t.control.renewed + seconds * 250 + 1;
    }

    /// So long ago the breaker of a service opened.
    fn trip(&mut self, service: &str, seconds: u64) -> bool {
        self.leave(0);
        let Some(id) = self.compiled.assigned.services.get(service) else { return false };
        let t = &mut self.path.tables;
        let opened = t.now - seconds * 250;
        let _ = t.trips.insert(id, Trip { opened, ..Trip::default() });
        true
    }

    /// `SERVICE ARM SUBSET REASON` and the instance.
    fn decided(&self, who: &Who) -> (String, String) {
        let view = self.path.tables.view();
        let at = who.to.or_else(|| self.policy.services.first()?.listen.first().map(|l| l.addr));
        let Some(at) = at else { return ("passes not_managed".to_owned(), String::new()) };
        let key = ListenerKey {
            addr: Addr::from(at.ip()),
            port: at.port().to_be(),
            proto: if who.udp { 17 } else { 6 },
            _pad: 0,
        };
        let listener = view.listener(&key);
        let source = who.source.map(Addr::from);
        let claims = self.claims(who, at, source.as_ref());
        let asked = Request {
            listener,
            claims: &claims,
            source: source.as_ref(),
            is_v4: at.is_ipv4(),
            seed: mix(who.seed),
            spares: 0,
        };
        let verdict = decide(&view, &asked);
        let reason = |code| Reason::from_code(code).map_or("?", Reason::label);
        let (d, how) = match &verdict {
            Verdict::Pass(reason) => return (format!("passes {}", reason.label()), String::new()),
            Verdict::Deny(d) => (d, "refused"),
            Verdict::Stay(d) => (d, "stays"),
            Verdict::Steer(d) if u32::from(d.arm) == ARM_GRAY => (d, "gray"),
            Verdict::Steer(d) => (d, "stable"),
        };
        let service = self.compiled.assigned.services.name(u32::from(d.service)).unwrap_or("?");
        let begins = format!("{service}: ");
        let subset = self.compiled.subsets.iter().filter(|s| s.target == d.target);
        let subset = subset.filter_map(|s| s.name.strip_prefix(&begins)).next().unwrap_or("-");
        let instance = match verdict {
            Verdict::Steer(d) => {
                SocketAddr::new(d.instance.addr.into(), u16::from_be(d.instance.port)).to_string()
            }
            _ => String::new(),
        };
        (format!("{service} {how} {subset} {}", reason(d.reason)), instance)
    }

    fn claims(&self, who: &Who, at: SocketAddr, source: Option<&Addr>) -> Claims {
        let mut claims = Claims::none(0);
        if let Some(source) = source {
            claims.set_source(KEY, source);
        }
        let listens = |s: &&Service| s.listen.iter().any(|l| l.addr == at);
        let service = self.policy.services.iter().find(listens);
        if let Some((i, service)) =
            service.and_then(|s| Some((self.policy.services.iter().position(|o| o.name == s.name)?, s)))
        {
            let head = who.head(service);
            read(&self.compiled.readings[i], head.as_bytes()).claims(KEY, &mut claims);
        }
        for (of, value) in &who.values {
            match of {
                ClaimKind::Mark => claims.set_mark(KEY, value.parse().unwrap_or(0)),
                ClaimKind::Dscp => claims.set_dscp(KEY, value.parse().unwrap_or(0)),
                ClaimKind::Workload => {
                    let hash = text_hash(KEY, claim_code(*of), value);
                    claims.set_workload(0, &Workload { hash: [hash; 2], ..Workload::default() });
                }
                _ => {}
            }
        }
        if let Some(lane) = &who.lane {
            claims.lane = u64::from(self.compiled.assigned.lanes.get(lane).unwrap_or(0));
        }
        claims
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
struct Who {
    source: Option<std::net::IpAddr>,
    to: Option<SocketAddr>,
    udp: bool,
    values: Vec<(ClaimKind, String)>,
    headers: Vec<String>,
    lane: Option<String>,
    seed: u64,
    /// So many, by this: `seed`, `source`, or a claim.
    each: Option<(u32, String)>,
}

impl Who {
    fn read(text: &str) -> Result<Self, String> {
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
    fn head(&self, service: &Service) -> String {
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
    fn number(&self, i: u32) -> Self {
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

/// What a case expects, against what is decided.
fn check(world: &World, who: &Who, want: &str) -> Result<(), String> {
    let Some((n, _)) = &who.each else {
        let (said, instance) = world.decided(who);
        let (want, at) = want.split_once(" @").unwrap_or((want, &instance));
        let ok = said == want && at == instance;
        return if ok { Ok(()) } else { Err(format!("{said} @{instance}")) };
    };
    let (range, what) =
        want.split_once(" % ").ok_or("a share is written `9.9..10.1 % shop gray version=2.0`")?;
    let (least, most) = range.split_once("..").unwrap_or((range, range));
    let bound = |t: &str| t.trim().parse::<f64>().map_err(|_| format!("`{t}` is no number"));
    let (least, most) = (bound(least)?, bound(most)?);
    let (what, at) = what.split_once(" @").map_or((what, None), |(what, at)| (what, Some(at)));
    let hit = |i: &u32| {
        let (said, instance) = world.decided(&who.number(*i));
        said.starts_with(what) && at.is_none_or(|at| instance == at)
    };
    let hits = (0..*n).filter(hit).count();
    let share = 100.0 * hits as f64 / f64::from(*n);
    if (least..=most).contains(&share) { Ok(()) } else { Err(format!("{share:.3} %")) }
}

/// One file: how many cases it has, and which of them are wrong.
fn run(path: &Path, wrong: &mut Vec<String>) -> usize {
    let text = fs::read_to_string(path).unwrap();
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    let (mut world, mut document, mut inside) =
        (World::default(), String::new(), None::<(bool, Circumstances)>);
    let mut cases = 0;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        if let Some((next, around)) = inside.take() {
            if line != "--" {
                document.push_str(line);
                document.push('\n');
                inside = Some((next, around));
                continue;
            }
            if !next {
                world = World::default();
            }
            if let Err(e) = world.apply(&std::mem::take(&mut document), &around) {
                wrong.push(format!("{place}: the policy: {e}"));
            }
        } else if let Some(rest) = line.strip_prefix("policy").or_else(|| line.strip_prefix("next")) {
            let mut around = Circumstances::default();
            for word in rest.split_whitespace() {
                match word.split_once('=') {
                    Some(("drained", names)) => {
                        around.drained = names.split(',').map(str::to_owned).collect()
                    }
                    Some(("zone", zone)) => around.zone = Some(zone.to_owned()),
                    _ => {
                        wrong.push(format!("{place}: `{word}` is not `drained=SERVICE/ID,..` or `zone=ZONE`"))
                    }
                }
            }
            inside = Some((line.starts_with("next"), around));
        } else if let Some(seconds) = line.strip_prefix("gone ") {
            match seconds.trim().parse::<u64>() {
                Ok(seconds) => world.leave(seconds),
                Err(_) => wrong.push(format!("{place}: not `gone SECONDS`")),
            }
        } else if let Some(rest) = line.strip_prefix("breaker ") {
            let parts = rest.split_once(' ').and_then(|(name, s)| Some((name, s.trim().parse().ok()?)));
            if !parts.is_some_and(|(name, seconds)| world.trip(name, seconds)) {
                wrong.push(format!("{place}: not `breaker SERVICE SECONDS`"));
            }
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            cases += 1;
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [name, who, want] = parts.as_slice() else {
                wrong.push(format!("{place}: not `ID what | who | decided`"));
                continue;
            };
            let got = Who::read(who).and_then(|who| check(&world, &who, want));
            if let Err(got) = got {
                wrong.push(format!("{place}: {name}\n    wanted {want}\n    got    {got}"));
            }
        }
    }
    cases
}

#[test]
fn c7_every_case_of_the_tables_is_decided_as_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "cases"));
    files.sort();
    let mut wrong = Vec::new();
    let cases: usize = files.iter().map(|f| run(f, &mut wrong)).sum();
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases > 0, "no case was found in {} files", files.len());
}
