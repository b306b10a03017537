//! How container managers name the cgroups of containers and pods: nobody is asked, the tree says it.
//!
//! | manager | container | pod |
//! |---|---|---|
//! | Docker | `docker-ID.scope`, `docker/ID` | |
//! | Podman | `libpod-ID.scope`, `libpod-ID` | |
//! | Kubernetes, systemd driver | `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope` | `kubepods-QOS-podUID.slice`, `-` in the uid as `_` |
//! | Kubernetes, cgroupfs driver | `podUID/ID`, `podUID/crio-ID` | `podUID` |
//!
//! ID is the whole id, 64 of 0-9 a-f. A container's monitor (`libpod-conmon-ID.scope`, `crio-conmon-ID.scope`) is not the container.

use std::path::Path;

use super::WorkloadError;

const MANAGERS: [&str; 4] = ["docker-", "libpod-", "cri-containerd-", "crio-"];
/// Of a whole id, and of what `docker ps` shows of it.
const WHOLE: usize = 64;
const SHORT: usize = 12;
/// `8-4-4-4-12`; of a static pod a hash of 32 digits without hyphens.
const UID: [usize; 5] = [8, 4, 4, 4, 12];
const STATIC_UID: usize = 32;

/// A container's id, or its beginning.
pub fn id(given: &str) -> Result<String, WorkloadError> {
    // As Kubernetes has it in a pod's status: containerd://ID
    let id = given.rsplit_once("://").map_or(given, |(_, id)| id).to_ascii_lowercase();
    let fits = (SHORT..=WHOLE).contains(&id.len()) && is_hex(&id);
    if fits { Ok(id) } else { Err(WorkloadError::ContainerId(given.chars().take(80).collect())) }
}

/// A pod's uid.
pub fn uid(given: &str) -> Result<String, WorkloadError> {
    let uid = given.to_ascii_lowercase();
    let parts: Vec<&str> = uid.split('-').collect();
    let lengths = parts.iter().map(|p| p.len());
    let fits = (lengths.clone().eq(UID) || lengths.eq([STATIC_UID])) && parts.iter().all(|p| is_hex(p));
    if fits { Ok(uid) } else { Err(WorkloadError::PodUid(given.chars().take(80).collect())) }
}

/// Whether a cgroup is the container's whose id begins so.
pub fn is_of(dir: &Path, id: &str) -> bool {
    let name_of = |p: &Path| p.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let name = name_of(dir);
    let bare = name.strip_suffix(".scope").unwrap_or(&name);
    let managed = MANAGERS.iter().find_map(|m| bare.strip_prefix(m));
    // Without a manager's name it is one below Docker's, or below a pod's.
    let below = || {
        let parent = dir.parent().map(name_of).unwrap_or_default();
        (parent == "docker" || pod_of(&parent).is_some()).then_some(&*name)
    };
    managed.or_else(below).is_some_and(|whole| whole.len() == WHOLE && is_hex(whole) && whole.starts_with(id))
}

/// Whether a cgroup is the pod's.
pub fn is_pod(dir: &Path, uid: &str) -> bool {
    dir.file_name().and_then(|n| n.to_str()).and_then(pod_of).is_some_and(|of| of == uid)
}

/// The uid in a pod's directory's name.
fn pod_of(name: &str) -> Option<String> {
    let uid_of = match name.strip_suffix(".slice") {
        Some(unit) if unit.starts_with("kubepods") => {
            unit.rsplit_once("-pod").map(|(_, of)| of.replace('_', "-"))
        }
        Some(_) => None,
        None => name.strip_prefix("pod").map(str::to_owned),
    }?;
    uid(&uid_of).ok()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e1c0a9b8d7e6f5a4b3c2d1e0f99887766554433221100aabbccddeeff0011";
    const POD: &str = "0b7d8c2e-5a41-4f0e-9c3b-1d2e3f4a5b6c";

    #[test]
    fn a7_containers_are_found_as_each_manager_names_them() {
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0b7d8c2e_5a41_4f0e_9c3b_1d2e3f4a5b6c.slice";
        let short = id(&ID[..12]).unwrap();
        for dir in [
            format!("system.slice/docker-{ID}.scope"),
            format!("docker/{ID}"),
            format!("machine.slice/libpod-{ID}.scope"),
            format!("libpod_parent/libpod-{ID}"),
            format!("{pod}/cri-containerd-{ID}.scope"),
            format!("{pod}/crio-{ID}.scope"),
            format!("kubepods/besteffort/pod{POD}/{ID}"),
        ] {
            assert!(is_of(Path::new(&dir), ID) && is_of(Path::new(&dir), &short), "{dir}");
        }
        for dir in [
            format!("machine.slice/libpod-conmon-{ID}.scope"),
            format!("{pod}/crio-conmon-{ID}.scope"),
            format!("machine.slice/libpod-{ID}.scope/container"),
            format!("system.slice/{ID}"),
            format!("docker/{}", &ID[..12]),
            format!("system.slice/docker-{}.scope", ID.replace('3', "4")),
            format!("docker-{ID}.scope/init"),
        ] {
            assert!(!is_of(Path::new(&dir), &short), "{dir}");
        }
    }

    #[test]
    fn a7_pods_are_found_by_their_uid() {
        let under = POD.replace('-', "_");
        for dir in [
            format!("kubepods.slice/kubepods-pod{under}.slice"),
            format!("kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice"),
            format!("kubepods/burstable/pod{POD}"),
        ] {
            assert!(is_pod(Path::new(&dir), POD), "{dir}");
        }
        for dir in [format!("user.slice/x-pod{under}.slice"), format!("kubepods/pod{POD}0"), "pod".into()] {
            assert!(!is_pod(Path::new(&dir), POD), "{dir}");
        }
        let fixed = "d41d8cd98f00b204e9800998ecf8427e";
        assert!(is_pod(
            Path::new(&format!("kubepods.slice/kubepods-pod{fixed}.slice")),
            &uid(fixed).unwrap()
        ));
    }

    #[test]
    fn ids_cannot_be_paths_or_names() {
        assert_eq!(id(&format!("containerd://{ID}")).unwrap(), ID);
        assert_eq!(id(&ID[..12].to_uppercase()).unwrap(), ID[..12]);
        for bad in ["", "shop", &ID[..11], &format!("{ID}0"), "../../../../x", "3f4e1c0a9b8g", "ü"] {
            assert!(id(bad).is_err(), "{bad}");
        }
        assert_eq!(uid(&POD.to_uppercase()).unwrap(), POD);
        for bad in ["", "web-0", &POD[1..], &format!("{POD}-0000"), "../x"] {
            assert!(uid(bad).is_err(), "{bad}");
        }
    }
}
