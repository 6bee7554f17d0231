//! Four words that two people read to each other when a node joins.
//!
//! Both ends compute the words from the mesh and the two nodes, in whatever order, and show them.
//! The same words mean that both talk about the same join. They catch a mix-up between machines;
//! with 32 bits they don't stop somebody who makes keys until the words agree, which is why a join
//! rests on the secret of the invite and not on the words.

use crate::{MeshId, NodeId};

/// BLAKE3 context that separates the words from every other hash.
const CONTEXT: &str = "jobmesh join words v1";

/// Returns the four words for the pair of `a` and `b` in `mesh`; the order of the two is no matter.
#[must_use]
pub fn words(mesh: &MeshId, a: &NodeId, b: &NodeId) -> [&'static str; 4] {
    let (low, high) = (a.min(b), a.max(b));
    let material = [*mesh.as_bytes(), *low.as_bytes(), *high.as_bytes()].concat();
    let [first, second, third, fourth, ..] = blake3::derive_key(CONTEXT, &material);
    [first, second, third, fourth].map(|byte| WORDS[usize::from(byte)])
}

/// One word per byte: short, common, concrete, and hard to mistake for one another when spoken.
/// Changing one changes what both ends show, so it needs a new [`CONTEXT`].
#[rustfmt::skip]
const WORDS: [&str; 256] = [
    "acid", "acorn", "actor", "album", "alley", "amber", "angle", "ankle",
    "apple", "april", "apron", "arch", "arrow", "atlas", "attic", "autumn",
    "badge", "bagel", "baker", "banjo", "barn", "basil", "beach", "beard",
    "bench", "berry", "bike", "bird", "blade", "boat", "bone", "book",
    "boot", "bottle", "bowl", "brave", "bread", "brick", "bridge", "broom",
    "brush", "bucket", "butter", "button", "cabin", "cactus", "cake", "camel",
    "camp", "candle", "canoe", "carbon", "carpet", "carrot", "castle", "cedar",
    "chalk", "cherry", "chess", "circle", "circus", "clay", "cliff", "clock",
    "cloud", "clown", "coal", "cobra", "coffee", "comet", "copper", "coral",
    "cotton", "crab", "cradle", "crane", "crown", "cubic", "daisy", "dance",
    "desert", "diary", "dinner", "disco", "doctor", "dolphin", "donkey", "dragon",
    "drum", "duck", "eagle", "earth", "easel", "echo", "elbow", "elm",
    "ember", "engine", "envoy", "fable", "falcon", "farmer", "feather", "fence",
    "ferry", "fiddle", "finger", "flag", "flame", "flute", "forest", "fossil",
    "fox", "frost", "fruit", "galaxy", "garden", "garlic", "ghost", "giant",
    "ginger", "glove", "goat", "gold", "grape", "guitar", "hammer", "harbor",
    "hazel", "helmet", "hero", "honey", "horse", "hotel", "igloo", "iris",
    "island", "ivory", "jacket", "jaguar", "jelly", "jewel", "jungle", "kayak",
    "kettle", "kitten", "knight", "koala", "ladder", "lagoon", "lamp", "lemon",
    "lily", "lion", "lizard", "lobster", "lotus", "lunch", "magnet", "mango",
    "maple", "marble", "meadow", "melon", "mint", "mirror", "monkey", "moon",
    "mosaic", "moss", "museum", "napkin", "nectar", "needle", "nickel", "noodle",
    "oasis", "ocean", "olive", "onion", "opera", "orange", "orbit", "otter",
    "oven", "owl", "oyster", "paddle", "panda", "paper", "parrot", "peach",
    "pearl", "pebble", "pepper", "piano", "pilot", "pirate", "planet", "plum",
    "pocket", "poet", "potato", "puzzle", "pyramid", "quartz", "queen", "rabbit",
    "radio", "raven", "ribbon", "river", "robot", "rocket", "saddle", "salmon",
    "satin", "saturn", "school", "shadow", "shell", "silver", "sketch", "snow",
    "spider", "sponge", "spoon", "squid", "stable", "sugar", "summer", "sunset",
    "table", "tango", "temple", "tiger", "toast", "tomato", "tower", "tractor",
    "trumpet", "tulip", "tunnel", "turtle", "vase", "velvet", "violin", "wagon",
    "walnut", "whale", "window", "winter", "wizard", "yogurt", "zebra", "zipper",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_is_256_distinct_short_words() {
        let distinct: BTreeSet<&str> = WORDS.into_iter().collect();
        assert_eq!(distinct.len(), 256);
        assert!(WORDS.is_sorted(), "sorted, so that a double is easy to see");
        for word in WORDS {
            assert!((3..=8).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        }
    }

    #[test]
    fn both_ends_see_the_same_words() {
        let mesh = MeshId::from_bytes([1; 32]);
        let [a, b, c] = [2, 3, 4].map(|byte| NodeId::from_bytes([byte; 32]));
        assert_eq!(words(&mesh, &a, &b), words(&mesh, &b, &a));
        assert_ne!(words(&mesh, &a, &b), words(&mesh, &a, &c));
        assert_ne!(words(&mesh, &a, &b), words(&MeshId::from_bytes([9; 32]), &a, &b));
    }
}
