//! The tree of verbs and the global options. What each verb takes is in its own file.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::*;
use crate::api::DEFAULT_SOCKET;

/// Gray release in the kernel: chosen clients reach the new version, everybody else the stable one.
#[derive(Debug, Parser)]
#[command(name = "gray", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

const GLOBAL: &str = "Global options";

#[derive(Debug, Args)]
pub struct Global {
    /// The agent's socket [default: /run/gray/gray.sock]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH", env = "GRAY_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, help_heading = GLOBAL, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// No colour, on a terminal too (also: NO_COLOR)
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub no_color: bool,
}

impl Global {
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent on this node
    Agent(agent::AgentArgs),
    /// Read what programs in the kernel cannot: HTTP/2, long heads, JSON
    Splice(splice::SpliceArgs),
    /// Make documents the policy in force
    Apply(apply::ApplyArgs),
    /// Check documents; needs no agent
    Validate(validate::ValidateArgs),
    /// Show parts of the policy in force
    Get(get::GetArgs),
    /// Edit and show lists of clients
    Cohort(cohort::CohortArgs),
    /// Say where a connection goes, and why
    Explain(explain::ExplainArgs),
    /// Show the agent at a glance
    #[command(after_help = "Examples:\n  gray status\n  gray status -o json | jq .epoch")]
    Status,
    /// Show decisions as they are made
    Events(events::EventsArgs),
    /// Show past revisions
    History(history::HistoryArgs),
    /// Show who did what, and that nobody changed the log
    Audit(audit::AuditArgs),
    /// Make an earlier revision the policy again
    Rollback(apply::RollbackArgs),
    /// Name the callers of this node
    Workload(workload::WorkloadArgs),
    /// Say what a process marks its messages with, or start one with it
    Tag(tag::TagArgs),
    /// Show steered connections
    Flows(flows::FlowsArgs),
    /// Bring a new version from its deployment to everybody, and back
    Release(release::ReleaseArgs),
    /// Everybody back to stable, of every open release
    Recall(recall::RecallArgs),
    /// Take an instance out of new connections, and back
    Instance(instance::InstanceArgs),
    /// Check this host for what may stand in the way
    #[command(
        after_help = "Asks the agent; where none runs, checks the host for one. Exit code 1 when a check failed.\n\nExamples:\n  gray doctor\n  gray doctor -o json"
    )]
    Doctor,
    /// Make a document of another system's rules; needs no agent
    Import(import::ImportArgs),
    /// Handle the fleet's hash key
    Key(key::KeyArgs),
    /// Judge a database script by what it does to the running version; needs no agent
    LintSql(lint_sql::LintSqlArgs),
    /// Remove everything of gray from this node; needs no agent
    Uninstall(uninstall::UninstallArgs),
    /// Make the pins another ABI's, before a downgrade; needs no agent
    Migrate(migrate::MigrateArgs),
    /// Print completions for a shell
    Completions(generate::CompletionsArgs),
    /// Write man pages
    #[command(hide = true)]
    Man(generate::ManArgs),
    /// Print the API's description
    #[command(hide = true)]
    Openapi,
    /// Print the JSON Schema of the policy document
    #[command(hide = true)]
    Schema,
}

/// The whole tree, for completions, man pages and tests.
pub fn command() -> clap::Command {
    Cli::command()
}
