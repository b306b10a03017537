//! All rows there are, for everything that runs them: the kernel and the model.

use super::{aged, broken, case::Case, direct, land::LANDS, others, pieces, transport};

/// Rows about whole packets and foreign ones.
pub fn steered() -> Vec<Case> {
    let mut out = others::rows();
    out.extend(pieces::rows());
    for (l, port) in LANDS.into_iter().zip([10_000, 11_000, 12_000, 13_000]) {
        out.extend(transport::rows(l, port));
        out.extend(direct::rows(l, port + 800));
        out.extend(broken::tolerated(l, port + 900));
    }
    out
}

/// Rows about time.
pub fn idle() -> Vec<Case> {
    let ports = LANDS.into_iter().zip([15_000, 15_100, 15_200, 15_300]);
    ports.flat_map(|(l, port)| aged::rows(l, port)).collect()
}

/// Rows about broken packets.
pub fn broken() -> Vec<Case> {
    let ports = LANDS.into_iter().zip([20_000, 21_000, 22_000, 23_000]);
    ports.flat_map(|(l, port)| broken::rows(l, port)).collect()
}
