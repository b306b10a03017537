//! A pinned hash table, emptied and filled.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use gray_common::wire::Wire;

use crate::bpf;

const LOOKUP: i32 = 1;
const LOOKUP_AND_DELETE_BATCH: i32 = 25;
const UPDATE_BATCH: i32 = 26;
const BATCH: u32 = 16_384;
/// Room for any key and value of the data path's flow tables.
const ELEMENT: usize = 256;

/// `union bpf_attr`, the part for batches.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// ... and for one element.
#[repr(C)]
#[derive(Default)]
struct One {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

pub struct Table {
    map: MapData,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Table {
    /// # Panics
    /// When its elements are larger than a flow's.
    pub fn open(pin: &Path) -> Result<Self> {
        let map = MapData::from_pin(pin).with_context(|| pin.display().to_string())?;
        let info = map.info()?;
        assert!(info.key_size() as usize <= ELEMENT && info.value_size() as usize <= ELEMENT);
        Ok(Self { map, keys: vec![0; ELEMENT * BATCH as usize], values: vec![0; ELEMENT * BATCH as usize] })
    }

    /// # Panics
    /// When its keys and values are others.
    pub fn get<K: Wire, V: Wire>(&self, key: &K) -> Result<Option<V>> {
        let info = self.map.info()?;
        assert_eq!((info.key_size() as usize, info.value_size() as usize), (size_of::<K>(), size_of::<V>()));
        let mut value = std::mem::MaybeUninit::<V>::zeroed();
        let mut attr = One {
            map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
            key: std::ptr::from_ref(key) as u64,
            value: value.as_mut_ptr() as u64,
            ..One::default()
        };
        match bpf::bpf(LOOKUP, &mut attr) {
            // SAFETY: wire types are plain integers, which any bytes are.
            Ok(_) => Ok(Some(unsafe { value.assume_init() })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e).context("look up a flow"),
        }
    }

    /// Writes `count` entries.
    pub fn put(&self, keys: &[u8], values: &[u8], count: usize) -> Result<()> {
        let mut attr = Batch {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: count as u32,
            map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
            ..Batch::default()
        };
        bpf::bpf(UPDATE_BATCH, &mut attr).map(drop).context("fill a flow table")
    }

    /// Removes every entry.
    pub fn empty(&mut self) -> Result<()> {
        let (mut at, mut next) = (0_u32, 0_u32);
        let mut first = true;
        loop {
            let mut attr = Batch {
                in_batch: if first { 0 } else { &raw const at as u64 },
                out_batch: &raw mut next as u64,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
                count: BATCH,
                map_fd: self.map.fd().as_fd().as_raw_fd() as u32,
                ..Batch::default()
            };
            match bpf::bpf(LOOKUP_AND_DELETE_BATCH, &mut attr) {
                Ok(_) => (at, first) = (next, false),
                // The end of the table.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                Err(e) => return Err(e).context("empty a flow table"),
            }
        }
    }
}

/// As they stand in memory.
pub fn bytes<T: Wire>(all: &[T]) -> &[u8] {
    // SAFETY: wire types have no padding.
    unsafe { std::slice::from_raw_parts(all.as_ptr().cast(), size_of_val(all)) }
}
