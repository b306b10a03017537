//! Where a scan is.

pub(super) const P_START: u8 = 0;
pub(super) const P_METHOD: u8 = 1;
pub(super) const P_TARGET: u8 = 2;
pub(super) const P_KEY: u8 = 3;
pub(super) const P_QUERY: u8 = 4;
pub(super) const P_VERSION: u8 = 5;
pub(super) const P_EOL: u8 = 6;
pub(super) const P_LINE: u8 = 7;
pub(super) const P_NAME: u8 = 8;
pub(super) const P_BEFORE: u8 = 9;
pub(super) const P_VALUE: u8 = 10;
pub(super) const P_LENGTH: u8 = 11;
pub(super) const P_CODING: u8 = 12;
pub(super) const P_COOKIE: u8 = 13;
pub(super) const P_CRUMB: u8 = 14;
pub(super) const P_SKIP: u8 = 15;
pub(super) const P_STATUS: u8 = 16;
pub(super) const P_FRAGMENT: u8 = 17;
pub(super) const P_END: u8 = 18;
pub(super) const P_BAD: u8 = 19;
/// Only white space may follow.
pub(super) const P_TAIL: u8 = 20;

/// `Scan::what` beside the numbers of watched names.
pub(super) const W_NONE: u8 = 0;
pub(super) const W_LENGTH: u8 = 100;
pub(super) const W_CODING: u8 = 101;
pub(super) const W_COOKIE: u8 = 102;
/// It is to be looked up by the hash.
pub(super) const W_LOOKUP: u8 = 103;

/// No value ends.
pub(super) const NO_VALUE: u8 = 255;
