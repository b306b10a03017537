//! Readings that cost: however many ask, they take a small part of the time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was read last counts for so many times what it took to read.
pub struct Rationed<T> {
    times: u32,
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Rationed<T> {
    pub const fn new(times: u32) -> Self {
        Self { times, last: Mutex::new(None) }
    }

    /// The last reading, or a new one. Whoever comes meanwhile waits for it.
    ///
    /// # Errors
    /// Those of `read`, which are not kept.
    pub fn get<E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some((until, value)) = &*last
            && begun < *until
        {
            return Ok(value.clone());
        }
        let value = read()?;
        let took: Duration = begun.elapsed();
        *last = Some((Instant::now() + took * self.times, value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering::SeqCst},
        thread,
    };

    use super::*;

    #[test]
    fn those_who_come_meanwhile_share_a_reading() {
        let (rationed, read) = (Rationed::new(1000), AtomicU32::new(0));
        let get = || {
            rationed.get(|| {
                thread::sleep(Duration::from_millis(20));
                Ok::<_, Infallible>(read.fetch_add(1, SeqCst))
            })
        };
        thread::scope(|s| {
            let all: Vec<_> = (0..8).map(|_| s.spawn(get)).collect();
            all.into_iter().for_each(|t| assert_eq!(t.join().unwrap(), Ok(0)));
        });
        assert_eq!(get(), Ok(0));
    }

    #[test]
    fn a_reading_is_over_after_its_time_and_an_error_at_once() {
        let rationed = Rationed::new(0);
        assert_eq!(rationed.get(|| Err::<u32, _>("no")), Err("no"));
        assert_eq!(rationed.get(|| Ok::<_, ()>(1)), Ok(1));
        assert_eq!(rationed.get(|| Ok::<_, ()>(2)), Ok(2));
    }
}
