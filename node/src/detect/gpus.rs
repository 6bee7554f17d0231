//! Graphics processors that jobs can be given, by vendor.
//!
//! The vendor's own variable wins over what the machine has: it is how an owner, a batch system or a container
//! says which devices are for whom. Without it, devices are counted in the order of the bus.

use std::fs;
use std::path::Path;

use jobmesh_engine::pool::{INDICES_MAX, Label, PoolKind};

/// The id of AMD on the PCI bus.
const PCI_VENDOR_AMD: &str = "0x1002";

/// NVIDIA's devices: those of `CUDA_VISIBLE_DEVICES` if it is set, else those of the driver.
pub(super) fn nvidia(root: &Path, visible: Option<&str>) -> Option<PoolKind> {
    if let Some(visible) = visible {
        return listed(visible);
    }
    // One folder for each device, named after its place on the bus.
    counted(entries(&root.join("proc/driver/nvidia/gpus")).len())
}

/// AMD's devices: those of `ROCR_VISIBLE_DEVICES` if it is set, else those of its compute driver, else of the
/// graphics driver.
pub(super) fn amd(root: &Path, visible: Option<&str>) -> Option<PoolKind> {
    if let Some(visible) = visible {
        return listed(visible);
    }
    let topology = root.join("sys/class/kfd/kfd/topology/nodes");
    let nodes = entries(&topology);
    if !nodes.is_empty() {
        // Processors are nodes too, with 0 for an id.
        let is_device = |node: &&String| read(&topology.join(node).join("gpu_id")).is_some_and(|id| id != "0");
        return counted(nodes.iter().filter(is_device).count());
    }
    let drm = root.join("sys/class/drm");
    let is_card = |name: &str| {
        let number = name.strip_prefix("card");
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_amd = |name: &&String| read(&drm.join(name).join("device/vendor")).is_some_and(|id| id == PCI_VENDOR_AMD);
    counted(entries(&drm).iter().filter(|name| is_card(name)).filter(is_amd).count())
}

/// Reads a variable of visible devices: numbers or ids. As the vendors' libraries do, it stops at the first entry
/// that is neither, such as `-1`.
fn listed(visible: &str) -> Option<PoolKind> {
    let is_device = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number || text.starts_with("GPU-") || text.starts_with("MIG-")
    };
    let devices = visible.split(',').map(str::trim).map_while(|text| text.parse().ok().filter(|_| is_device(text)));
    let mut labels: Vec<Label> = Vec::new();
    for label in devices.take(INDICES_MAX) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    if labels.is_empty() { None } else { Some(PoolKind::Indices { groups: vec![labels] }) }
}

fn counted(count: usize) -> Option<PoolKind> {
    let count = u32::try_from(count.min(INDICES_MAX)).ok()?;
    if count == 0 { None } else { Some(PoolKind::numbered(count)) }
}

/// The names of what is in a folder; none if there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::tree;
    use super::*;

    fn shown(kind: Option<PoolKind>) -> String {
        kind.map_or_else(|| "none".to_owned(), |kind| kind.to_string())
    }

    #[test]
    fn devices_of_nvidia_are_those_of_the_driver() {
        let machine = tree(&[
            ("proc/driver/nvidia/gpus/0000:3b:00.0/information", "Model: X\n"),
            ("proc/driver/nvidia/gpus/0000:af:00.0/information", "Model: X\n"),
        ]);
        assert_eq!(shown(nvidia(machine.path(), None)), "[0,1]");
        assert_eq!(shown(amd(machine.path(), None)), "none");
        assert_eq!(shown(nvidia(tree(&[]).path(), None)), "none");
    }

    #[test]
    fn a_variable_says_which_devices_are_ours() {
        let machine = tree(&[("proc/driver/nvidia/gpus/0000:3b:00.0/information", "")]);
        let cases = [
            ("2,3", "[2,3]"),
            (" 1 , GPU-5f2c , MIG-GPU-5f2c/1/0", "[1,GPU-5f2c,MIG-GPU-5f2c/1/0]"),
            ("0,-1,1", "[0]"),
            ("0,0,1", "[0,1]"),
            ("", "none"),
            ("-1", "none"),
            ("NoDevFiles", "none"),
        ];
        for (visible, expected) in cases {
            assert_eq!(shown(nvidia(machine.path(), Some(visible))), expected, "{visible}");
            assert_eq!(shown(amd(machine.path(), Some(visible))), expected, "{visible}");
        }
    }

    #[test]
    fn devices_of_amd_are_those_of_the_compute_driver() {
        let machine = tree(&[
            ("sys/class/kfd/kfd/topology/nodes/0/gpu_id", "0\n"),
            ("sys/class/kfd/kfd/topology/nodes/1/gpu_id", "51234\n"),
            ("sys/class/kfd/kfd/topology/nodes/2/gpu_id", "4321\n"),
            ("sys/class/drm/card0/device/vendor", "0x1002\n"),
        ]);
        assert_eq!(shown(amd(machine.path(), None)), "[0,1]");
    }

    #[test]
    fn without_a_compute_driver_cards_are_counted() {
        let machine = tree(&[
            ("sys/class/drm/card0/device/vendor", "0x8086\n"),
            ("sys/class/drm/card1/device/vendor", "0x1002\n"),
            ("sys/class/drm/card1-HDMI-A-1/device/vendor", "0x1002\n"),
            ("sys/class/drm/renderD128/device/vendor", "0x1002\n"),
        ]);
        assert_eq!(shown(amd(machine.path(), None)), "[0]");
    }
}
