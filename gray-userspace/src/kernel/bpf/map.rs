//! Typed access to maps, one entry at a time or in batches.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use gray_common::wire::Wire;

use super::{Attr, call, cmd, info, raw};

/// The kernel's own "not supported", which libc does not name.
const ENOTSUPP: i32 = 524;

/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;

/// Entries per batch call: large enough to amortise the call, small enough to keep buffers cheap.
pub const BATCH: usize = 16_384;

/// Type, key size, value size and capacity of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub kind: u32,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
}

pub fn map_shape(map: BorrowedFd<'_>) -> io::Result<Shape> {
    // struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags.
    let i = info::<10>(map)?;
    Ok(Shape { kind: i[0] as u32, key: i[1] as u32, value: (i[1] >> 32) as u32, entries: i[2] as u32 })
}

/// A map whose keys are `K` and whose values are `V` (checked against the kernel's sizes when opened).
#[derive(Debug)]
pub struct Map<K, V> {
    fd: OwnedFd,
    shape: Shape,
    _types: std::marker::PhantomData<fn(K, V)>,
}

impl<K: Wire, V: Wire> Map<K, V> {
    /// Takes a map; refuses one of other sizes.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let shape = map_shape(std::os::fd::AsFd::as_fd(&fd))?;
        // Per-CPU maps answer one value a CPU, each rounded up to 8 bytes: they are read by `lookup_percpu` only.
        if shape.key as usize != size_of::<K>() || shape.value as usize != size_of::<V>() {
            return Err(io::Error::other(format!(
                "a map of key {} and value {} bytes where {} and {} belong",
                shape.key,
                shape.value,
                size_of::<K>(),
                size_of::<V>()
            )));
        }
        Ok(Self { fd, shape, _types: std::marker::PhantomData })
    }

    /// The same map by a descriptor of its own.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, shape: self.shape, _types: self._types })
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }

    fn element(&self, key: *const K, value: *const V) -> Attr {
        let mut a = Attr::default();
        a[0] = raw(self.fd());
        a[1] = key as u64;
        a[2] = value as u64;
        a
    }

    pub fn update(&self, key: &K, value: &V) -> io::Result<()> {
        call(cmd::UPDATE, &mut self.element(key, value)).map(drop)
    }

    /// False: there is one already, and it stays as it is. Batches know no such flag.
    pub fn add(&self, key: &K, value: &V) -> io::Result<bool> {
        let mut a = self.element(key, value);
        a[3] = NOEXIST;
        match call(cmd::UPDATE, &mut a) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            other => other.map(|_| true),
        }
    }

    pub fn lookup(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = std::mem::MaybeUninit::<V>::uninit();
        match call(cmd::LOOKUP, &mut self.element(key, value.as_mut_ptr())) {
            // SAFETY: the kernel wrote value_size bytes, which `new` checked to be the size of V; V is a wire type.
            Ok(_) => Ok(Some(unsafe { value.assume_init() })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// One value per possible CPU.
    pub fn lookup_percpu(&self, key: &K, cpus: usize) -> io::Result<Vec<V>> {
        let stride = size_of::<V>().next_multiple_of(8);
        let mut buffer = vec![0u64; stride / 8 * cpus];
        let mut a = self.element(key, std::ptr::null());
        a[2] = buffer.as_mut_ptr() as u64;
        let _ = call(cmd::LOOKUP, &mut a)?;
        Ok((0..cpus)
            .map(|c| {
                let at = buffer.as_ptr().wrapping_byte_add(c * stride).cast::<V>();
                // SAFETY: the buffer holds `cpus` values of `stride` bytes, 8-aligned; V is a wire type.
                unsafe { at.read_unaligned() }
            })
            .collect())
    }

    /// All bytes 0 on every possible CPU.
    pub fn clear_percpu(&self, key: &K, cpus: usize) -> io::Result<()> {
        let buffer = vec![0u64; size_of::<V>().div_ceil(8) * cpus];
        let mut a = self.element(key, std::ptr::null());
        a[2] = buffer.as_ptr() as u64;
        call(cmd::UPDATE, &mut a).map(drop)
    }

    pub fn delete(&self, key: &K) -> io::Result<()> {
        match call(cmd::DELETE, &mut self.element(key, std::ptr::null())) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes many entries in as few calls as possible; a great many on two CPUs. Stops at the first failure.
    pub fn update_all(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        assert_eq!(keys.len(), values.len());
        if keys.len() < 8 * BATCH {
            return self.update_in_turn(keys, values);
        }
        let half = keys.len() / 2;
        let (keys, values) = (keys.split_at(half), values.split_at(half));
        std::thread::scope(|s| {
            let other = s.spawn(|| self.update_in_turn(keys.1, values.1));
            let own = self.update_in_turn(keys.0, values.0);
            let other = other.join().unwrap_or_else(|_| Err(io::Error::other("a writer died")));
            own.and(other)
        })
    }

    fn update_in_turn(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        for (k, v) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
            let mut a = self.batch(k.as_ptr(), v.as_ptr(), k.len());
            match call(cmd::UPDATE_BATCH, &mut a) {
                Ok(_) => {}
                // Tries have no batches before Linux 5.18's generic ones: one by one then.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | ENOTSUPP)) => {
                    for (k, v) in k.iter().zip(v) {
                        self.update(k, v)?;
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Deletes many entries; absent ones are no fault.
    pub fn delete_all(&self, keys: &[K]) -> io::Result<()> {
        for k in keys.chunks(BATCH) {
            let mut a = self.batch(k.as_ptr(), std::ptr::null(), k.len());
            if call(cmd::DELETE_BATCH, &mut a).is_err() {
                for k in k {
                    self.delete(k)?;
                }
            }
        }
        Ok(())
    }

    fn batch(&self, keys: *const K, values: *const V, count: usize) -> Attr {
        // in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags
        let mut a = Attr::default();
        a[2] = keys as u64;
        a[3] = values as u64;
        a[4] = count as u64 | raw(self.fd()) << 32;
        a
    }

    /// Visits every entry of a hash table. Entries written meanwhile may be missed or seen; none is seen twice.
    pub fn for_each(&self, mut visit: impl FnMut(K, V)) -> io::Result<()> {
        let mut keys: Vec<std::mem::MaybeUninit<K>> = Vec::with_capacity(BATCH);
        let mut values: Vec<std::mem::MaybeUninit<V>> = Vec::with_capacity(BATCH);
        // SAFETY: MaybeUninit needs no initialisation.
        unsafe {
            keys.set_len(BATCH);
            values.set_len(BATCH);
        }
        // The position: opaque to us, at least as large as a key.
        let mut position = [0u64; 16];
        let mut started = false;
        loop {
            let mut a = self.batch(keys.as_ptr().cast(), values.as_ptr().cast(), BATCH);
            a[0] = if started { position.as_ptr() as u64 } else { 0 };
            a[1] = position.as_mut_ptr() as u64;
            let rc = call(cmd::LOOKUP_BATCH, &mut a);
            let done = match &rc {
                Ok(_) => false,
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
                Err(_) if !started => return self.for_each_slowly(visit),
                Err(_) => return rc.map(drop),
            };
            for i in 0..(a[4] as u32 as usize).min(BATCH) {
                // SAFETY: the kernel filled `count` keys and values.
                unsafe { visit(keys[i].assume_init(), values[i].assume_init()) };
            }
            if done {
                return Ok(());
            }
            started = true;
        }
    }

    /// So many values of an array, from one on; fewer at its end.
    pub fn read(&self, first: K, count: u32) -> io::Result<Vec<V>>
    where
        K: Into<u32>,
    {
        let first: u32 = first.into();
        let count = count.min(self.shape.entries.saturating_sub(first)) as usize;
        let keys = vec![0u32; count];
        let mut values = Vec::<V>::with_capacity(count);
        // A batch goes on after the key that it is given.
        let (before, mut after) = (first.wrapping_sub(1), 0u32);
        let mut a = self.batch(keys.as_ptr().cast(), values.as_mut_ptr().cast(), count);
        a[0] = if first == 0 { 0 } else { std::ptr::from_ref(&before) as u64 };
        a[1] = std::ptr::from_mut(&mut after) as u64;
        match call(cmd::LOOKUP_BATCH, &mut a) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(e),
            _ => {}
        }
        // SAFETY: the kernel filled `count` values.
        unsafe { values.set_len((a[4] as u32 as usize).min(count)) };
        Ok(values)
    }

    /// For maps without batches (tries): key by key.
    fn for_each_slowly(&self, mut visit: impl FnMut(K, V)) -> io::Result<()> {
        let mut at: Option<K> = None;
        loop {
            let mut next = std::mem::MaybeUninit::<K>::uninit();
            let mut a = Attr::default();
            a[0] = raw(self.fd());
            a[1] = at.as_ref().map_or(0, |k| std::ptr::from_ref(k) as u64);
            a[2] = next.as_mut_ptr() as u64;
            match call(cmd::NEXT_KEY, &mut a) {
                // SAFETY: the kernel wrote a key.
                Ok(_) => at = Some(unsafe { next.assume_init() }),
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                Err(e) => return Err(e),
            }
            if let Some(k) = at
                && let Some(v) = self.lookup(&k)?
            {
                visit(k, v);
            }
        }
    }
}
