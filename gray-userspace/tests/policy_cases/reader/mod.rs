//! Reads the tables of cases (`tests/cases/README.md` has the words), and asks whatever decides: tables in memory here, the kernel in
//! the lab. The same file is a module of both. Must not judge anything itself.

mod who;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use gray_common::{
    Reason,
    decide::{Claims, Verdict},
    hash::{HashKey, mix},
    request::reading::read,
    wire::{ARM_GRAY, Addr, ListenerKey, Workload},
};
use gray_userspace::{
    compile::{
        Circumstances, Compiled, compile,
        conditions::claim_code,
        have::Have,
        lists::{of_policy, text_hash},
        plan::{Want, Write, plan},
    },
    config::{self, Source},
    model::{ClaimKind, Policy},
};

pub use who::Who;

pub const KEY: HashKey = HashKey { k0: 3, k1: 4 };

/// One connection.
#[derive(Clone, Debug)]
pub struct Asked {
    pub key: ListenerKey,
    pub claims: Claims,
    pub source: Option<Addr>,
    pub is_v4: bool,
    pub seed: u64,
}

/// What decides by tables.
pub trait Decides {
    /// A document begins that knows of none before it: breakers are closed.
    fn begin(&mut self) -> Result<(), String>;
    /// What the tables have.
    fn have(&mut self) -> &mut Have;
    fn write(&mut self, steps: &[Write]) -> Result<(), String>;
    /// From here on no agent was able to act for so long, and a bit.
    fn leave(&mut self, seconds: u64);
    /// From here on there is one, and the breaker of the service with this number is open since so long ago.
    fn trip(&mut self, service: u32, seconds: u64);
    fn decide(&mut self, asked: &Asked) -> Result<Verdict, String>;
}

/// A policy in force.
struct World<'d, D> {
    by: &'d mut D,
    compiled: Compiled,
    policy: Policy,
}

impl<D: Decides> World<'_, D> {
    fn apply(&mut self, text: &str, around: &Circumstances) -> Result<(), String> {
        let policy = config::load(&[Source::new("policy", text)]).map_err(|e| e.to_string())?.policy;
        let compiled = compile(&policy, &self.compiled.assigned, around).map_err(|e| e.to_string())?;
        let lists = of_policy(&policy, &compiled.assigned.lists, KEY);
        let have = self.by.have();
        let want = Want::all(have.revision + 1, KEY, &compiled, &lists);
        let steps = plan(have, &want).map_err(|e| e.to_string())?;
        self.by.write(&steps)?;
        (self.compiled, self.policy) = (compiled, policy);
        Ok(())
    }

    fn trip(&mut self, service: &str, seconds: u64) -> bool {
        let Some(id) = self.compiled.assigned.services.get(service) else { return false };
        self.by.trip(id, seconds);
        true
    }

    /// `SERVICE ARM SUBSET REASON` and the instance.
    fn decided(&mut self, who: &Who) -> Result<(String, String), String> {
        let at = who.to.or_else(|| self.policy.services.first()?.listen.first().map(|l| l.addr));
        let Some(at) = at else { return Ok(("passes not_managed".to_owned(), String::new())) };
        let verdict = self.by.decide(&asked(&self.policy, &self.compiled, who, at))?;
        let reason = |code| Reason::from_code(code).map_or("?", Reason::label);
        let (d, how) = match &verdict {
            Verdict::Pass(reason) => return Ok((format!("passes {}", reason.label()), String::new())),
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
                let ip = IpAddr::from(d.instance.addr);
                SocketAddr::new(ip, u16::from_be(d.instance.port)).to_string()
            }
            _ => String::new(),
        };
        Ok((format!("{service} {how} {subset} {}", reason(d.reason)), instance))
    }
}

/// The connection of who asks, to an address.
pub fn asked(policy: &Policy, compiled: &Compiled, who: &Who, at: SocketAddr) -> Asked {
    let proto = if who.udp { 17 } else { 6 };
    let key = ListenerKey { addr: Addr::from(at.ip()), port: at.port().to_be(), proto, _pad: 0 };
    let source = who.source.map(Addr::from);
    let claims = claims(policy, compiled, who, at, source.as_ref());
    Asked { key, claims, source, is_v4: at.is_ipv4(), seed: mix(who.seed) }
}

fn claims(policy: &Policy, compiled: &Compiled, who: &Who, at: SocketAddr, source: Option<&Addr>) -> Claims {
    let mut claims = Claims::none(0);
    if let Some(source) = source {
        claims.set_source(KEY, source);
    }
    let mut services = policy.services.iter().zip(&compiled.readings);
    if let Some((service, reading)) = services.find(|(s, _)| s.listen.iter().any(|l| l.addr == at)) {
        let head = who.head(service);
        read(reading, head.as_bytes()).claims(KEY, &mut claims);
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
        claims.lane = u64::from(compiled.assigned.lanes.get(lane).unwrap_or(0));
    }
    claims
}

/// What a case expects, against what is decided.
fn check<D: Decides>(world: &mut World<'_, D>, who: &Who, want: &str) -> Result<(), String> {
    let Some((n, _)) = &who.each else {
        let (said, instance) = world.decided(who)?;
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
    let mut hits = 0;
    for i in 0..*n {
        let (said, instance) = world.decided(&who.number(i))?;
        hits += u32::from(said.starts_with(what) && at.is_none_or(|at| instance == at));
    }
    let share = 100.0 * f64::from(hits) / f64::from(*n);
    if (least..=most).contains(&share) { Ok(()) } else { Err(format!("{share:.3} %")) }
}

/// Every file of cases.
pub fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gray-userspace/tests/cases");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "cases"));
    files.sort();
    files
}

/// Runs all of them: how many cases there are, and which of them are wrong.
pub fn run_all(by: &mut impl Decides) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let cases = files().iter().map(|f| run(f, by, &mut wrong)).sum();
    (cases, wrong)
}

/// One file: how many cases it has, and which of them are wrong.
fn run(path: &Path, by: &mut impl Decides, wrong: &mut Vec<String>) -> usize {
    let text = fs::read_to_string(path).unwrap();
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut world = World { by, compiled: Compiled::default(), policy: Policy::default() };
    let (mut document, mut inside) = (String::new(), None::<(bool, Circumstances)>);
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
                if let Err(e) = world.by.begin() {
                    wrong.push(format!("{place}: {e}"));
                }
                world.compiled = Compiled::default();
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
                Ok(seconds) => world.by.leave(seconds),
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
            let got = Who::read(who).and_then(|who| check(&mut world, &who, want));
            if let Err(got) = got {
                wrong.push(format!("{place}: {name}\n    wanted {want}\n    got    {got}"));
            }
        }
    }
    cases
}
