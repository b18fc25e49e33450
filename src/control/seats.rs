//! Who is connected. There are few seats, and whoever keeps the others waiting loses his: strangers before those whom
//! the process belongs to, then whoever has most of them, then the one who was waited for longest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Connections at once.
const SEATS: usize = 32;
/// Of these, so many are for root and the user of the process alone, who ask for work.
const RESERVED: usize = 8;

/// Who asks for a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) uid: Option<u32>,
    /// Root or the user of the process.
    pub(super) is_trusted: bool,
}

/// All seats; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    next: u64,
    by: HashMap<u64, Sitting>,
}

struct Sitting {
    guest: Guest,
    /// Since when it is for the guest to go on: with a request, or with the reading of a reply.
    waits_since: Option<Duration>,
    leave: CancellationToken,
}

impl Seats {
    /// A seat for `guest`, if need be that of another; `None` when all are at work for theirs.
    pub(super) fn take(&self, guest: Guest, now: Duration) -> Option<Seat> {
        let mut taken = self.taken();
        let strangers = taken.by.values().filter(|it| !it.guest.is_trusted).count();
        let is_full = taken.by.len() >= SEATS;
        let are_full = !guest.is_trusted && strangers >= SEATS - RESERVED;
        if is_full || are_full {
            let slowest = taken.slowest(guest.is_trusted)?;
            taken.dismiss(slowest);
        }
        let number = taken.next;
        taken.next += 1;
        let leave = CancellationToken::new();
        let sitting = Sitting {
            guest,
            waits_since: Some(now),
            leave: leave.clone(),
        };
        taken.by.insert(number, sitting);
        Some(Seat {
            seats: self.clone(),
            number,
            guest,
            leave,
        })
    }

    /// Whoever was waited for longest makes room, whoever it is.
    pub(super) fn make_room(&self) {
        let mut taken = self.taken();
        if let Some(slowest) = taken.slowest(true) {
            taken.dismiss(slowest);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn dismiss(&mut self, number: u64) {
        if let Some(sitting) = self.by.remove(&number) {
            sitting.leave.cancel();
        }
    }

    /// Who has to go first, also of the trusted only for one of these.
    fn slowest(&self, also_trusted: bool) -> Option<u64> {
        let mut seats_of: HashMap<Option<u32>, usize> = HashMap::new();
        for sitting in self.by.values() {
            *seats_of.entry(sitting.guest.uid).or_default() += 1;
        }
        let waited_for = self.by.iter().filter_map(|(number, sitting)| {
            let guest = sitting.guest;
            let since = sitting.waits_since?;
            (also_trusted || !guest.is_trusted).then(|| {
                let order = (
                    guest.is_trusted,
                    std::cmp::Reverse(seats_of[&guest.uid]),
                    since,
                );
                (order, *number)
            })
        });
        waited_for.min().map(|(_, number)| number)
    }
}

/// One seat; free when dropped.
pub(super) struct Seat {
    seats: Seats,
    number: u64,
    pub(super) guest: Guest,
    /// Somebody else needs the seat.
    pub(super) leave: CancellationToken,
}

impl Seat {
    /// It is for the guest to go on, since `now`.
    pub(super) fn waits(&self, now: Duration) {
        self.note(Some(now));
    }

    /// It is for us to go on.
    pub(super) fn works(&self) {
        self.note(None);
    }

    fn note(&self, waits_since: Option<Duration>) {
        if let Some(sitting) = self.seats.taken().by.get_mut(&self.number) {
            sitting.waits_since = waits_since;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Guest = Guest {
        uid: Some(0),
        is_trusted: true,
    };

    fn stranger(uid: u32) -> Guest {
        Guest {
            uid: Some(uid),
            is_trusted: false,
        }
    }

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn is_lost(seat: &Seat) -> bool {
        seat.leave.is_cancelled()
    }

    #[test]
    fn the_stranger_who_was_waited_for_longest_makes_room_for_another() {
        let seats = Seats::default();
        let sitting: Vec<Seat> = (0..SEATS - RESERVED)
            .map(|n| seats.take(stranger(7), second(n as u64)).unwrap())
            .collect();
        // The first has got what it asked for and is asked to go on; the second is being answered.
        sitting[0].waits(second(100));
        sitting[1].works();
        let _newcomer = seats.take(stranger(7), second(101)).unwrap();
        let lost: Vec<usize> = (0..sitting.len())
            .filter(|n| is_lost(&sitting[*n]))
            .collect();
        assert_eq!(lost, [2]);
    }

    #[test]
    fn whoever_has_one_seat_does_not_lose_it_to_one_who_has_many() {
        let seats = Seats::default();
        let modest = seats.take(stranger(1), second(0)).unwrap();
        let greedy: Vec<Seat> = (0..100)
            .filter_map(|n| seats.take(stranger(2), second(n)))
            .collect();
        assert!(!is_lost(&modest));
        assert_eq!(greedy.len(), 100);
        let kept = greedy.iter().filter(|seat| !is_lost(seat)).count();
        assert_eq!(kept, SEATS - RESERVED - 1);
    }

    #[test]
    fn strangers_keep_nobody_out_whom_the_process_belongs_to() {
        let seats = Seats::default();
        let strangers: Vec<Seat> = (0..100)
            .map_while(|n| {
                let seat = seats.take(stranger(n), second(0))?;
                seat.works();
                Some(seat)
            })
            .collect();
        assert_eq!(strangers.len(), SEATS - RESERVED);
        let roots: Vec<Seat> = (0..RESERVED as u64)
            .map(|n| seats.take(ROOT, second(n)).unwrap())
            .collect();
        // All are taken now, and root may only take its own.
        let _newest = seats.take(ROOT, second(100)).unwrap();
        assert!(is_lost(&roots[0]));
        assert!(!roots[1..].iter().any(is_lost));
        strangers[3].waits(second(101));
        let _one_more = seats.take(ROOT, second(102)).unwrap();
        assert!(is_lost(&strangers[3]));
        assert!(seats.take(stranger(200), second(103)).is_none());
    }

    #[test]
    fn a_seat_is_free_when_its_guest_has_gone() {
        let seats = Seats::default();
        for n in 0..1000 {
            let seat = seats.take(stranger(1), second(n)).unwrap();
            seat.works();
        }
        assert!(seats.taken().by.is_empty());
    }
}
