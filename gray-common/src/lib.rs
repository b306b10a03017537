//! The contract between the data path and the control half.
#![cfg_attr(not(any(test, feature = "user")), no_std)]
