//! Which hash key a starting agent has. Every percentage hangs on it, so a new one is made only where nobody was ever dealt by another.

use gray_common::hash::HashKey as WireKey;

use super::core::wire_key;
use crate::{
    api::ApiError,
    compile::have::Have,
    store::{
        StateDir,
        key::{HashKey, KeyError},
    },
};

/// The node's key. One that the last agent staged and did not live to take is it if the kernel uses it; what no table
/// uses (a reboot), nobody was told to be in force. Where its file is gone, it is the one that the kernel's tables have.
/// `policy`: the store has a policy that was dealt by a key.
pub fn of_node(dir: &StateDir, have: &Have, policy: bool) -> anyhow::Result<HashKey> {
    let in_kernel = (have.epoch != 0).then_some(have.key).filter(|k| *k != WireKey::default());
    if let Some(staged) = HashKey::staged(dir) {
        let in_use = in_kernel == Some(wire_key(&staged));
        tracing::warn!(in_use, "the last agent died while it changed the hash key");
        if in_use {
            HashKey::take_staged(dir)?;
            return Ok(staged);
        }
    }
    HashKey::drop_staged(dir)?;
    let path = HashKey::path(dir);
    let kept = HashKey::load(dir).map_err(|e| match e {
        KeyError::Damaged { .. } => anyhow::Error::new(refused(e.to_string(), dir, in_kernel.is_some())),
        e => e.into(),
    })?;
    match (kept, in_kernel) {
        (Some(key), _) => Ok(key),
        (None, Some(k)) => {
            tracing::warn!(
                path = %path.display(),
                "the hash key's file was gone: written again, as the kernel's tables have it"
            );
            Ok(stored_key(k).create(dir)?)
        }
        (None, None) if policy => {
            let what = format!(
                "hash key {}: there is none, and the policy in force was dealt by one",
                path.display()
            );
            Err(refused(what, dir, false).into())
        }
        (None, None) => Ok(HashKey::random()?.create(dir)?),
    }
}

/// What is wrong, and the ways out. No agent runs that could import one.
fn refused(what: String, dir: &StateDir, in_kernel: bool) -> ApiError {
    let path = HashKey::path(dir);
    let path = path.display();
    let back = match in_kernel {
        true => format!(
            "remove the file, and the next start takes the key that the kernel still has; or put what `gray key export` printed into {path}"
        ),
        false => format!(
            "put what `gray key export` printed, on this node or another one of the fleet, into {path}"
        ),
    };
    ApiError::conflict(
        what,
        format!(
            "{back} (32 hex digits, mode 0600), and start again; if it is lost for good, make a new one on purpose, by which every percentage \
             picks other clients: (umask 077; openssl rand -hex 16 > {path})"
        ),
    )
}

/// As [`wire_key`] took it apart.
fn stored_key(k: WireKey) -> HashKey {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&k.k0.to_le_bytes());
    bytes[8..].copy_from_slice(&k.k1.to_le_bytes());
    HashKey::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff";

    fn dir() -> (tempfile::TempDir, StateDir) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(tmp.path()).unwrap();
        (tmp, dir)
    }

    fn kernel(epoch: u64, key: &HashKey) -> Have {
        Have { epoch, key: wire_key(key), ..Have::default() }
    }

    fn advice(e: &anyhow::Error) -> String {
        let e = e.downcast_ref::<ApiError>().unwrap();
        assert!(!e.error.contains('\n') && !e.help.contains('\n'), "{e:?}");
        format!("{} {}", e.error, e.help)
    }

    #[test]
    fn b2_a_fresh_node_makes_one_and_keeps_it() {
        let (_tmp, dir) = dir();
        let key = of_node(&dir, &Have::default(), false).unwrap();
        assert_eq!(of_node(&dir, &Have::default(), true).unwrap(), key);
        assert_eq!(
            of_node(&dir, &kernel(3, &HashKey::from_bytes([7; 16])), true).unwrap(),
            key,
            "the file says"
        );
    }

    #[test]
    fn b2_a_lost_key_is_the_one_that_the_kernel_has() {
        let (_tmp, dir) = dir();
        let key = HashKey::from_hex(HEX).unwrap();
        for policy in [true, false] {
            assert_eq!(of_node(&dir, &kernel(3, &key), policy).unwrap(), key);
            assert_eq!(fs::read_to_string(HashKey::path(&dir)).unwrap().trim(), HEX);
            let mode = fs::metadata(HashKey::path(&dir)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            fs::remove_file(HashKey::path(&dir)).unwrap();
        }
    }

    #[test]
    fn b2_a_lost_key_that_nobody_has_is_refused_until_somebody_says_which() {
        let (_tmp, dir) = dir();
        let path = HashKey::path(&dir);
        let key = HashKey::from_hex(HEX).unwrap();
        // After a reboot, tables are empty; an epoch without a key is none.
        for have in [Have::default(), kernel(0, &key), kernel(3, &HashKey::from_bytes([0; 16]))] {
            let said = advice(&of_node(&dir, &have, true).unwrap_err());
            for part in [
                &*path.to_string_lossy(),
                "there is none",
                "gray key export",
                "32 hex digits",
                "0600",
                "openssl rand -hex 16",
            ] {
                assert!(said.contains(part), "{part}: {said}");
            }
            assert!(!path.exists(), "nothing was made");
        }
        fs::write(&path, format!("{HEX}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(of_node(&dir, &Have::default(), true).unwrap(), key);
    }

    #[test]
    fn b2_an_empty_or_damaged_key_gives_the_same_advice() {
        let (_tmp, dir) = dir();
        let path = HashKey::path(&dir);
        let key = HashKey::from_hex(HEX).unwrap();
        for bad in ["", "00", "not a key"] {
            fs::write(&path, bad).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            for policy in [true, false] {
                let said = advice(&of_node(&dir, &Have::default(), policy).unwrap_err());
                assert!(said.contains("not 32 hex digits") && said.contains("gray key export"), "{said}");
            }
            let said = advice(&of_node(&dir, &kernel(3, &key), true).unwrap_err());
            assert!(said.contains("remove the file"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad, "nothing was replaced");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(of_node(&dir, &kernel(3, &key), true).unwrap(), key);
    }

    #[test]
    fn b2_a_staged_key_is_taken_only_where_the_kernel_uses_it() {
        let (_tmp, dir) = dir();
        let old = of_node(&dir, &Have::default(), false).unwrap();
        let new = HashKey::from_hex(HEX).unwrap();
        new.stage(&dir).unwrap();
        assert_eq!(of_node(&dir, &kernel(3, &old), true).unwrap(), old);
        assert_eq!(HashKey::staged(&dir), None);
        new.stage(&dir).unwrap();
        assert_eq!(of_node(&dir, &kernel(4, &new), true).unwrap(), new);
        // Also where the file of the one before it is gone.
        fs::remove_file(HashKey::path(&dir)).unwrap();
        new.stage(&dir).unwrap();
        assert_eq!(of_node(&dir, &kernel(4, &new), true).unwrap(), new);
    }
}
