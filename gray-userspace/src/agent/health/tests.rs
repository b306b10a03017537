//! Verdicts and changes of policy on the fake data path: what is down gets nothing, in every order of events.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use gray_common::{
    Reason,
    decide::{Claims, Request, Verdict as Decided, decide},
    hash::HashKey,
    slots,
    wire::{Addr, ListenerKey},
};
use proptest::prelude::*;
use tokio::sync::broadcast;

use super::{board::Board, machine::Verdict, targets::Probed};
use crate::{
    api::types::EventLine,
    compile::{
        Circumstances, Compiled, compile,
        have::Have,
        lists::Lists,
        plan::{self, Want},
    },
    config::{self, Source},
    datapath::{Datapath as _, Fake},
    model::Policy,
};

const KEY: HashKey = HashKey { k0: 5, k1: 6 };

/// An agent without its shell: what `agent::change` and `agent::start` do with the board.
struct Agent {
    path: Arc<Mutex<Fake>>,
    have: Have,
    policy: Arc<Policy>,
    compiled: Compiled,
    board: Board,
    events: broadcast::Receiver<EventLine>,
    now: u64,
}

fn parsed(text: &str) -> Arc<Policy> {
    Arc::new(config::load(&[Source::new("test", text)]).unwrap_or_else(|e| panic!("{e}")).policy)
}

impl Agent {
    fn start(path: Arc<Mutex<Fake>>) -> Self {
        let have = path.lock().unwrap().read().unwrap();
        let (send, events) = broadcast::channel(1000);
        let board = Board::new(Box::new(path.clone()), &have, send);
        let (policy, compiled) = (Arc::default(), Compiled::default());
        Self { path, have, policy, compiled, board, events, now: 1_000_000 }
    }

    fn with(text: &str) -> Self {
        let mut a = Self::start(Arc::default());
        a.apply(text);
        a
    }

    fn compile(&self, policy: &Policy, drained: &[&str]) -> Compiled {
        let drained = drained.iter().map(ToString::to_string).collect();
        let around = Circumstances { drained, ..Circumstances::default() };
        compile(policy, &self.compiled.assigned, &around).unwrap()
    }

    fn apply(&mut self, text: &str) {
        self.change(text, &[], |_| {});
    }

    /// `meanwhile`: between the tables and the flip.
    fn change(&mut self, text: &str, drained: &[&str], meanwhile: impl FnOnce(&mut Self)) {
        let policy = parsed(text);
        let compiled = self.compile(&policy, drained);
        let placed = self.board.place(&policy, &compiled, self.now).unwrap();
        let lists = Lists::default();
        let want = Want::all(self.have.revision + 1, KEY, &compiled, &lists);
        let steps = plan::plan_placed(&mut self.have, &want, placed).unwrap();
        let (hidden, turn) = steps.split_at(plan::turn(&steps));
        hidden.iter().for_each(|s| self.path.lock().unwrap().write(s).unwrap());
        meanwhile(self);
        self.board.freshen(self.now).unwrap();
        turn.iter().for_each(|s| self.path.lock().unwrap().write(s).unwrap());
        self.board.turned(self.now);
        (self.policy, self.compiled) = (policy, compiled);
    }

    /// Another agent over the same tables and the same revision.
    fn restart(self, text: &str) -> Self {
        let mut next = Self::start(self.path);
        next.compiled.assigned = self.compiled.assigned;
        (next.now, next.policy) = (self.now, parsed(text));
        let compiled = next.compile(&next.policy, &[]);
        let (policy, have) = (next.policy.clone(), next.have.clone());
        next.board.adopt(&policy, &compiled, &have);
        next.have.revision -= 1;
        next.apply(text);
        next
    }

    fn probe(&mut self, id: &str, passed: bool) -> Option<Verdict> {
        self.now += 1000;
        let verdict =
            self.board.result(id, Probed { passed: Some(passed), text: "said".into(), took_us: 7 }, self.now);
        while self.board.follow(self.now).unwrap() {}
        verdict
    }

    fn all(&mut self, ids: &[&str], passed: bool) {
        for id in ids {
            let _ = self.probe(id, passed);
        }
    }

    /// Who gets connections of many clients, by the last number of the address; and how often it was left alone.
    fn served(&self, at: &str) -> BTreeSet<String> {
        let path = self.path.lock().unwrap();
        let dst: std::net::SocketAddr = at.parse().unwrap();
        let key = ListenerKey { addr: Addr::from(dst.ip()), port: dst.port().to_be(), proto: 6, _pad: 0 };
        let (view, claims) = (path.tables.view(), Claims::none(0));
        let ask = |seed| {
            let listener = view.listener(&key);
            decide(&view, &Request { listener, claims: &claims, source: None, is_v4: true, seed, spares: 0 })
        };
        let name = |v: Decided| match v {
            Decided::Steer(d) => {
                let over = if d.reason == Reason::Failover as u8 { " failover" } else { "" };
                format!(
                    "{}{over}",
                    std::net::IpAddr::from(d.instance.addr).to_string().replace("198.18.2.", "")
                )
            }
            Decided::Stay(_) => "stays".into(),
            Decided::Pass(r) => r.label().into(),
            Decided::Deny(_) => "refused".into(),
        };
        (0..400u64).map(ask).map(name).collect()
    }

    fn gets(&self) -> String {
        self.served("198.18.1.100:80").into_iter().collect::<Vec<_>>().join(", ")
    }
}

const STABLE: [&str; 2] = ["shop/s1", "shop/s2"];
const GRAY: [&str; 2] = ["shop/g1", "shop/g2"];

/// Stable .1 and .2, gray .3 and .4; everybody is sent to gray.
fn shop(health: &str, to: &str) -> String {
    let health = if health.is_empty() { String::new() } else { format!("    health: {{ {health} }}\n") };
    format!(
        "services:
  shop:
    listen: ['198.18.1.100:80', '198.18.2.1:80']
{health}    instances:
      - {{ address: '198.18.2.1:80', version: '1', id: s1 }}
      - {{ address: '198.18.2.2:80', version: '1', id: s2 }}
      - {{ address: '198.18.2.3:80', version: '2', id: g1 }}
      - {{ address: '198.18.2.4:80', version: '2', id: g2 }}
    stable: {{ version: '1' }}
routes: [{{ service: shop, to: {{ version: '{to}' }} }}]
"
    )
}

const CHECK: &str = "check: tcp, rise: 2, fall: 2";

#[test]
fn c12_what_is_new_answers_first_and_what_served_goes_on() {
    let mut a = Agent::with(&shop(CHECK, "2"));
    assert_eq!(a.gets(), "1 failover, 2 failover", "nobody knows gray yet; stable is kept");
    let _ = a.probe("shop/g1", true);
    assert_eq!(a.gets(), "3", "one success is enough for the first time");
    let _ = a.probe("shop/g2", true);
    assert_eq!(a.gets(), "3, 4");
    let mut b = Agent::with(&shop("", "2"));
    assert_eq!(b.gets(), "3, 4");
    b.apply(&shop(CHECK, "2"));
    assert_eq!(b.gets(), "3, 4", "a check is added to what serves: nothing changes before it fails");
    b.all(&["shop/g1", "shop/g1"], false);
    assert_eq!(b.gets(), "4");
    b.apply(&shop("", "2"));
    assert_eq!(b.gets(), "3, 4", "without a check nobody is down");
}

#[test]
fn c12_an_instance_that_fails_is_out_and_comes_back() {
    let mut a = Agent::with(&shop(CHECK, "2"));
    a.all(&[STABLE, GRAY].concat(), true);
    assert_eq!(a.probe("shop/g2", false), None);
    assert_eq!(a.gets(), "3, 4", "one failure is not enough");
    assert_eq!(a.probe("shop/g2", false), Some(Verdict::Down));
    assert_eq!(a.gets(), "3");
    a.all(&["shop/g1", "shop/g1"], false);
    assert_eq!(a.gets(), "1 failover, 2 failover");
    a.all(&["shop/s1", "shop/s1"], false);
    assert_eq!(a.gets(), "2 failover");
    a.all(&["shop/s2", "shop/s2"], false);
    assert_eq!(a.gets(), "1 failover, 2 failover", "stable fails open");
    assert_eq!(a.board.kept().into_iter().collect::<Vec<_>>(), ["shop"]);
    let told = a.board.services(a.now)[0].text.clone().unwrap();
    assert!(
        told.starts_with("EVERY INSTANCE OF A SUBSET IS DOWN") && told.contains("g1 is down: said"),
        "{told}"
    );
    a.all(&["shop/g1", "shop/g1", "shop/s1", "shop/s1"], true);
    assert_eq!(a.gets(), "3");
    assert!(a.board.kept().is_empty());
    let mut seen = Vec::new();
    while let Ok(EventLine::Health(e)) = a.events.try_recv() {
        seen.push(format!("{} {}", e.instance, e.health));
    }
    assert_eq!(seen[4..], ["g2 down", "g1 down", "s1 down", "s2 down", "g1 up", "s1 up"]);
}

/// A failure of the agent's own (no descriptors, no such program) ejects nobody, however often it happens.
#[test]
fn what_the_agent_could_not_ask_is_no_verdict() {
    let mut a = Agent::with(&shop(CHECK, "2"));
    a.all(&[STABLE, GRAY].concat(), true);
    let _ = a.probe("shop/g1", false);
    for _ in 0..10 {
        let none = Probed { passed: None, text: "no descriptors".into(), took_us: 1 };
        assert_eq!(a.board.result("shop/g1", none, a.now), None);
    }
    assert_eq!(a.gets(), "3, 4");
    assert_eq!(a.probe("shop/g1", false), Some(Verdict::Down), "what was known before still counts");
}

#[test]
fn c12_empty_keep_goes_on_and_the_dialled_address_is_left_when_its_instance_is_down() {
    let mut a = Agent::with(&shop(&format!("{CHECK}, empty: keep"), "2"));
    assert_eq!(a.gets(), "3, 4", "kept though nobody answered yet");
    a.apply(&shop(CHECK, "1"));
    a.all(&[STABLE, GRAY].concat(), true);
    let own = |a: &Agent| a.served("198.18.2.1:80").into_iter().collect::<Vec<_>>().join(", ");
    assert_eq!(own(&a), "stays");
    a.all(&["shop/s1", "shop/s1"], false);
    assert_eq!(own(&a), "2", "its address is dialled, another one serves");
    a.all(&["shop/s2", "shop/s2"], false);
    assert_eq!(own(&a), "stays");
    a.all(&["shop/s1", "shop/s1"], true);
    assert_eq!(own(&a), "stays");
}

#[test]
fn c12_a_slow_start_grows_and_ends() {
    let mut a = Agent::with(&shop(&format!("{CHECK}, slow-start: 10s"), "2"));
    a.all(&GRAY, true);
    a.all(&["shop/g1", "shop/g1"], false);
    a.now += 1_000_000;
    a.board.step(a.now);
    let _ = a.board.follow(a.now).unwrap();
    a.all(&["shop/g1", "shop/g1"], true);
    let share = |a: &Agent| {
        let path = a.path.lock().unwrap();
        let bank = (path.tables.control.epoch & 1) as u32 * gray_common::limits::SUBSETS;
        let t = path.tables.subsets[&(bank + 1)].v4;
        let view = path.tables.view();
        let all: Vec<u32> = (0..t.len).filter_map(|slot| slots::number(&view, t, slot)).collect();
        let number = a.compiled.subsets[1].who.v4.members[0].number;
        all.iter().filter(|n| **n == number).count() as f64 / all.len() as f64
    };
    let (mut last, mut steps) = (share(&a), 0);
    assert!((0.04..0.07).contains(&last), "a tenth of a half: {last}");
    while let Some(at) = a.board.next_step(a.now) {
        a.now = at;
        a.board.step(at);
        let _ = a.board.follow(at).unwrap();
        assert!(share(&a) > last, "at {at}");
        (last, steps) = (share(&a), steps + 1);
    }
    assert!((0.48..0.52).contains(&last) && steps == 10, "{last} after {steps}");
}

#[test]
fn h2_a_restart_keeps_what_is_out_until_it_answers_again() {
    let text = shop(CHECK, "2");
    let mut a = Agent::with(&text);
    a.all(&[STABLE, GRAY].concat(), true);
    a.all(&["shop/g1", "shop/g1", "shop/s1", "shop/s1"], false);
    let mut b = a.restart(&text);
    assert_eq!(b.gets(), "4", "nothing came back by itself");
    assert_eq!(b.probe("shop/g1", true), None);
    assert_eq!(b.gets(), "4", "one success is not enough for one that was out");
    let _ = b.probe("shop/g1", true);
    assert_eq!(b.gets(), "3, 4");
    b.all(&["shop/g1", "shop/g1", "shop/g2", "shop/g2"], false);
    assert_eq!(b.gets(), "2 failover");
    let mut c = b.restart(&text);
    assert_eq!(c.gets(), "2 failover", "an empty subset stays empty");
    c.all(&["shop/g2", "shop/g2"], true);
    assert_eq!(c.gets(), "4");
}

#[test]
fn d1_a_verdict_between_the_tables_and_the_flip_is_in_force_after_it() {
    let mut a = Agent::with(&shop(CHECK, "2"));
    a.all(&[STABLE, GRAY].concat(), true);
    a.change(&shop(CHECK, "1"), &[], |a| {
        a.all(&["shop/s1", "shop/s1", "shop/g1", "shop/g1"], false);
        assert_eq!(a.gets(), "4", "the old policy follows at once");
    });
    assert_eq!(a.gets(), "2", "and the new one has it, too");
    a.change(&shop(CHECK, "2"), &["shop/g2"], |a| a.all(&["shop/g1", "shop/g1"], true));
    assert_eq!(a.gets(), "3", "the other one is drained");
    a.all(&["shop/g1", "shop/g1"], false);
    assert_eq!(a.gets(), "2 failover", "a drained one is no reason to keep a subset");
}

#[test]
fn a_change_that_fails_leaves_the_tables_in_force() {
    let mut a = Agent::with(&shop(CHECK, "2"));
    a.all(&[STABLE, GRAY].concat(), true);
    let policy = parsed(&shop(CHECK, "1"));
    let compiled = a.compile(&policy, &[]);
    let _ = a.board.place(&policy, &compiled, a.now).unwrap();
    a.board.abandon();
    assert_eq!(a.gets(), "3, 4");
    a.all(&["shop/g1", "shop/g1"], false);
    assert_eq!(a.gets(), "4");
}

#[test]
fn a_write_that_fails_is_tried_again_and_nothing_is_half_seen() {
    for k in 0..4 {
        let mut a = Agent::with(&shop(CHECK, "2"));
        a.all(&[STABLE, GRAY].concat(), true);
        let _ = a.probe("shop/g1", false);
        let at = a.path.lock().unwrap().steps() + k;
        a.path.lock().unwrap().fail_at = Some(at);
        a.now += 1;
        let _ =
            a.board.result("shop/g1", Probed { passed: Some(false), text: String::new(), took_us: 0 }, a.now);
        let first = a.board.follow(a.now);
        assert_eq!(first.is_err(), k < 2, "a table and a subset");
        assert_eq!(a.gets(), if k < 2 { "3, 4" } else { "4" }, "step {k}");
        assert_eq!(a.board.error.is_some(), k < 2);
        assert!(!a.board.follow(a.now).unwrap());
        assert_eq!((a.gets().as_str(), &a.board.error), ("4", &None), "after step {k} failed");
    }
}

#[derive(Clone, Debug)]
enum Do {
    Probe(usize, bool),
    Apply(bool, usize),
    Grace,
    Restart,
}

fn anything() -> impl Strategy<Value = Do> {
    prop_oneof![
        8 => (0..4usize, any::<bool>()).prop_map(|(i, p)| Do::Probe(i, p)),
        2 => (any::<bool>(), 0..4usize).prop_map(|(g, i)| Do::Apply(g, i)),
        1 => Just(Do::Grace),
        1 => Just(Do::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens in whatever order: who is down gets nothing, unless all of stable is; nobody is left alone.
    #[test]
    fn whoever_is_down_gets_nothing(steps in prop::collection::vec(anything(), 1..40)) {
        let ids = [STABLE, GRAY].concat();
        let text = |gray: bool| shop(CHECK, if gray { "2" } else { "1" });
        let (mut a, mut gray) = (Agent::with(&text(true)), true);
        a.all(&ids, true);
        for step in steps {
            match step {
                Do::Probe(i, passed) => a.all(&ids[i..=i], passed),
                Do::Apply(to, i) => {
                    gray = to;
                    a.change(&text(gray), &[], |a| a.all(&ids[i..=i], false));
                }
                Do::Grace => a.board.grace().unwrap(),
                Do::Restart => a = a.restart(&text(gray)),
            }
            let up: Vec<bool> = ids.iter().map(|id| a.board.targets().any(|(t, x)| t == id && x.machine.is_up())).collect();
            let name = |i: usize, over: bool| format!("{}{}", i + 1, if over { " failover" } else { "" });
            let of = |all: [usize; 2], over: bool| all.into_iter().filter(|i| up[*i]).map(|i| name(i, over)).collect::<BTreeSet<_>>();
            let mut want = if gray { of([2, 3], false) } else { of([0, 1], false) };
            if want.is_empty() && gray {
                want = of([0, 1], true);
            }
            if want.is_empty() {
                want = [name(0, gray), name(1, gray)].into();
            }
            prop_assert_eq!(a.served("198.18.1.100:80"), want, "{:?}", up);
        }
    }
}
