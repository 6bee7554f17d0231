//! From which groups indices are taken. Pure choices over the number of untouched indices in each group.
//!
//! "As few groups as possible" is found greedily: while no single group can give the rest, the largest is used up;
//! then the smallest that can give the rest does. Taking the largest first can't need more groups than another
//! choice, and the smallest that suffices leaves the large ones whole for others. Ties go to the first group.

use std::cmp::Reverse;

/// A group and how many of its indices are taken.
pub(super) type Count = (usize, usize);

/// A set of groups. There are at most [`super::GROUPS_MAX`], so a word holds it.
#[derive(Clone, Copy, Default)]
struct GroupSet(u64);

impl GroupSet {
    const fn contains(self, group: usize) -> bool {
        self.0 >> group & 1 == 1
    }

    const fn insert(&mut self, group: usize) {
        self.0 |= 1 << group;
    }
}

/// As few groups as can give `need` indices, in the order in which they are used up; `first` is among them if it
/// is given. `None` if all together can't.
pub(super) fn fewest(untouched: &[usize], need: usize, first: Option<usize>) -> Option<Vec<usize>> {
    let mut chosen = Vec::new();
    let mut set = GroupSet::default();
    let mut left = need;
    let mut next = first;
    loop {
        if let Some(group) = next {
            chosen.push(group);
            set.insert(group);
            left = left.saturating_sub(untouched.get(group).copied().unwrap_or(0));
        }
        if left == 0 {
            return Some(chosen);
        }
        let rest = || untouched.iter().copied().enumerate().filter(|(group, _)| !set.contains(*group));
        let enough = rest().filter(|(_, count)| *count >= left).min_by_key(|(_, count)| *count);
        let largest = || rest().filter(|(_, count)| *count > 0).max_by_key(|(group, count)| (*count, Reverse(*group)));
        next = Some(enough.or_else(largest)?.0);
    }
}

/// Every group that has something to give, those with the most first. `None` if all together can't give `need`.
pub(super) fn widest(untouched: &[usize], need: usize) -> Option<Vec<usize>> {
    if untouched.iter().sum::<usize>() < need {
        return None;
    }
    let mut groups: Vec<Count> = untouched.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    groups.sort_unstable_by_key(|(group, count)| (Reverse(*count), *group));
    Some(groups.into_iter().map(|(group, _)| group).collect())
}

/// Takes `need` indices from the groups in turn, one from each until they have no more.
pub(super) fn evenly(groups: &[usize], untouched: &[usize], need: usize) -> Vec<Count> {
    let mut counts: Vec<Count> = groups.iter().map(|group| (*group, 0)).collect();
    let mut left = need;
    while left > 0 {
        let before = left;
        for (group, count) in &mut counts {
            if left > 0 && *count < untouched.get(*group).copied().unwrap_or(0) {
                *count += 1;
                left -= 1;
            }
        }
        debug_assert!(left < before, "the groups were chosen to suffice");
        if left == before {
            break;
        }
    }
    counts
}

/// Takes `need` indices from the groups, each used up before the next.
pub(super) fn packed(groups: &[usize], untouched: &[usize], need: usize) -> Vec<Count> {
    let mut left = need;
    let mut take = |group: &usize| {
        let count = untouched.get(*group).copied().unwrap_or(0).min(left);
        left -= count;
        (*group, count)
    };
    groups.iter().map(&mut take).collect()
}

/// For each number of groups, how many indices the largest of them have together.
pub(super) fn largest_sums(sizes: &[usize]) -> Vec<usize> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable_by_key(|size| Reverse(*size));
    let mut sum = 0;
    let mut add = |size: usize| {
        sum += size;
        sum
    };
    sizes.into_iter().map(&mut add).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_groups_are_chosen_and_the_large_ones_left_whole() {
        assert_eq!(fewest(&[4, 2, 3], 2, None), Some(vec![1]), "the smallest that suffices");
        assert_eq!(fewest(&[4, 4, 4], 3, None), Some(vec![0]), "the first of equals");
        assert_eq!(fewest(&[1, 4, 2, 3], 6, None), Some(vec![1, 2]), "the largest, then what suffices for the rest");
        assert_eq!(fewest(&[1, 4, 2], 7, None), Some(vec![1, 2, 0]));
        assert_eq!(fewest(&[1, 4, 2], 8, None), None);
        assert_eq!(fewest(&[1, 4, 0], 0, Some(2)), Some(vec![2]));
        assert_eq!(fewest(&[1, 4, 0], 5, Some(2)), Some(vec![2, 1, 0]));
        assert_eq!(fewest(&[], 1, None), None);
    }

    #[test]
    fn the_most_groups_are_chosen_the_freest_first() {
        assert_eq!(widest(&[1, 4, 0, 4], 2), Some(vec![1, 3, 0]));
        assert_eq!(widest(&[1, 4], 6), None);
    }

    #[test]
    fn indices_are_shared_out() {
        assert_eq!(evenly(&[0, 1], &[4, 4], 6), [(0, 3), (1, 3)]);
        assert_eq!(evenly(&[1, 0], &[1, 4], 5), [(1, 4), (0, 1)]);
        assert_eq!(packed(&[0, 1], &[4, 4], 6), [(0, 4), (1, 2)]);
        assert_eq!(largest_sums(&[2, 4, 3]), [4, 7, 9]);
    }
}
