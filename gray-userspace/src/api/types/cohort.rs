//! Reading and editing list cohorts live.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::ids::Ids;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CohortOp {
    /// Adds the ids to the list.
    Add,
    /// Takes the ids off the list.
    Remove,
    /// The ids become the whole list.
    Replace,
    /// Forgets all live edits: the document's own list counts again. `ids` is empty.
    Reset,
}

/// One live edit of a list cohort. All of it is applied with one epoch, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CohortEdit {
    pub op: CohortOp,
    /// As the document would write them; duplicates count once.
    #[schema(value_type = Vec<String>)]
    pub ids: Ids,
    /// Why, for the history.
    #[serde(default)]
    pub message: Option<String>,
}

/// Query of the plain-text form of a cohort edit, whose body is one id per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CohortLinesQuery {
    pub op: CohortOp,
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CohortEdited {
    /// None when nothing changed.
    pub revision: Option<u64>,
    pub epoch: Option<u64>,
    pub added: u64,
    pub removed: u64,
    /// Ids of the request that changed nothing.
    pub unchanged: u64,
    /// Entries after the edit.
    pub size: u64,
    /// None when nothing changed.
    #[serde(default)]
    pub timings: Option<super::Timings>,
}

/// Which part of a cohort's list to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Entries to skip, in the list's order.
    #[serde(default)]
    #[param(required = false)]
    pub offset: u64,
    /// At most this many; 0: none, only the counts.
    #[serde(default = "default_limit")]
    #[param(required = false, default = 100)]
    pub limit: u64,
}

fn default_limit() -> u64 {
    100
}

/// A cohort and a part of its list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CohortShow {
    pub name: String,
    /// `list`, `percent`, `tail` or `joined`.
    pub kind: String,
    /// The claim it is about; none: the identity, whichever claim that is.
    pub of: Option<String>,
    /// Entries of the list; 0 for what is none.
    pub size: u64,
    /// Sorted; the part that was asked for.
    pub ids: Vec<String>,
    pub offset: u64,
    /// Of a percentage, 0..=10000.
    pub basis_points: Option<u16>,
    /// Of a percentage.
    pub salt: Option<String>,
    /// Of a tail: what the claim ends with.
    #[serde(default)]
    pub digits: Option<Vec<String>>,
    /// Of one that is made of others: `any(early,not(office))`.
    #[serde(default)]
    pub joined: Option<String>,
    /// Routes that name it, or a cohort that is made of it.
    pub routes: Vec<String>,
}
