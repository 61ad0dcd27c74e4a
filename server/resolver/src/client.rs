//! What one client may have under way at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts per client and for all; a place is given back when its [`Place`] is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    per_client_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A place that a client has taken.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    client: IpAddr,
}

impl Places {
    pub(crate) fn new(max: usize, per_client_max: usize) -> Self {
        Self {
            taken: Arc::default(),
            max,
            per_client_max,
        }
    }

    /// A place for a client; none when it, or all together, have as many as they may.
    pub(crate) fn take(&self, client: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max {
            return None;
        }
        let of = taken.by_client.entry(client).or_insert(0);
        if *of >= self.per_client_max {
            return None;
        }
        *of += 1;
        taken.all += 1;
        Some(Place {
            places: self.clone(),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(of) = taken.by_client.get_mut(&self.client) {
            *of -= 1;
            if *of == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn one_client_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let (one, two) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let held = [places.take(one).unwrap(), places.take(one).unwrap()];
        assert!(places.take(one).is_none());
        let other = places.take(two).unwrap();
        assert!(places.take(two).is_none(), "all are taken");
        drop(held);
        assert!(places.take(one).is_some());
        drop(other);
    }
}
