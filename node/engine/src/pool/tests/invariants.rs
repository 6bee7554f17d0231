//! Any sequence of requests and releases, against books kept here in the plainest way.

use std::collections::BTreeMap;

use jobmesh_protocol::resource::{Demand, Policy, Quantity};
use proptest::prelude::*;

use super::super::Label;
use super::*;

const POLICIES: [Policy; 5] =
    [Policy::Compact, Policy::ForceCompact, Policy::Tight, Policy::ForceTight, Policy::Scatter];

/// One thing that happens to the pools.
#[derive(Clone, Debug)]
enum Event {
    /// This is allocated, if there is room.
    Allocate(Request),
    /// One of the allocations that are held is released: this one, counted around.
    Release(usize),
}

/// Groups of pool `x` by their sizes, with labels counted through.
fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1usize..5, 1..5)
}

fn any_request() -> impl Strategy<Value = Request> {
    // Quarters meet each other more often than any fraction does.
    let parts = prop_oneof![(1u64..40).prop_map(|quarters| quarters * 2500), 1u64..80_000];
    let quantity = prop_oneof![
        8 => parts.clone().prop_map(|parts| Quantity::Amount(Amount::from_parts(parts))),
        1 => Just(Quantity::All),
    ];
    (quantity, proptest::sample::select(&POLICIES), proptest::option::of(parts)).prop_map(|(quantity, policy, sum)| {
        let x = Demand { name: "x".parse().unwrap(), quantity, policy };
        let sum = sum.map(|parts| Quantity::Amount(Amount::from_parts(parts)));
        let y = sum.map(|quantity| Demand { name: "y".parse().unwrap(), quantity, policy });
        Request::new(std::iter::once(x).chain(y).collect()).unwrap()
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![3 => any_request().prop_map(Event::Allocate), 2 => any::<usize>().prop_map(Event::Release)]
}

/// What is in pool `x`, and what is taken of each index.
struct Books {
    group_of: BTreeMap<Label, usize>,
    sizes: Vec<usize>,
    taken: BTreeMap<Label, Amount>,
}

impl Books {
    fn new(sizes: &[usize]) -> Self {
        let groups = sizes.iter().enumerate().flat_map(|(group, size)| std::iter::repeat_n(group, *size));
        let group_of: BTreeMap<Label, usize> =
            (0u32..).zip(groups).map(|(number, group)| (Label::from(number), group)).collect();
        let taken = group_of.keys().map(|label| (label.clone(), Amount::ZERO)).collect();
        Self { group_of, sizes: sizes.to_vec(), taken }
    }

    fn kind(&self) -> PoolKind {
        let of = |group: usize| self.group_of.iter().filter(move |(_, of)| **of == group);
        let numbered = |group: usize| {
            let mut labels: Vec<Label> = of(group).map(|(label, _)| label.clone()).collect();
            labels.sort_by_key(|label| label.as_str().parse::<u32>().unwrap());
            labels
        };
        PoolKind::Indices { groups: (0..self.sizes.len()).map(numbered).collect() }
    }

    fn add(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let taken = self.taken.get_mut(&piece.label).unwrap();
            *taken = taken.plus(piece.amount);
            assert!(*taken <= Amount::ONE, "{} is given out more than once", piece.label);
        }
    }

    fn remove(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let taken = self.taken.get_mut(&piece.label).unwrap();
            *taken = Amount::from_parts(taken.parts().checked_sub(piece.amount.parts()).unwrap());
        }
    }

    fn free(&self) -> Amount {
        self.taken.values().fold(Amount::ZERO, |sum, taken| sum.plus(Amount::ONE.less(*taken)))
    }

    /// Whether `groups` together, one bit each, have room.
    fn has_room(&self, amount: Amount, groups: u32) -> bool {
        let taken = || self.taken.iter().filter(|(label, _)| groups >> self.group_of[*label] & 1 == 1);
        let untouched = taken().filter(|(_, taken)| taken.is_zero()).count() as u64;
        let fraction = amount.fraction();
        let shared = taken().any(|(_, taken)| !taken.is_zero() && fraction <= Amount::ONE.less(*taken));
        let extra = u64::from(!fraction.is_zero() && !shared);
        amount.floor() + extra <= untouched
    }

    /// The fewest groups that have room now: every choice is tried.
    fn fewest_now(&self, amount: Amount) -> Option<usize> {
        let choices = 0..1u32 << self.sizes.len();
        let fitting = choices.filter(|groups| self.has_room(amount, *groups));
        fitting.map(|groups| groups.count_ones() as usize).min()
    }

    /// From how many groups `amount` comes when nothing is taken: tried out, largest groups first.
    fn groups_when_idle(&self, amount: Amount) -> usize {
        let need = usize::try_from(amount.parts().div_ceil(Amount::ONE.parts())).unwrap();
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable();
        let mut sum = 0;
        let enough = sizes.iter().rev().take_while(|size| {
            let is_short = sum < need;
            sum += **size;
            is_short
        });
        enough.count()
    }
}

fn pieces(allocation: &Allocation) -> &[Piece] {
    let x = allocation.shares.iter().find(|share| share.pool.as_str() == "x").unwrap();
    match &x.taken {
        Taken::Indices(pieces) => pieces,
        Taken::Sum(_) => &[],
    }
}

/// What was given is what was demanded, in the way it was demanded.
fn check_given(books: &Books, request: &Request, allocation: &Allocation) {
    let x = request.demands().first().unwrap();
    let pieces = pieces(allocation);
    let (last, whole) = pieces.split_last().unwrap();
    assert!(whole.iter().all(|piece| piece.amount == Amount::ONE), "only the last index is given in part");
    let Quantity::Amount(amount) = x.quantity else {
        assert_eq!((pieces.len(), last.amount), (books.group_of.len(), Amount::ONE));
        return;
    };
    assert_eq!(allocation.amount(&x.name), amount);
    let mut groups: Vec<usize> = pieces.iter().map(|piece| books.group_of[&piece.label]).collect();
    groups.sort_unstable();
    groups.dedup();
    match x.policy {
        Policy::Compact | Policy::Tight => assert_eq!(Some(groups.len()), books.fewest_now(amount)),
        Policy::ForceCompact | Policy::ForceTight => {
            assert_eq!(Some(groups.len()), books.fewest_now(amount));
            assert!(groups.len() <= books.groups_when_idle(amount));
        }
        Policy::Scatter => assert!(books.fewest_now(amount).is_some_and(|fewest| fewest <= groups.len())),
    }
    let y = request.demands().get(1).map(|demand| (demand.quantity, allocation.amount(&demand.name)));
    assert!(y.is_none_or(|(wanted, given)| wanted == Quantity::Amount(given)));
}

/// Nothing is refused that could have been given.
fn check_refused(pools: &Pools, books: &Books, request: &Request) {
    let (Some(x), y) = (request.demands().first(), request.demands().get(1)) else { return };
    let y_fits = y.is_none_or(|demand| match demand.quantity {
        Quantity::Amount(amount) => amount <= pools.free().amount(&demand.name),
        Quantity::All => false,
    });
    let x_fits = match (x.quantity, x.policy) {
        (Quantity::All, _) => books.taken.values().all(|taken| taken.is_zero()),
        (Quantity::Amount(amount), Policy::Compact | Policy::Tight | Policy::Scatter) => {
            books.fewest_now(amount).is_some()
        }
        (Quantity::Amount(amount), Policy::ForceCompact | Policy::ForceTight) => {
            books.fewest_now(amount).is_some_and(|fewest| fewest <= books.groups_when_idle(amount))
        }
    };
    assert!(!(x_fits && y_fits), "{request} was refused although there was room");
}

fn play(sizes: &[usize], events: &[Event]) -> Vec<Option<Allocation>> {
    let mut books = Books::new(sizes);
    let y = PoolKind::Sum(Amount::whole(8));
    let kinds = BTreeMap::from([("x".parse().unwrap(), books.kind()), ("y".parse().unwrap(), y)]);
    let idle = Pools::new(kinds).unwrap();
    let mut pools = idle.clone();
    let mut held: Vec<Allocation> = Vec::new();
    let mut given = Vec::new();
    for event in events {
        match event {
            Event::Allocate(request) => {
                let before = pools.clone();
                let reasons = pools.why_not(request);
                let allocation = pools.allocate(request);
                assert_eq!(reasons.is_empty(), allocation.is_some(), "{request}: {reasons:?}");
                assert_eq!(idle.could_ever(request).is_ok(), idle.clone().allocate(request).is_some(), "{request}");
                if let Some(allocation) = &allocation {
                    check_given(&books, request, allocation);
                    books.add(pieces(allocation));
                    let mut undone = pools.clone();
                    undone.release(allocation);
                    assert_eq!(undone, before, "a release undoes what was allocated");
                    undone.claim(allocation).unwrap();
                    assert_eq!(undone, pools, "a claim takes what was allocated");
                    held.push(allocation.clone());
                } else {
                    assert_eq!(pools, before, "what is refused takes nothing");
                    check_refused(&pools, &books, request);
                }
                given.push(allocation);
            }
            Event::Release(_) if held.is_empty() => {}
            Event::Release(which) => {
                let allocation = held.swap_remove(which % held.len());
                pools.release(&allocation);
                books.remove(pieces(&allocation));
            }
        }
        assert_eq!(pools.free().amount(&"x".parse().unwrap()), books.free());
    }
    held.iter().for_each(|allocation| pools.release(allocation));
    assert_eq!(pools, idle, "everything is back");
    given
}

proptest! {
    #[test]
    fn the_books_balance(sizes in any_sizes(), events in proptest::collection::vec(any_event(), 0..40)) {
        let first = play(&sizes, &events);
        prop_assert_eq!(first, play(&sizes, &events), "the same requests are given the same");
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[a-z]{1,4}=[\\[\\]()a-z0-9,x\" -]{0,24}") {
        if let Ok((name, kind)) = PoolKind::parse_named(&text) {
            prop_assert_eq!(PoolKind::parse(&name, &kind.to_string()).unwrap(), kind);
        }
    }
}
