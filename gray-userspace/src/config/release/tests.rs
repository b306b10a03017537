use super::*;

const POLICY: &str = "services:
  shop: { listen: ['198.18.1.100:80'], stable: { version: '1.0' }, instances: &i [{ address: '198.18.2.2:80', version: '1.0' }, { address: '198.18.2.3:80', version: '2.0' }] }
  cart: { listen: ['198.18.1.101:80'], stable: { version: '1.0' }, instances: *i }
cohorts:
  office: { sources: ['198.18.7.0/24'] }
";

fn policy() -> Policy {
    super::super::load(&[Source::new("policy.yaml", POLICY)]).unwrap().policy
}

fn load(text: &str) -> Result<Spec, super::super::Problems> {
    load_release(&Source::new("release.yaml", text), Some(&policy()))
}

const GOOD: &str = "
release: shop-2.0
version: 2.0.0-gray.3
services:
  shop: { gray: { version: '2.0' } }
  cart: { gray: { version: '2.0' } }
testers: office
deploy:
  - { command: [deploy, '2.0'], dir: /srv, timeout: 5m, retries: 2, backoff: 3s }
  - { unit: shop-2.0.service }
verify: [{ http: 'http://198.18.2.3:80/ready', status: 200 }]
gray-verify: [{ webhook: 'http://tests:8080/run', secret: hook-key }]
gray-period: 10m
stages:
  - { percent: 1, time: 10m, samples: 200, checks: [{ prometheus: 'http://prom:9090', query: 'errors', below: 0.01 }], every: 30s }
  - { cohort: office }
  - { percent: 100, approval: true }
align: { approval: true, steps: [{ command: [align] }] }
notify: [{ command: [tell] }]
";

#[test]
fn f1_a_whole_document() {
    let spec = load(GOOD).unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.formal.as_str(), spec.salt.as_str()),
        ("shop-2.0", "2.0.0", "shop-2.0")
    );
    assert_eq!((spec.services.len(), spec.deploy.len(), spec.gray_period_ms), (2, 2, 600_000));
    let shares: Vec<_> = spec.stages.iter().map(|s| s.basis_points).collect();
    assert_eq!(shares, [100, 100, 10_000], "a stage without a percentage has that of the one before");
    assert_eq!(
        (spec.deploy[0].timeout_ms, spec.deploy[0].retries, spec.deploy[0].backoff_ms),
        (300_000, 2, 3000)
    );
    assert!(spec.align_approval && spec.stages[2].approval && !spec.stages[0].approval && !spec.irreversible);
}

/// One change of the good document; what is said, where, and what helps.
#[test]
fn d4_what_is_wrong_is_said_with_its_place() {
    let mut elsewhere = Vec::new();
    for (from, to, at, says) in [
        ("release: shop-2.0", "release: Shop", (2, 10), "is not a name"),
        ("release: shop-2.0\n", "", (2, 1), "needs `release`"),
        ("2.0.0-gray.3", "2.0.0", (3, 10), "is no gray version number"),
        ("version: 2.0.0-gray.3", "version: 2.0.0\nformal: 2.0.0", (3, 10), "has the formal number"),
        ("version: 2.0.0-gray.3", "version: 2.0.0-gray.3\nformal: 2.1.0", (4, 9), "is no gray version of"),
        ("  shop: {", "  shpo: {", (5, 3), "did you mean `shop`"),
        ("shop: { gray: { version: '2.0' }", "shop: { gray: { version: '1.0' }", (5, 17), "are the same"),
        (
            "shop: { gray: { version: '2.0' }",
            "shop: { gray: { version: '3.0' }",
            (5, 17),
            "no instance of shop",
        ),
        ("testers: office", "testers: offices", (7, 10), "did you mean `office`"),
        ("gray-period", "grey-period", (13, 1), "did you mean `gray-period`"),
        ("gray-period: 10m", "gray-period: 10", (13, 14), "with its unit"),
        ("{ percent: 100, ", "{ percent: 0.5, ", (17, 16), "a ramp moves nobody out"),
        ("{ percent: 100, approval", "{ percent: 99, approval", (17, 5), "after it comes everybody"),
        ("{ cohort: office }", "{ time: 1s }", (16, 5), "a stage without clients"),
        ("{ cohort: office }", "{ cohort: nobody }", (16, 15), "unknown cohort"),
        ("{ cohort: office }", "{ cohort: office, every: 5s }", (16, 23), "`every` without `checks`"),
        ("approval: true }\nalign", "approval: yes }\nalign", (17, 31), "one of true, false"),
        ("unit: shop-2.0.service", "unit: shop.target", (10, 13), "a service such as"),
        ("unit: shop-2.0.service", "unit: a.service, dir: /x", (10, 24), "belongs to `command`"),
        ("unit: shop-2.0.service", "unit: a.service, command: [b]", (10, 7), "exactly one"),
        ("unit: shop-2.0.service", "retries: 1", (10, 5), "does nothing"),
        ("dir: /srv", "dir: srv", (9, 38), "a directory such as"),
        ("below: 0.01", "below: few", (15, 111), "a number"),
        ("below: 0.01", "below: 1, above: 2", (15, 53), "exactly one of below, above"),
        ("[{ command: [tell] }]", "[{ unit: a.service }]", (19, 12), "command or webhook"),
        ("http: 'http://198", "http: 'https://198", (11, 18), "plain HTTP"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let problems = load(&GOOD.replacen(from, to, 1)).expect_err(to);
        let text = problems.errors.iter().map(|p| p.render(false)).collect::<String>();
        assert!(text.contains(says), "{to}: {says}\n{text}");
        let places: Vec<_> = problems.errors.iter().map(|p| (p.line, p.column)).collect();
        if !places.contains(&at) {
            elsewhere.push(format!("{to}: {places:?}, not {at:?}"));
        }
    }
    assert!(elsewhere.is_empty(), "{}", elsewhere.join("\n"));
}

#[test]
fn f5_a_stage_of_nobody_waits_for_no_samples() {
    let document = |before: &str, stages: &str| {
        format!(
            "release: r\nversion: 2.0-gray.1\nservices: {{ shop: {{ gray: {{ version: '2.0' }} }} }}\n{before}stages: [{stages}, {{ percent: 100 }}]\n"
        )
    };
    for (before, stages, good) in [
        ("", "{ percent: 0, samples: 20 }", false),
        ("", "{ percent: 0 }", false),
        ("", "{ percent: 0, samples: 0, time: 1m }", true),
        ("", "{ percent: 0, cohort: office }", true),
        ("", "{ cohort: office }, { percent: 0, samples: 20 }", true),
        ("", "{ percent: 0, samples: 20 }, { cohort: office }", false),
        ("testers: office\n", "{ percent: 0, samples: 20 }", true),
    ] {
        let text = document(before, stages);
        match load(&text) {
            Ok(_) => assert!(good, "{text}"),
            Err(e) => {
                assert!(!good, "{text}{e}");
                assert_eq!(e.errors.len(), 1, "{text}{e}");
                assert!(e.errors[0].message.contains("a stage of nobody"), "{text}{e}");
            }
        }
    }
}

const DATA: &str = "data:
  load: [{ command: [load] }]
  restart: [{ unit: shop-2.0.service }]
  parameters: [{ command: [parameters] }]
  clear: [{ command: [clear, twice] }, { command: [clear] }]
  script: [{ script: shop-2.0.sql, dialect: postgres, rules: rules.yaml, run: [run-sql, shop], timeout: 5m }]
";

fn with_data(data: &str) -> String {
    GOOD.replace("verify: [{ http", &format!("{data}verify: [{{ http"))
}

#[test]
fn g5_the_order_of_the_data_plan_is_its_own() {
    let spec = load(&with_data(DATA)).unwrap();
    let layers: Vec<_> = spec.data.iter().map(|d| d.layer.name()).collect();
    assert_eq!(layers, ["script", "clear", "clear", "parameters", "restart", "load"]);
    let Does::Script(script) = &spec.data[0].hook.does else { panic!("{:?}", spec.data[0]) };
    assert_eq!((script.file.as_str(), script.dialect), ("shop-2.0.sql", Dialect::Postgres));
    assert_eq!((script.rules.as_deref(), script.run.join(" ")), (Some("rules.yaml"), "run-sql shop".into()));
    assert_eq!(spec.data[0].hook.timeout_ms, 300_000);
    for (from, to, says) in [
        ("dialect: postgres", "dialect: postgras", "did you mean `postgres`"),
        ("dialect: postgres, ", "", "a script needs `dialect`"),
        (", run: [run-sql, shop]", "", "a script needs `run`"),
        ("run: [run-sql, shop]", "run: [run-sql, shop], changed-rows: keep", "no value of `changed-rows`"),
        ("command: [load]", "command: [load], changed-rows: allow", "belongs to `script`"),
        ("script: shop-2.0.sql", "script: ../shop.sql", "the name of a file"),
        ("command: [load]", "script: a.sql, dialect: mysql, run: [a]", "stand under `data: script`"),
        (
            "script: shop-2.0.sql, dialect: postgres, rules: rules.yaml, run: [run-sql, shop]",
            "command: [sql]",
            "command under `script`",
        ),
        ("command: [load]", "command: [load], dialect: mysql", "belongs to `script`"),
        ("  restart:", "  restrat:", "did you mean `restart`"),
    ] {
        assert!(DATA.contains(from), "{from}");
        let problems = load(&with_data(&DATA.replacen(from, to, 1))).expect_err(to);
        let text = problems.errors.iter().map(|p| p.render(false)).collect::<String>();
        assert!(text.contains(says), "{to}: {says}\n{text}");
    }
}

#[test]
fn f9_a_stage_asks_for_samples_and_the_verdict_is_the_documents() {
    let spec = load(GOOD).unwrap();
    let samples: Vec<_> = spec.stages.iter().map(|s| (s.samples, s.unmeasured)).collect();
    assert_eq!(samples, [(200, false), (50, false), (50, false)], "who says nothing asks for fifty");
    assert_eq!(spec.verdict, Strictness { level: 0.05, exclude: None, least: 20, times: true });
    let text =
        GOOD.replace("{ cohort: office }", "{ cohort: office, samples: 0, unmeasured: allow }").replace(
            "stages:",
            "verdict: { level: 1, exclude-failures: 0.5, least: 100, times: ignore }\nstages:",
        );
    let spec = load(&text).unwrap();
    assert_eq!((spec.stages[1].samples, spec.stages[1].unmeasured), (0, true));
    assert_eq!(spec.verdict, Strictness { level: 0.01, exclude: Some(0.005), least: 100, times: false });
    for (from, to, says) in [
        ("level: 1", "level: 0", "0.01 to 50 percent"),
        ("level: 1", "level: 51", "0.01 to 50 percent"),
        ("failures: 0.5", "failures: 100", "0.01 to 99 percent"),
        ("least: 100", "least: 19", "from 20 to"),
        ("least: 100", "last: 100", "did you mean `least`"),
        ("unmeasured: allow", "unmeasured: pass", "no value of `unmeasured`"),
    ] {
        let problems = load(&text.replacen(from, to, 1)).expect_err(to);
        let said = problems.errors.iter().map(|p| p.render(false)).collect::<String>();
        assert!(said.contains(says), "{to}: {says}\n{said}");
    }
}

#[test]
fn the_example_is_a_release() {
    let text = include_str!("../../../../examples/releases/shop.yaml");
    let policy = POLICY.to_owned() + "  beta: { sources: ['198.18.8.0/24'] }\n";
    let policy = super::super::load(&[Source::new("policy.yaml", policy)]).unwrap().policy;
    let spec = load_release(&Source::new("shop.yaml", text), Some(&policy)).unwrap_or_else(|p| panic!("{p}"));
    let shares: Vec<_> = spec.stages.iter().map(|s| s.basis_points).collect();
    assert_eq!(shares, [100, 500, 2500, 10_000]);
}

#[test]
fn d4_all_of_it_at_once() {
    let bad = GOOD
        .replace("shop: {", "shpo: {")
        .replace("testers: office", "testers: x")
        .replace("retries: 2", "retires: 2");
    let problems = load(&bad).unwrap_err();
    assert_eq!(problems.errors.len(), 3, "{:?}", problems.errors);
    let none = load("").unwrap_err();
    assert!(none.errors[0].message.contains("0 documents"));
}

#[test]
fn without_a_policy_only_the_document_is_read() {
    let text = GOOD.replace("shop: {", "other: {");
    assert!(load_release(&Source::new("r", text), None).is_ok());
}
