//! The order in which things come that wait for each other.

use std::collections::BTreeMap;

/// Puts the keys of `waits` into rounds: what a key waits for stands in an earlier round. What it waits for and is no
/// key itself is taken to be there. A key that waits for itself, through others or not, is in no round.
pub(super) fn rounds<K: Ord + Copy>(waits: &BTreeMap<K, Vec<K>>) -> Vec<Vec<K>> {
    let mut open: BTreeMap<K, usize> = BTreeMap::new();
    let mut followers: BTreeMap<K, Vec<K>> = BTreeMap::new();
    for (key, befores) in waits {
        let known = befores.iter().filter(|before| waits.contains_key(before));
        open.insert(*key, known.clone().count());
        for before in known {
            followers.entry(*before).or_default().push(*key);
        }
    }
    let mut rounds = Vec::new();
    let mut round: Vec<K> = open.iter().filter(|(_, count)| **count == 0).map(|(key, _)| *key).collect();
    while !round.is_empty() {
        let mut next = Vec::new();
        for follower in round.iter().filter_map(|key| followers.get(key)).flatten() {
            if let Some(count) = open.get_mut(follower) {
                *count -= 1;
                if *count == 0 {
                    next.push(*follower);
                }
            }
        }
        rounds.push(round);
        round = next;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_comes_later_and_circles_never_come() {
        let waits =
            [(1, vec![2, 9]), (2, vec![]), (3, vec![1, 2, 2]), (4, vec![5]), (5, vec![4]), (6, vec![4]), (7, vec![7])];
        assert_eq!(rounds(&BTreeMap::from(waits)), [vec![2], vec![1], vec![3]]);
    }

    #[test]
    fn a_long_chain_is_put_in_order_at_once() {
        let chain: BTreeMap<u32, Vec<u32>> = (0..50_000).map(|key| (key, vec![key + 1])).collect();
        assert_eq!(rounds(&chain).len(), 50_000);
    }
}
