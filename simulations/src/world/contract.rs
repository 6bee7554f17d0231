//! The model of the network against the promises of real drivers: see [`jobmesh_tests::contract`], whose other subjects
//! are TCP and QUIC in `node/mesh/tests`. The model may be worse than reality, never better.

use std::collections::BTreeSet;

use jobmesh_engine::Input;
use jobmesh_protocol::DurationMillis;
use jobmesh_tests::contract::{Breach, Judgement, Sight, Weakness, judge};

use super::World;
use crate::network::Seat;
use crate::{Draw, Plan};

/// What the nodes of a world do and are told, if a test wants to know.
#[derive(Debug, Default)]
pub(super) struct Tap(Option<Vec<Sight>>);

impl Tap {
    fn push(&mut self, sight: impl FnOnce() -> Sight) {
        if let Some(sights) = &mut self.0 {
            sights.push(sight());
        }
    }

    pub(super) fn began(&mut self, seat: Seat) {
        self.push(|| Sight::Began { at: seat.0 });
    }

    pub(super) fn sent(&mut self, from: Seat, to: Seat, bytes: &[u8]) {
        self.push(|| Sight::Sent { at: from.0, to: to.0, frame: bytes.to_vec() });
    }
}

impl World {
    /// Notes what a node is told by its network.
    pub(super) fn overheard(&mut self, seat: Seat, input: &Input) {
        let at = seat.0;
        let seat_of = |node| self.seats.get(node).map(|seat| seat.0);
        let sight = if let Input::Connected { node, .. } = input {
            seat_of(node).map(|peer| Sight::Opened { at, peer })
        } else if let Input::Disconnected(node) = input {
            seat_of(node).map(|peer| Sight::Closed { at, peer })
        } else if let Input::Frame { from, bytes } = input {
            seat_of(from).map(|from| Sight::Heard { at, from, frame: bytes.clone() })
        } else {
            None
        };
        if let Some(sight) = sight {
            self.tap.push(|| sight);
        }
    }
}

fn judged(plan: &Plan) -> Judgement {
    let mut world = World::new(plan);
    world.tap = Tap(Some(Vec::new()));
    // Whether the guarantees hold is looked at elsewhere.
    let _ = world.run();
    judge(&world.tap.0.unwrap_or_default())
}

fn plan(seed: u64) -> Plan {
    Draw { faulty: DurationMillis::from_secs(60), ..Draw::new(seed) }.plan()
}

#[test]
fn without_faults_the_model_keeps_every_promise() {
    for seed in 0..8 {
        let judgement = judged(&Plan { faults: Vec::new(), ..plan(seed) });
        assert!(judgement.heard > 100, "seed {seed}: {judgement:?}");
        assert!(judgement.breaches.is_empty(), "seed {seed}: {judgement:?}");
    }
}

#[test]
fn with_faults_the_model_is_as_bad_as_any_network() {
    let judgements: Vec<Judgement> = (0..24).map(|seed| judged(&plan(seed))).collect();
    let breaches: BTreeSet<Breach> =
        judgements.iter().flat_map(|judgement| judgement.breaches.keys().copied()).collect();
    let weaknesses: BTreeSet<Weakness> = judgements.iter().flat_map(|judgement| judgement.weaknesses.clone()).collect();
    assert!(breaches.is_superset(&[Breach::Hole, Breach::Repeated].into()), "{breaches:?}");
    assert_eq!(weaknesses, Weakness::ALL.into(), "what real networks do and the model never does");
    // It may say things late, twice or to the wrong life of a node, but it makes nothing up.
    assert!(!breaches.contains(&Breach::Unsent), "{breaches:?}");
}
