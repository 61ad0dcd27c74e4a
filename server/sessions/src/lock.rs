//! Locks: names that one session at a time owns, the others in a queue (RFC 7047 4.1.8 to 4.1.10, ovsdb-server(7) 4.1.8).
//!
//! A lock is one queue of waiters, its head the owner. Transitions:
//! `lock` joins at the tail; `steal` goes to the head, and the robbed owner, where it came by `lock`, stays second; `unlock` leaves.

use std::collections::{HashMap, VecDeque};

use ecow::EcoString;
use nonnet_schema::ErrorKind;

use crate::peer::SessionId;

/// How a session asked for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Wait for it.
    Wait,
    /// Take it at once.
    Steal,
}

/// What a session is told without having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It owns the lock now.
    Locked(SessionId, EcoString),
    /// It lost the lock to a thief.
    Stolen(SessionId, EcoString),
}

/// All locks.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    queues: HashMap<EcoString, VecDeque<Waiter>>,
    /// Every request a session has made and not taken back, robbed ones included.
    requests: HashMap<SessionId, Vec<EcoString>>,
}

/// The locks that one session has to do with, each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocksOf {
    /// Those it owns.
    pub held: Vec<EcoString>,
    /// Those it waits for.
    pub waiting: Vec<EcoString>,
    /// Those that were stolen from it, and that it has not given back yet.
    pub lost: Vec<EcoString>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    session: SessionId,
    mode: Mode,
}

impl Locks {
    /// True where the session owns the lock.
    pub(crate) fn is_owner(&self, session: SessionId, name: &str) -> bool {
        self.queues
            .get(name)
            .and_then(VecDeque::front)
            .is_some_and(|owner| owner.session == session)
    }

    /// Number of requests that a session has made and not taken back.
    pub(crate) fn request_count(&self, session: SessionId) -> usize {
        self.requests.get(&session).map_or(0, Vec::len)
    }

    /// The locks that a session has to do with.
    pub(crate) fn of(&self, session: SessionId) -> LocksOf {
        let mut locks = LocksOf::default();
        for name in self.requests.get(&session).into_iter().flatten() {
            let queue = self.queues.get(name);
            let is_queued = queue.is_some_and(|queue| queue.iter().any(|waiter| waiter.session == session));
            let list = if self.is_owner(session, name) {
                &mut locks.held
            } else if is_queued {
                &mut locks.waiting
            } else {
                &mut locks.lost
            };
            list.push(name.clone());
        }
        locks.held.sort_unstable();
        locks.waiting.sort_unstable();
        locks.lost.sort_unstable();
        locks
    }

    /// Asks for a lock; gives whether it is owned now, and whom to tell what.
    pub(crate) fn acquire(
        &mut self,
        session: SessionId,
        name: &EcoString,
        mode: Mode,
    ) -> Result<(bool, Option<Notice>), ErrorKind> {
        let requests = self.requests.entry(session).or_default();
        if requests.contains(name) {
            let method = if mode == Mode::Steal { "steal" } else { "lock" };
            return Err(ErrorKind::LockHeld(method));
        }
        requests.push(name.clone());
        let queue = self.queues.entry(name.clone()).or_default();
        let waiter = Waiter { session, mode };
        if mode == Mode::Wait || queue.is_empty() {
            queue.push_back(waiter);
            return Ok((queue.len() == 1, None));
        }
        let robbed = queue.front().copied();
        if robbed.is_some_and(|owner| owner.mode == Mode::Steal) {
            queue.pop_front();
        }
        queue.push_front(waiter);
        Ok((true, robbed.map(|owner| Notice::Stolen(owner.session, name.clone()))))
    }

    /// Gives a lock back, or leaves its queue.
    pub(crate) fn release(&mut self, session: SessionId, name: &str) -> Result<Option<Notice>, ErrorKind> {
        let requests = self.requests.get_mut(&session);
        let Some((requests, at)) = requests.and_then(|requests| {
            let at = requests.iter().position(|request| request == name)?;
            Some((requests, at))
        }) else {
            return Err(ErrorKind::UnlockWithoutLock);
        };
        requests.swap_remove(at);
        Ok(self.leave(session, name))
    }

    /// Gives everything back that a session holds or waits for.
    pub(crate) fn release_all(&mut self, session: SessionId) -> Vec<Notice> {
        let names = self.requests.remove(&session).unwrap_or_default();
        names.iter().filter_map(|name| self.leave(session, name)).collect()
    }

    fn leave(&mut self, session: SessionId, name: &str) -> Option<Notice> {
        let queue = self.queues.get_mut(name)?;
        let was_owner = queue.front().is_some_and(|owner| owner.session == session);
        queue.retain(|waiter| waiter.session != session);
        let next = queue.front().copied();
        if queue.is_empty() {
            self.queues.remove(name);
        }
        next.filter(|_| was_owner)
            .map(|owner| Notice::Locked(owner.session, name.into()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const C: SessionId = SessionId(3);

    fn locked(session: SessionId) -> Notice {
        Notice::Locked(session, "l".into())
    }

    fn stolen(session: SessionId) -> Notice {
        Notice::Stolen(session, "l".into())
    }

    #[test]
    fn a_robbed_locker_regains_the_lock_before_those_who_wait() {
        let (mut locks, name) = (Locks::default(), EcoString::from("l"));
        assert_eq!(locks.acquire(A, &name, Mode::Wait).unwrap(), (true, None));
        assert_eq!(locks.acquire(B, &name, Mode::Wait).unwrap(), (false, None));
        assert_eq!(locks.acquire(C, &name, Mode::Steal).unwrap(), (true, Some(stolen(A))));
        assert_eq!(locks.release(C, &name).unwrap(), Some(locked(A)));
        assert_eq!(locks.release(A, &name).unwrap(), Some(locked(B)));
    }

    #[test]
    fn a_robbed_thief_is_out_of_the_queue_but_must_still_unlock() {
        let (mut locks, name) = (Locks::default(), EcoString::from("l"));
        locks.acquire(A, &name, Mode::Steal).unwrap();
        assert_eq!(locks.acquire(B, &name, Mode::Steal).unwrap(), (true, Some(stolen(A))));
        assert!(locks.acquire(A, &name, Mode::Wait).is_err());
        assert_eq!(
            (locks.of(A).lost, locks.of(B).held),
            (vec![name.clone()], vec![name.clone()])
        );
        assert_eq!(locks.release(B, &name).unwrap(), None);
        assert_eq!(locks.release(A, &name).unwrap(), None);
        assert_eq!(locks.acquire(A, &name, Mode::Wait).unwrap(), (true, None));
    }

    #[test]
    fn a_waiter_that_leaves_disturbs_nobody() {
        let (mut locks, name) = (Locks::default(), EcoString::from("l"));
        locks.acquire(A, &name, Mode::Wait).unwrap();
        locks.acquire(B, &name, Mode::Wait).unwrap();
        assert_eq!(locks.release_all(B), vec![]);
        assert!(locks.is_owner(A, "l"));
    }
}
