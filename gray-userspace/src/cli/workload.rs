//! `gray workload`: names for the callers of this node.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Failure,
    ctx::Ctx,
    table::{Cell, Paint, Style, Table},
};
use crate::api::{
    client::path_segment,
    types::{Done, Workload, WorkloadSet},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gray workload set cart --unit cart.service
  gray workload set batch --cgroup /system.slice/batch.slice
  gray workload set shop --container $(docker inspect -f '{{.Id}}' shop)
  gray workload set me --pid $$
  gray workload list
  gray workload remove me")]
pub struct WorkloadArgs {
    #[command(subcommand)]
    verb: WorkloadVerb,
}

#[derive(Debug, Subcommand)]
enum WorkloadVerb {
    /// Name the processes of a cgroup
    #[command(
        after_help = "Examples:\n  gray workload set cart --unit cart.service\n  gray workload set cart-2 --unit cart-2.service --lane gray-2.0\n  gray workload set shop --unit shop.service --link thread\n  gray workload set me --pid $$"
    )]
    Set(SetArgs),
    /// Show the names
    #[command(after_help = "Examples:\n  gray workload list -o json")]
    List,
    /// Forget a name
    #[command(after_help = "Examples:\n  gray workload remove cart")]
    Remove {
        /// The workload's name
        name: String,
    },
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The workload's name, as policies use it
    name: String,
    #[command(flatten)]
    which: Which,
    /// The lane that it serves: its calls go to the lane's instances. Without: none
    #[arg(long)]
    lane: Option<String>,
    /// Without a lane of its own: its calls are in the lane of the request that its thread read last, also from what that
    /// thread begins (thread), without that (run-to-completion), or only while no request of another lane is in flight there
    /// (strict). Without: in none
    #[arg(long, value_name = "MODE", value_parser = ["thread", "run-to-completion", "strict"])]
    link: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// A cgroup2 directory, below the mount or absolute
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// A systemd unit
    #[arg(long)]
    unit: Option<String>,
    /// A container's id, as `docker ps` or a pod's status shows it
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// The uid of a Kubernetes pod: all its containers
    #[arg(long, value_name = "UID")]
    pod: Option<String>,
    /// The cgroup that this process is in
    #[arg(long)]
    pid: Option<u32>,
}

pub fn run(args: WorkloadArgs, ctx: &mut Ctx<'_>) -> Result<(), Failure> {
    match args.verb {
        WorkloadVerb::List => {
            let all: Vec<Workload> = ctx.wait(ctx.client.get("/v1/workloads"))?;
            ctx.show(&all, |all, paint| table(all, paint))
        }
        WorkloadVerb::Set(SetArgs {
            name,
            which: Which { cgroup, unit, container, pod, pid },
            lane,
            link,
        }) => {
            let set = WorkloadSet { name, cgroup, unit, container, pod, pid, lane, link };
            let made: Workload = ctx.wait(ctx.client.post("/v1/workloads", &set))?;
            ctx.show(&made, |w, _| {
                let lane = w.lane.as_ref().map(|_| format!(", in lane {}", lane_of(w)));
                let link = w.link.as_ref().map(|l| format!(", its calls follow its requests: {}", l.mode));
                let is = [lane, link].map(Option::unwrap_or_default).concat();
                format!("workload {} is {}{is}\n", w.name, w.cgroup.display())
            })
        }
        WorkloadVerb::Remove { name } => {
            let done: Done =
                ctx.wait(ctx.client.delete(&format!("/v1/workloads/{}", path_segment(&name))))?;
            ctx.show(&done, |d, _| format!("{}\n", d.text))
        }
    }
}

/// `gray-2.0`, or that the policy does not know it.
fn lane_of(w: &Workload) -> String {
    let unknown = if w.lane_known == Some(false) { " (not in the policy)" } else { "" };
    format!("{}{unknown}", w.lane.as_deref().unwrap_or_default())
}

fn table(all: &[Workload], paint: Paint) -> String {
    let mut t = Table::new(&["WORKLOAD", "CGROUP", "ID", "STATE", "LANE", "LINK", "IS"]);
    for w in all {
        let style = if w.state == "active" { Style::Good } else { Style::Warn };
        t.row([
            w.name.as_str().into(),
            w.cgroup.display().to_string().into(),
            w.cgroup_id.into(),
            Cell::styled(style, &*w.state),
            lane_of(w).into(),
            w.link.as_ref().map(|l| l.mode.as_str()).into(),
            w.meta.iter().map(|(key, v)| format!("{key}={v}")).collect::<Vec<_>>().join(",").into(),
        ]);
    }
    let texts = all.iter().filter_map(|w| w.link.as_ref()?.text.as_ref());
    t.render(paint, "workloads") + &texts.map(|text| format!("{text}\n")).collect::<String>()
}
