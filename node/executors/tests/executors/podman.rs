//! Nodes whose containers are those of the tests' own engine.

use jobmesh_executors::{Containers, Groups};
pub(crate) use jobmesh_tests::podman::{IMAGE, Podman, podman};

use crate::harness::{Node, run_id};

/// What a node is told of an engine. Each has a name of its own.
pub(crate) fn containers(podman: &Podman) -> Containers {
    Containers { socket: Some(podman.socket()), node: format!("node-{}", run_id()), ..Containers::default() }
}

/// A node whose containers are an engine's.
pub(crate) fn node(containers: Containers) -> Node {
    let mut node = Node::start_among(4, Groups::Use, containers);
    node.network = false;
    node
}
