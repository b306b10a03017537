//! What policies decide, as tables, by the tables in memory. In the kernel: the lab's `policy_cases`.

mod reader;

use gray_common::{
    decide::{Request, Verdict, decide},
    wire::Trip,
};
use gray_userspace::{
    compile::{have::Have, plan::Write},
    datapath::{Datapath as _, Fake},
};

use reader::{Asked, Decides};

const HZ: u64 = 250;

/// The tables in memory.
#[derive(Default)]
struct Memory(Fake, Have);

impl Decides for Memory {
    fn begin(&mut self) -> Result<(), String> {
        *self = Self::default();
        Ok(())
    }

    fn have(&mut self) -> &mut Have {
        &mut self.1
    }

    fn write(&mut self, steps: &[Write]) -> Result<(), String> {
        steps.iter().try_for_each(|step| self.0.write(step)).map_err(|e| e.to_string())
    }

    fn leave(&mut self, seconds: u64) {
        let t = &mut self.0.tables;
        (t.control.hz, t.control.renewed) = (HZ as u32, 1 << 32);
        t.now = t.control.renewed + seconds * HZ + 1;
    }

    fn trip(&mut self, service: u32, seconds: u64) {
        self.leave(0);
        let t = &mut self.0.tables;
        let opened = t.now - seconds * HZ;
        let _ = t.trips.insert(service, Trip { opened, ..Trip::default() });
    }

    fn decide(&mut self, a: &Asked) -> Result<Verdict, String> {
        let view = self.0.tables.view();
        let request = Request {
            listener: view.listener(&a.key),
            claims: &a.claims,
            source: a.source.as_ref(),
            is_v4: a.is_v4,
            seed: a.seed,
            spares: 0,
        };
        Ok(decide(&view, &request))
    }
}

#[test]
fn c7_every_case_of_the_tables_is_decided_as_it_says() {
    let (cases, wrong) = reader::run_all(&mut Memory::default());
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases >= 250, "{cases} cases in {} files", reader::files().len());
}
