use super::*;
use crate::{
    agent::testing,
    compile::{
        have::Have,
        lists::of_policy,
        plan::{Want, plan},
    },
    datapath::write_mem,
};

pub const KEY: HashKey = HashKey { k0: 3, k1: 4 };

/// Tables in memory, which may turn under who reads them.
pub struct Memory {
    pub tables: MemTables,
    pub turns_to: std::sync::Mutex<Vec<Control>>,
}

pub fn memory(document: &str) -> Memory {
    let (policy, compiled) = testing::compiled(document);
    let lists = of_policy(&policy, &compiled.assigned.lists, KEY);
    let mut tables = MemTables::default();
    let steps = plan(&mut Have::default(), &Want::all(1, KEY, &compiled, &lists)).unwrap();
    steps.iter().for_each(|s| write_mem(&mut tables, s));
    Memory { tables, turns_to: std::sync::Mutex::default() }
}

impl Tables for Memory {
    fn control(&self) -> Result<Control, KernelError> {
        Ok(self.turns_to.lock().unwrap().pop().unwrap_or(self.tables.control))
    }

    fn now(&self, _: &Control) -> Result<u64, KernelError> {
        Ok(self.tables.now)
    }

    fn fetch(&self, to: &mut MemTables, _: Miss) -> Result<(), KernelError> {
        let control = to.control;
        self.tables.clone_into(to);
        to.control = control;
        Ok(())
    }
}

const DOCUMENT: &str = "services:
  shop:
    listen: ['198.18.1.100:80']
    identify: [app]
    claims: { app: { header: X-App-Id } }
    on-missing-identity: deny
    instances:
      - { address: '198.18.2.1:8080', version: '1' }
      - { address: '198.18.2.2:8080', version: '2' }
      - { address: '198.18.2.3:8080', version: '2' }
    stable: { version: '1' }
cohorts:
  early: { apps: ['7'] }
routes:
  - { service: shop, when: early, to: { version: '2' } }
";

pub fn whose(client: &str) -> Whose {
    let service = "198.18.1.100:80".parse().unwrap();
    Whose {
        client: client.parse().unwrap(),
        service,
        mark: 0,
        dscp: 0,
        tag: gray_common::wire::Tagged::default(),
        caller: None,
    }
}

fn first(on: &Memory, head: &str) -> First {
    let reading = whose("198.18.1.3:1").served(on).unwrap().unwrap().reading;
    let mut first = First::new(reading);
    let _ = first.feed(head.as_bytes());
    first
}

fn at(goes: &Goes) -> String {
    match goes {
        Goes::To(at, _) => at.to_string(),
        other => format!("{other:?}"),
    }
}

/// Where each attempt goes when the one before it fails.
fn attempts(on: &Memory, who: &Whose, first: &First, turns: u32) -> [String; 3] {
    let mut failed = None;
    [0, 1, 2].map(|attempt| {
        let goes = who.goes(on, first, (attempt, attempt * turns), failed.as_ref()).unwrap();
        if let Goes::To(_, d) = goes {
            failed = Some(d);
        }
        at(&goes)
    })
}

#[test]
fn a1_attempts_go_where_the_data_path_sends_them() {
    let on = memory(DOCUMENT);
    let known = first(&on, "GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n");
    let other = first(&on, "GET / HTTP/1.1\r\nX-App-Id: 8\r\n\r\n");
    let nobody = first(&on, "GET / HTTP/1.1\r\n\r\n");
    let mut gray = std::collections::BTreeSet::new();
    for port in 1..200 {
        let who = whose(&format!("198.18.1.3:{port}"));
        let [a, b, c] = attempts(&on, &who, &known, 1);
        assert_eq!(c, "198.18.2.1:8080", "the last of {ATTEMPTS} is stable's");
        assert!(a.starts_with("198.18.2.2:") || a.starts_with("198.18.2.3:"), "{a}");
        assert!(b != a && (b.starts_with("198.18.2.2:") || b.starts_with("198.18.2.3:")), "{a}, then {b}");
        let _ = gray.insert(a);
        assert_eq!(at(&who.goes(&on, &other, (0, 0), None).unwrap()), "198.18.2.1:8080");
        assert!(matches!(who.goes(&on, &nobody, (0, 0), None).unwrap(), Goes::Refused(_)));
    }
    assert_eq!(gray.len(), 2);
}

/// Three stable instances: each attempt at another one than the one before it, whatever chooses the first. The last one knows no claims, and so
/// not whom a sticking client came to first.
#[test]
fn c7_a_client_that_sticks_to_its_instance_leaves_one_that_fails() {
    // A turn of three instances' round robin is the same one again where others have had the turns between.
    for (how, turns, all) in
        [("affinity: client", 1, 2), ("balance: round-robin", 3, 2), ("balance: maglev", 1, 3)]
    {
        let text = DOCUMENT.replace("version: '2' }\n    ", "version: '1' }\n    ");
        let text = text.replace("198.18.2.2:8080', version: '2'", "198.18.2.2:8080', version: '1'");
        let text = text.replace("198.18.2.3:8080', version: '2'", "198.18.2.3:8080', version: '1'");
        let text = text.replace("    stable:", &format!("    {how}\n    stable:"));
        let on = memory(&text[..text.find("cohorts:").unwrap()]);
        let known = first(&on, "GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n");
        for port in 1..100 {
            let tried = attempts(&on, &whose(&format!("198.18.1.3:{port}")), &known, turns);
            assert!(tried[0] != tried[1] && tried[1] != tried[2], "{how}: {tried:?}");
            assert!(std::collections::BTreeSet::from(tried.clone()).len() >= all, "{how}: {tried:?}");
        }
    }
}

#[test]
fn a1_what_is_no_service_goes_nowhere() {
    let on = memory(DOCUMENT);
    let who = Whose { service: "198.18.1.101:80".parse().unwrap(), ..whose("198.18.1.3:1") };
    assert!(who.served(&on).unwrap().is_none());
    let known = first(&on, "GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n");
    assert_eq!(who.goes(&on, &known, (0, 0), None).unwrap(), Goes::Nowhere(Reason::NotManaged));
}

/// Decided by an epoch that is over, a connection is decided again.
#[test]
fn d1_a_decision_is_of_one_policy() {
    let on = memory(DOCUMENT);
    let known = first(&on, "GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n");
    let mut before = on.tables.control;
    before.epoch -= 1;
    on.turns_to.lock().unwrap().push(before);
    let goes = whose("198.18.1.3:1").goes(&on, &known, (0, 0), None).unwrap();
    assert!(at(&goes).starts_with("198.18.2."), "{goes:?}");
    for n in 0..100 {
        before.epoch = n;
        on.turns_to.lock().unwrap().push(before);
    }
    assert_eq!(
        whose("198.18.1.3:1").goes(&on, &known, (0, 0), None).unwrap(),
        Goes::Nowhere(Reason::TableHole)
    );
}

#[test]
fn c7_round_robin_takes_turns() {
    let on = memory(&DOCUMENT.replace("    stable:", "    balance: round-robin\n    stable:"));
    let known = first(&on, "GET / HTTP/1.1\r\nX-App-Id: 7\r\n\r\n");
    let who = whose("198.18.1.3:1");
    let turns: Vec<String> =
        (0..4).map(|turn| at(&who.goes(&on, &known, (0, turn), None).unwrap())).collect();
    assert!(turns[0] != turns[1] && turns[..2] == turns[2..], "{turns:?}");
}
