//! Orders that wait for the responding thread. Those of rules and those of the server have room of their own, and
//! take turns: whoever can trigger a rule must not keep a person's order, a release above all, from this host.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use response::{Order, Receipt};
use uuid::Uuid;

/// Orders of rules that may wait.
pub(super) const MOST_OF_RULES: usize = 256;

/// Orders of the server that may wait: more than it has waiting for one host at any time (1,000).
pub(super) const MOST_OF_SERVER: usize = 1_024;

/// Orders of the server that let something go may wait beyond that.
pub(super) const MORE_RELEASES: usize = 64;

/// Who is told what became of an order.
pub(super) type Answer = Box<dyn FnOnce(Receipt) + Send>;

/// What is to be done next.
pub(super) enum Job {
    /// For a rule.
    OfRule(Order, Answer),
    /// For the server; who is told is asked for [afterwards](Orders::answer_of).
    OfServer(Order),
}

/// What became of an order of the server on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It waits.
    In,
    /// It is waiting or being done already: whoever asked last is told.
    Again,
    /// There is no room, and nobody is told. The server asks again on its next link.
    NoRoom,
}

#[derive(Default)]
struct Waiting {
    of_rules: VecDeque<(Order, Answer)>,
    of_server: VecDeque<Order>,
    /// For each order of the server that waits or is being done.
    answers: HashMap<Uuid, Answer>,
    is_rules_turn: bool,
}

#[derive(Default)]
pub(super) struct Orders(Mutex<Waiting>);

impl Orders {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an order of a rule in, or gives it back where there is no room.
    pub(super) fn take_in_of_rule(&self, order: Order, answer: Answer) -> Option<(Order, Answer)> {
        let mut waiting = self.lock();
        if waiting.of_rules.len() >= MOST_OF_RULES {
            return Some((order, answer));
        }
        waiting.of_rules.push_back((order, answer));
        None
    }

    /// Takes an order of the server in. They keep their order among themselves: a release must not overtake
    /// what it is to release.
    pub(super) fn take_in_of_server(&self, order: Order, answer: Answer) -> Taken {
        let mut waiting = self.lock();
        // The link on which it came first may be gone, and with it who was to be told.
        if let Some(told) = waiting.answers.get_mut(&order.id) {
            *told = answer;
            return Taken::Again;
        }
        let room = MOST_OF_SERVER + if order.action.is_release() { MORE_RELEASES } else { 0 };
        if waiting.of_server.len() >= room {
            return Taken::NoRoom;
        }
        waiting.answers.insert(order.id, answer);
        waiting.of_server.push_back(order);
        Taken::In
    }

    /// The next one: the server's and the rules' in turn.
    pub(super) fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        let is_rules_turn = waiting.of_server.is_empty() || waiting.is_rules_turn;
        if is_rules_turn && let Some((order, answer)) = waiting.of_rules.pop_front() {
            waiting.is_rules_turn = false;
            return Some(Job::OfRule(order, answer));
        }
        waiting.is_rules_turn = true;
        waiting.of_server.pop_front().map(Job::OfServer)
    }

    /// Who is told of an order of the server that is done.
    pub(super) fn answer_of(&self, id: Uuid) -> Option<Answer> {
        self.lock().answers.remove(&id)
    }

    /// All that rules asked for, for the case that nobody is there any more to do it.
    pub(super) fn give_up_of_rules(&self) -> VecDeque<(Order, Answer)> {
        std::mem::take(&mut self.lock().of_rules)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use event_model::Timestamp;
    use response::{Action, Consent, Origin};

    use super::*;

    /// Where it stands is all that counts here, not who asked.
    fn order(id: u128, action: Action) -> Order {
        let origin = Origin::Command { user: "eve".to_owned(), consent: Consent::default() };
        Order {
            id: Uuid::from_u128(id),
            action,
            origin,
            dry_run: false,
            expires_at: Timestamp::from_nanos(1),
        }
    }

    fn looks(id: u128) -> Order {
        order(id, Action::ListProcesses {})
    }

    fn nobody() -> Answer {
        Box::new(|_| {})
    }

    fn next(orders: &Orders) -> Option<u128> {
        let job = orders.next()?;
        Some(match job {
            Job::OfRule(order, _) | Job::OfServer(order) => order.id.as_u128(),
        })
    }

    #[test]
    fn rules_can_not_take_the_servers_room_nor_make_it_wait() {
        let orders = Orders::default();
        for id in 0..MOST_OF_RULES as u128 {
            assert!(orders.take_in_of_rule(looks(id), nobody()).is_none());
        }
        assert!(orders.take_in_of_rule(looks(1_000), nobody()).is_some(), "their room is full");
        assert_eq!(orders.take_in_of_server(looks(2_000), nobody()), Taken::In);
        assert_eq!(orders.take_in_of_server(order(2_001, Action::ReleaseHost {}), nobody()), Taken::In);
        let begin: Vec<u128> = (0..5).filter_map(|_| next(&orders)).collect();
        assert_eq!(begin, [2_000, 0, 2_001, 1, 2], "in turn, and the server's as they came");
    }

    #[test]
    fn the_servers_orders_have_a_bound_beyond_which_only_what_lets_go_fits() {
        let orders = Orders::default();
        for id in 0..MOST_OF_SERVER as u128 {
            assert_eq!(orders.take_in_of_server(looks(id), nobody()), Taken::In);
        }
        assert_eq!(orders.take_in_of_server(looks(9_999), nobody()), Taken::NoRoom);
        assert!(orders.answer_of(Uuid::from_u128(9_999)).is_none(), "nobody is told, the server asks again");
        for id in 0..MORE_RELEASES as u128 {
            let release = order(10_000 + id, Action::ReleaseHost {});
            assert_eq!(orders.take_in_of_server(release, nobody()), Taken::In);
        }
        assert_eq!(orders.take_in_of_server(order(20_000, Action::ReleaseHost {}), nobody()), Taken::NoRoom);
        // What waits is known also where there is no room for more.
        assert_eq!(orders.take_in_of_server(looks(7), nobody()), Taken::Again);
    }

    #[test]
    fn an_order_that_comes_again_waits_once_and_whoever_asked_last_is_told() {
        let orders = Orders::default();
        let told = Arc::new([AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)]);
        let asking = |link: usize| -> Answer {
            let told = Arc::clone(&told);
            Box::new(move |_| {
                told[link].fetch_add(1, Ordering::Relaxed);
            })
        };
        assert_eq!(orders.take_in_of_server(looks(1), asking(0)), Taken::In);
        assert_eq!(orders.take_in_of_server(looks(1), asking(1)), Taken::Again);
        assert_eq!(next(&orders), Some(1));
        assert_eq!(orders.take_in_of_server(looks(1), asking(2)), Taken::Again, "it is being done");
        assert_eq!(next(&orders), None);
        let answer = orders.answer_of(Uuid::from_u128(1)).unwrap();
        answer(crate::responding::refusal(&looks(1), String::new()));
        let told: Vec<u32> = told.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(told, [0, 0, 1]);
        assert!(orders.answer_of(Uuid::from_u128(1)).is_none());
        assert_eq!(
            orders.take_in_of_server(looks(1), asking(0)),
            Taken::In,
            "the journal knows it from here"
        );
    }
}
