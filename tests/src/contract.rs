//! What the drivers of a network promise to whoever owns them, as a judgement over what was seen: the same for libp2p over
//! each transport and for the simulator's model of it.
//!
//! A *spell* is the time between the word that a peer is there and the word that it is gone. Promised is that frames come
//! in spells only, and that those of a spell are some that the peer sent one after the other: whole, in order, once,
//! without a hole. What is lost is lost at the ends of spells. A model may break promises, if it is told to, since whoever
//! gets along with that gets along with less; but it has to show every [`Weakness`] that reality has.

use std::collections::{BTreeMap, BTreeSet};

/// One thing that an owner did or was told, in the order in which it happened there. Nodes are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A node starts: whatever it knew is gone.
    Began {
        /// The node.
        at: usize,
    },
    /// A node is told that a peer is there.
    Opened {
        /// The node.
        at: usize,
        /// Its peer.
        peer: usize,
    },
    /// A node is told that a peer is gone.
    Closed {
        /// The node.
        at: usize,
        /// Its peer.
        peer: usize,
    },
    /// A node hands over a frame, and is not told that it can't be sent.
    Sent {
        /// The node.
        at: usize,
        /// For whom.
        to: usize,
        /// The frame.
        frame: Vec<u8>,
    },
    /// A node is given a frame.
    Heard {
        /// The node.
        at: usize,
        /// By whom it was sent.
        from: usize,
        /// The frame.
        frame: Vec<u8>,
    },
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// A frame came while its sender was not said to be there.
    Stray,
    /// A frame came that nobody sent.
    Unsent,
    /// Frames of a spell came twice, in another order than they were sent in, or again from an earlier spell.
    Repeated,
    /// Frames of a spell are missing between others.
    Hole,
    /// A peer is said to be gone that was not there.
    Phantom,
}

/// What is not promised, and happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// Frames are lost as a spell ends.
    LostAtTheEnd,
    /// One side is told that the other is gone, or was gone, while that one still takes it to be there.
    OneSided,
    /// A peer comes back.
    Returns,
}

impl Weakness {
    /// Every weakness of a real network that owners have to live with.
    pub const ALL: [Self; 3] = [Self::LostAtTheEnd, Self::OneSided, Self::Returns];
}

/// What was found in a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The broken promises, each with how often.
    pub breaches: BTreeMap<Breach, usize>,
    /// The weaknesses that showed.
    pub weaknesses: BTreeSet<Weakness>,
    /// How many frames were heard.
    pub heard: usize,
}

/// The frames of one direction.
#[derive(Debug, Default)]
struct Way<'s> {
    sent: Vec<&'s [u8]>,
    /// How many of them are behind what was heard.
    passed: usize,
    /// What was heard in this spell.
    spell: Vec<&'s [u8]>,
    is_open: bool,
    spells: usize,
}

/// Judges a record.
#[must_use]
pub fn judge(sights: &[Sight]) -> Judgement {
    let mut ways: BTreeMap<(usize, usize), Way<'_>> = BTreeMap::new();
    for sight in sights {
        if let Sight::Sent { at, to, frame } = sight {
            ways.entry((*at, *to)).or_default().sent.push(frame);
        }
    }
    let mut found = Judgement::default();
    for sight in sights {
        match sight {
            Sight::Sent { .. } => {}
            Sight::Began { at } => {
                for (_, way) in ways.iter_mut().filter(|((_, to), _)| to == at) {
                    way.close(&mut found);
                }
            }
            Sight::Opened { at, peer } => {
                let way = ways.entry((*peer, *at)).or_default();
                way.close(&mut found);
                (way.is_open, way.spells) = (true, way.spells + 1);
                found.weaknesses.extend((way.spells > 1).then_some(Weakness::Returns));
            }
            Sight::Closed { at, peer } => {
                if !ways.entry((*peer, *at)).or_default().close(&mut found) {
                    found.breach(Breach::Phantom);
                }
                let takes_it_to_be_there = ways.get(&(*at, *peer)).is_some_and(|way| way.is_open);
                found.weaknesses.extend(takes_it_to_be_there.then_some(Weakness::OneSided));
            }
            Sight::Heard { at, from, frame } => {
                found.heard += 1;
                let way = ways.entry((*from, *at)).or_default();
                way.spell.push(frame);
                if !way.is_open {
                    way.spell.clear();
                    found.breach(Breach::Stray);
                }
            }
        }
    }
    for way in ways.values_mut() {
        way.close(&mut found);
    }
    found
}

impl Judgement {
    fn breach(&mut self, breach: Breach) {
        *self.breaches.entry(breach).or_default() += 1;
    }
}

impl Way<'_> {
    /// Ends a spell and judges it. False if there was none.
    fn close(&mut self, found: &mut Judgement) -> bool {
        let was_open = std::mem::take(&mut self.is_open);
        let spell = std::mem::take(&mut self.spell);
        let (passed, sent) = (self.passed, &self.sent);
        let Some(last) = spell.len().checked_sub(1) else { return was_open };
        let is_there = |place: &usize| sent[*place..].starts_with(&spell);
        if let Some(place) = (passed..sent.len()).find(is_there) {
            self.passed = place + spell.len();
            found.weaknesses.extend((place > passed).then_some(Weakness::LostAtTheEnd));
            return was_open;
        }
        // Not one run of them: each frame by itself is behind the one before it, or breaks the order.
        for frame in &spell[..=last] {
            let ahead = sent[self.passed..].iter().position(|it| it == frame);
            match ahead {
                Some(0) => self.passed += 1,
                Some(skipped) => {
                    found.breach(Breach::Hole);
                    self.passed += skipped + 1;
                }
                None if sent.contains(frame) => found.breach(Breach::Repeated),
                None => found.breach(Breach::Unsent),
            }
        }
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: Sight = Sight::Opened { at: 1, peer: 0 };
    const CLOSED: Sight = Sight::Closed { at: 1, peer: 0 };

    fn heard(frame: u8) -> Sight {
        Sight::Heard { at: 1, from: 0, frame: vec![frame] }
    }

    /// What is found if node 0 sends 1 to 6 and node 1 sees this.
    fn breaches(seen: &[Sight]) -> Vec<Breach> {
        let sent = (1..=6).map(|frame| Sight::Sent { at: 0, to: 1, frame: vec![frame] });
        let all: Vec<Sight> = sent.chain(seen.iter().cloned()).collect();
        judge(&all).breaches.into_keys().collect()
    }

    #[test]
    fn what_is_lost_between_spells_is_no_breach() {
        assert_eq!(breaches(&[OPENED, heard(1), heard(2), CLOSED, OPENED, heard(5), heard(6), CLOSED]), []);
        assert_eq!(breaches(&[OPENED, heard(3), Sight::Began { at: 1 }, OPENED, CLOSED]), []);
        assert_eq!(breaches(&[]), []);
    }

    #[test]
    fn each_breach_is_named() {
        assert_eq!(breaches(&[OPENED, heard(1), heard(3)]), [Breach::Hole]);
        assert_eq!(breaches(&[OPENED, heard(1), heard(1)]), [Breach::Repeated]);
        assert_eq!(breaches(&[OPENED, heard(2), heard(1)]), [Breach::Repeated, Breach::Hole]);
        assert_eq!(breaches(&[OPENED, heard(2), CLOSED, OPENED, heard(1)]), [Breach::Repeated]);
        assert_eq!(breaches(&[OPENED, heard(9)]), [Breach::Unsent]);
        assert_eq!(breaches(&[heard(1)]), [Breach::Stray]);
        assert_eq!(breaches(&[CLOSED]), [Breach::Phantom]);
    }
}
