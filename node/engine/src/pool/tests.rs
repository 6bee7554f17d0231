//! What is given to whom: the policies as HyperQueue documents them, and that the books always balance.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod invariants;

use std::collections::BTreeMap;

use jobmesh_protocol::cbor;
use jobmesh_protocol::resource::{Amount, Name, Request};

use super::{Allocation, Cause, ClaimError, Lack, Piece, PoolError, PoolKind, Pools, Share, Taken};

fn pools(texts: &[&str]) -> Pools {
    Pools::new(texts.iter().map(|text| PoolKind::parse_named(text).unwrap()).collect()).unwrap()
}

fn request(text: &str) -> Request {
    text.parse().unwrap()
}

fn allocate(pools: &mut Pools, text: &str) -> Option<Allocation> {
    pools.allocate(&request(text))
}

/// The labels that `text` is given, or a word for none.
fn given(pools: &mut Pools, text: &str) -> String {
    let Some(allocation) = allocate(pools, text) else { return "nothing".to_owned() };
    let variables = allocation.variables();
    let shown = |share: &Share| variables[&format!("JOBMESH_RESOURCE_{}", share.pool.variable())].clone();
    allocation.shares.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// Takes just these indices of pool `x`.
fn claim(pools: &mut Pools, labels: &[&str]) -> Allocation {
    let piece = |label: &&str| Piece { label: label.parse().unwrap(), amount: Amount::ONE };
    let taken = Taken::Indices(labels.iter().map(piece).collect());
    let allocation = Allocation { variant: 0, shares: vec![Share { pool: "x".parse().unwrap(), taken }] };
    pools.claim(&allocation).unwrap();
    allocation
}

/// The first cause why pool `x` can't give `text` now.
fn cause(pools: &Pools, text: &str) -> Option<Cause> {
    pools.why_not(&request(text)).first().map(|shortage| shortage.cause)
}

#[test]
fn each_policy_spreads_an_idle_pool_in_its_way() {
    for (policy, expected) in [
        ("compact", "0,1,2,4,5,6"),
        ("compact!", "0,1,2,4,5,6"),
        ("tight", "0,1,2,3,4,5"),
        ("tight!", "0,1,2,3,4,5"),
        ("scatter", "0,1,4,5,8,9"),
    ] {
        assert_eq!(given(&mut pools(&["x=3x4"]), &format!("x=6 {policy}")), expected, "{policy}");
    }
    assert_eq!(given(&mut pools(&["x=4x8"]), "x=8 scatter"), "0,1,8,9,16,17,24,25");
    assert_eq!(given(&mut pools(&["x=3x4"]), "x=4"), "0,1,2,3", "compact is what is meant when nothing is said");
}

#[test]
fn compact_takes_the_fewest_groups_of_the_moment() {
    let mut busy = pools(&["x=3x4"]);
    claim(&mut busy, &["0", "1", "4", "8", "9"]);
    // Two, three and two are free.
    assert_eq!(given(&mut busy.clone(), "x=3"), "5,6,7");
    assert_eq!(given(&mut busy.clone(), "x=2"), "2,3", "the smallest group that suffices");
    assert_eq!(given(&mut busy.clone(), "x=4"), "2,3,5,6", "two groups are needed and share evenly");
    assert_eq!(given(&mut busy.clone(), "x=4 tight"), "2,5,6,7", "the freest is used up first");
    assert_eq!(given(&mut busy.clone(), "x=3 scatter"), "2,5,10");
    assert_eq!(given(&mut busy, "x=7 scatter"), "2,3,5,6,7,10,11");
}

#[test]
fn a_forced_policy_waits_until_the_groups_of_an_idle_node_suffice() {
    let mut busy = pools(&["x=2x4"]);
    let held = claim(&mut busy, &["0", "4"]);
    for policy in ["compact!", "tight!"] {
        assert_eq!(given(&mut busy.clone(), &format!("x=4 {policy}")), "nothing");
        assert_eq!(cause(&busy, &format!("x=4 {policy}")), Some(Cause::Apart));
        assert_eq!(given(&mut busy.clone(), &format!("x=3 {policy}")), "1,2,3");
        assert_ne!(given(&mut busy.clone(), &format!("x=5 {policy}")), "nothing", "an idle node needs two groups too");
    }
    assert_ne!(given(&mut busy.clone(), "x=4"), "nothing");
    busy.release(&held);
    assert_eq!(given(&mut busy, "x=4 compact!"), "0,1,2,3");
}

#[test]
fn a_fraction_comes_from_one_index() {
    let mut gpus = pools(&["gpus/nvidia=[0,1]"]);
    assert_eq!(given(&mut gpus, "gpus/nvidia=0.75"), "0");
    assert_eq!(given(&mut gpus, "gpus/nvidia=0.75"), "1");
    assert_eq!(given(&mut gpus, "gpus/nvidia=0.5"), "nothing", "a half is free, but on no index");
    let shortage = gpus.why_not(&request("gpus/nvidia=0.5")).remove(0);
    assert_eq!((shortage.cause, shortage.free.to_string().as_str()), (Cause::InPieces, "0.5"));
    assert_eq!(given(&mut gpus, "gpus/nvidia=0.25"), "0", "the first of equals");
    assert_eq!(given(&mut gpus, "gpus/nvidia=0.2501"), "nothing");
}

#[test]
fn whole_units_are_whole_indices_and_the_shared_one_is_the_last() {
    let mut free = pools(&["x=[a,b,c,d]"]);
    let first = allocate(&mut free, "x=2.5").unwrap();
    let Taken::Indices(pieces) = &first.shares.first().unwrap().taken else { unreachable!("x has indices") };
    let shown: Vec<String> = pieces.iter().map(|piece| format!("{}:{}", piece.label, piece.amount)).collect();
    assert_eq!(shown, ["a:1", "b:1", "c:0.5"]);
    assert_eq!(given(&mut free.clone(), "x=1.5"), "d,c", "a shared index serves the fraction");
    assert_eq!(given(&mut free.clone(), "x=0.5"), "c");
    assert_eq!(given(&mut free, "x=0.6"), "d");
    assert_eq!(first.amount(&"x".parse().unwrap()).to_string(), "2.5");
}

#[test]
fn a_fraction_counts_when_groups_are_chosen() {
    let mut busy = pools(&["x=2x3"]);
    let (_, half) = (claim(&mut busy, &["0", "1"]), allocate(&mut busy, "x=0.5").unwrap());
    assert_eq!(half.variables()["JOBMESH_RESOURCE_X"], "2", "the group that has least left");
    // The shared index is in the first group, which has nothing else; the second has all three.
    assert_eq!(given(&mut busy.clone(), "x=1.5"), "3,4", "one group is better than the shared index");
    assert_eq!(given(&mut busy.clone(), "x=3.5"), "3,4,5,2");
    assert_eq!(given(&mut busy.clone(), "x=3.5 compact!"), "3,4,5,2", "an idle node needs two groups for it too");
    assert_eq!(given(&mut busy, "x=1.5 scatter"), "3,2");
}

#[test]
fn all_is_everything_and_only_of_what_is_untouched() {
    let mut node = pools(&["cpus=2x2", "mem=8G"]);
    let all = allocate(&mut node.clone(), "cpus=all,mem=all").unwrap();
    assert_eq!(all.variables()["JOBMESH_CPUS"], "0,1,2,3");
    assert_eq!(all.amount(&Name::MEM), Amount::whole(8 << 30));
    let part = allocate(&mut node, "cpus=0.1,mem=1").unwrap();
    assert_eq!(allocate(&mut node, "cpus=all"), None);
    assert_eq!(allocate(&mut node, "mem=all"), None);
    assert!(node.why_not(&request("cpus=all,mem=all")).iter().all(|shortage| shortage.cause == Cause::NotIdle));
    node.release(&part);
    assert_eq!(allocate(&mut node, "cpus=all,mem=all"), Some(all));
}

#[test]
fn a_sum_is_taken_from_in_any_parts() {
    let mut node = pools(&["tokens=sum(1)"]);
    let thirds = ["0.3333", "0.3333", "0.3334"];
    let taken: Vec<Allocation> =
        thirds.iter().map(|third| allocate(&mut node, &format!("tokens={third} scatter")).unwrap()).collect();
    assert_eq!(given(&mut node, "tokens=0.0001"), "nothing");
    taken.iter().for_each(|allocation| node.release(allocation));
    assert_eq!(node, pools(&["tokens=sum(1)"]));
}

#[test]
fn a_request_is_given_everything_or_nothing() {
    let mut node = pools(&["cpus=4", "gpus/amd=[0]", "mem=1G"]);
    let idle = node.clone();
    assert_eq!(allocate(&mut node, "cpus=4,gpus/amd=1,mem=2G"), None);
    assert_eq!(allocate(&mut node, "cpus=1,gpus/nvidia=1"), None);
    assert_eq!(node, idle);
    assert_eq!(allocate(&mut node, "none").unwrap().shares, []);
    assert_eq!(node, idle);
}

#[test]
fn the_first_variant_that_fits_is_taken() {
    let mut node = pools(&["cpus=4", "gpus/nvidia=[0]"]);
    let requests = "cpus=1,gpus/nvidia=1 | cpus=2".parse().unwrap();
    let mut variant = || node.allocate_any(&requests).map(|allocation| allocation.variant);
    assert_eq!([variant(), variant(), variant()], [Some(0), Some(1), None]);
    assert_eq!(node.allocate_any(&"cpus=3 | cpus=1".parse().unwrap()).unwrap().variables()["JOBMESH_CPUS"], "3");
}

#[test]
fn a_job_is_told_what_it_has() {
    let mut node = pools(&["cpus=2x2", "mem=8G", "gpus/nvidia=[0,GPU-5f]", "gpus/amd=[3]", "fpga.x-1=[a]"]);
    let taken = allocate(&mut node, "cpus=3 tight,mem=1K,gpus/nvidia=2,gpus/amd=0.5,fpga.x-1=1").unwrap();
    let expected = [
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        ("CUDA_VISIBLE_DEVICES", "0,GPU-5f"),
        ("JOBMESH_CPUS", "0,1,2"),
        ("JOBMESH_RESOURCE_CPUS", "0,1,2"),
        ("JOBMESH_RESOURCE_FPGA_X_1", "a"),
        ("JOBMESH_RESOURCE_GPUS_AMD", "3"),
        ("JOBMESH_RESOURCE_GPUS_NVIDIA", "0,GPU-5f"),
        ("JOBMESH_RESOURCE_MEM", "1024"),
        ("JOBMESH_RESOURCE_VARIANT", "0"),
        ("OMP_NUM_THREADS", "3"),
        ("ROCR_VISIBLE_DEVICES", "3"),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(taken.variables(), expected);
    let half = allocate(&mut node, "cpus=0.5").unwrap().variables();
    assert_eq!((half.get("JOBMESH_CPUS").map(String::as_str), half.get("OMP_NUM_THREADS")), (Some("3"), None));
}

#[test]
fn a_recorded_allocation_is_claimed_after_a_restart() {
    let texts = ["cpus=2x2", "mem=8G"];
    let mut before = pools(&texts);
    let held = allocate(&mut before, "cpus=2.5,mem=3G").unwrap();
    let recorded = cbor::encode(&held);
    let found: Allocation = cbor::decode(&recorded, 4096).unwrap();
    assert_eq!(found, held);

    let mut after = pools(&texts);
    after.claim(&found).unwrap();
    assert_eq!(after, before);
    after.release(&found);
    assert_eq!(after, pools(&texts));
}

#[test]
fn what_is_not_there_any_more_is_not_claimed() {
    let held = allocate(&mut pools(&["cpus=4", "x=[a,b]", "y=sum(2)"]), "cpus=1,x=1.5,y=2").unwrap();
    let refused = |texts: &[&str]| {
        let mut node = pools(texts);
        let error = node.claim(&held).unwrap_err();
        assert_eq!(node, pools(texts), "all or nothing");
        error
    };
    let (x, y): (Name, Name) = ("x".parse().unwrap(), "y".parse().unwrap());
    assert_eq!(refused(&["cpus=4", "x=[a,b]"]), ClaimError::NoPool { name: y.clone() });
    assert_eq!(
        refused(&["cpus=4", "x=[a,c]", "y=sum(2)"]),
        ClaimError::NoIndex { name: x.clone(), label: "b".parse().unwrap() }
    );
    assert_eq!(refused(&["cpus=4", "x=sum(2)", "y=sum(2)"]), ClaimError::OtherKind { name: x.clone() });
    let (wanted, free) = (Amount::whole(2), Amount::ONE);
    assert_eq!(refused(&["cpus=4", "x=[a,b]", "y=sum(1)"]), ClaimError::SumTaken { name: y, wanted, free });

    let mut node = pools(&["cpus=4", "x=[a,b]", "y=sum(9)"]);
    node.claim(&held).unwrap();
    let error = node.claim(&held).unwrap_err();
    assert_eq!(error.to_string(), "1 of the index 0 of cpus is claimed, but 0 of it is free");
    let label = "a".parse().unwrap();
    let twice = Piece { label, amount: Amount::ONE };
    let share = Share { pool: x.clone(), taken: Taken::Indices(vec![twice.clone(), twice]) };
    let error = pools(&["x=[a,b]"]).claim(&Allocation { variant: 0, shares: vec![share] }).unwrap_err();
    assert!(matches!(error, ClaimError::IndexTaken { name, .. } if name == x));
}

#[test]
fn what_a_node_can_never_give_is_told_from_what_it_can_later() {
    let mut node = pools(&["cpus=2x2", "mem=8G"]);
    let never = |text: &str| node.could_ever(&request(text)).unwrap_err().to_string();
    assert_eq!(node.could_ever(&request("gpus/nvidia=all")), Err(Lack::NoPool { name: Name::GPUS_NVIDIA }));
    assert_eq!(never("cpus=5"), "cpus=5 is wanted, but this node has 4 in all");
    assert_eq!(never("cpus=3.5,mem=9G"), "mem=9G is wanted, but this node has 8G in all");
    assert_eq!(never("cpus=4.0001"), "cpus=4.0001 is wanted, but this node has 4 in all");

    let _held = allocate(&mut node, "cpus=3,mem=7G").unwrap();
    let shown = |text: &str| -> Vec<String> { node.why_not(&request(text)).iter().map(ToString::to_string).collect() };
    assert_eq!(
        shown("cpus=2,mem=2G"),
        ["cpus=2 is wanted, and 1 of 4 is free", "mem=2G is wanted, and 1G of 8G is free"]
    );
    assert_eq!(
        shown("cpus=9,gpus/amd=1"),
        ["cpus=9 is wanted, and there is 4 in all", "gpus/amd=1 is wanted, and there is no gpus/amd here"]
    );
    assert_eq!(shown("cpus=1,mem=1G"), [""; 0]);
    assert_eq!(node.why_not(&request("cpus=2")).remove(0).missing(), Amount::ONE);
}

#[test]
fn sums_are_what_others_are_told() {
    let mut node = pools(&["cpus=2x2", "mem=8G"]);
    let total = node.total();
    let taken = allocate(&mut node, "cpus=1.5,mem=1G").unwrap();
    assert_eq!(node.free(), total.less(&total.taken_by(&request("cpus=1.5,mem=1G"))));
    assert!(node.free().fits(&request("cpus=2.5,mem=7G")));
    node.release(&taken);
    assert_eq!(node.free(), total);
}

#[test]
fn pools_that_can_not_be_told_apart_are_refused() {
    let made = |texts: &[&str]| Pools::new(texts.iter().map(|text| PoolKind::parse_named(text).unwrap()).collect());
    assert_eq!(made(&["a.b=[x]", "a_b=[x]"]), Err(PoolError::SameVariable { name: "a_b".parse().unwrap() }));
    let many: Vec<String> = (0..65).map(|number| format!("r{number}=[x]")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(made(&many), Err(PoolError::TooMany { count: 65 }));
    let empty = BTreeMap::from([(Name::CPUS, PoolKind::numbered(0))]);
    assert_eq!(Pools::new(empty), Err(PoolError::Empty { name: Name::CPUS }));
}
