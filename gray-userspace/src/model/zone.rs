//! Whether a service's clients are to stay in the zone of the node that steers them.

/// Zones are those of instances (`zone`) and of agents (`--zone`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZoneAffinity {
    /// Zones count only where selectors name them.
    #[default]
    Off,
    /// Instances of other zones, or of none, serve while none of the own zone does.
    Prefer,
    /// Those never serve.
    Only,
}

impl ZoneAffinity {
    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Only => "only",
        }
    }
}
